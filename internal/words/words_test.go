// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package words

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWords holds names, comments, string literals and documents against the list in words.txt.
func TestWords(t *testing.T) {
	rules, kept, err := parseRules(list)
	require.NoError(t, err)
	var found []string
	err = walk(unchecked, func(path string) error {
		pieces, err := read(path)
		found = append(found, check(pieces, rules, kept)...)
		return err
	})
	require.NoError(t, err)
	require.Empty(t, found, "%d private words; words.txt has the ones to use:\n%s",
		len(found), strings.Join(found, "\n"))
}

// walk visits the repository's files, except hidden folders and what has one of the names.
func walk(except []string, visit func(path string) error) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			hidden := path != root && strings.HasPrefix(entry.Name(), ".")
			if hidden || slices.Contains(except, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		case slices.Contains(except, entry.Name()):
			return nil
		}
		return visit(path)
	})
}

func TestCheck(t *testing.T) {
	rules, kept, err := parseRules(`
		# A comment.
		[everywhere]
		reconciler: pump, pumps
		[names]
		token request: order
		bucket: now and then
		[kept]
		pump/, old_order`)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		piece piece
		found int
	}{
		"a word in prose":                     {piece{text: "the pump works"}, 1},
		"a word at the end of a sentence":     {piece{text: "It pumps."}, 1},
		"a word in camel case":                {piece{text: "startPump", name: true}, 1},
		"a word between underscores":          {piece{text: "pump_queue"}, 1},
		"a word after an acronym":             {piece{text: "KSEFPump", name: true}, 1},
		"part of a longer word":               {piece{text: "pumpkin"}, 0},
		"several words":                       {piece{text: "folderNowAndThen", name: true}, 1},
		"a word for names in prose":           {piece{text: "in order of arrival"}, 0},
		"a word for names in a name":          {piece{text: "tokenOrder", name: true}, 1},
		"two words in one piece":              {piece{text: "pumpOrder", name: true}, 2},
		"a word that differs only in capital": {piece{text: "Pump"}, 1},
		"a word for names in a status field":  {piece{text: "token_order"}, 1},
		"a word for names as a plain string":  {piece{text: "order"}, 0},
		"a storage key that is kept":          {piece{text: "put pump/x"}, 0},
		"a field that is kept":                {piece{text: "old_order"}, 0},
		"a word beside a kept one":            {piece{text: "pump/x, the pump"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			require.Len(t, check([]piece{test.piece}, rules, kept), test.found)
		})
	}
}

func TestRead(t *testing.T) {
	for name, test := range map[string]struct {
		file, text string
		found      bool
	}{
		"a function":             {"a.go", "package a\nfunc pump() {}", true},
		"a local variable":       {"a.go", "package a\nfunc f() { pump := 1; _ = pump }", true},
		"a field":                {"a.go", "package a\ntype t struct { pump int }", true},
		"a parameter":            {"a.go", "package a\nfunc f(pump int) {}", true},
		"a comment":              {"a.go", "package a\n// The pump.\nvar b int", true},
		"a string":               {"a.go", "package a\nvar b = `the pump`", true},
		"a tag":                  {"a.go", "package a\ntype t struct { b int `json:\"pump\"` }", false},
		"another package's name": {"a.go", "package a\nvar b = other.Pump", false},
		"an import":              {"a.go", "package a\nimport _ \"example.com/pump\"", false},
		"a document":             {"a.md", "The pump.", true},
		"a script, which quotes": {"a.txtar", "stdout pump", false},
		"a file name":            {"pump.go", "package a", true},
		"other files":            {"a.sum", "pump", false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), test.file)
			require.NoError(t, os.WriteFile(path, []byte(test.text), 0o600))
			pieces, err := read(path)
			require.NoError(t, err)
			rules := []rule{{word: "pump"}}
			require.Equal(t, test.found, len(check(pieces, rules, nil)) == 1)
		})
	}
}

const root = "../.."

//go:embed words.txt
var list string

// The list itself is no finding, the changelog has the former names, and built files are not this
// repository's.
var unchecked = []string{"words", "CHANGELOG.md", "bin"}

type rule struct {
	word, instead string
	namesOnly     bool
}

func parseRules(list string) (rules []rule, kept []string, err error) {
	var section string
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		if section == "[kept]" {
			kept = append(kept, strings.Split(line, ", ")...)
			continue
		}
		instead, words, found := strings.Cut(line, ":")
		if !found || section != "[everywhere]" && section != "[names]" {
			return nil, nil, fmt.Errorf("not a line of words.txt: %q in section %q", line, section)
		}
		for word := range strings.SplitSeq(words, ",") {
			rules = append(rules, rule{strings.TrimSpace(word), instead, section == "[names]"})
		}
	}
	return rules, kept, nil
}

// piece is a text with its place.
type piece struct {
	place, text string
	name        bool
}

func check(pieces []piece, rules []rule, kept []string) []string {
	var found []string
	for _, piece := range pieces {
		text := piece.text
		for _, one := range kept {
			text = strings.ReplaceAll(text, one, "")
		}
		words := split(text)
		isName := piece.name || snakeCase.MatchString(piece.text)
		for _, rule := range rules {
			if (isName || !rule.namesOnly) && strings.Contains(words, " "+rule.word+" ") {
				found = append(found, fmt.Sprintf("%s: %q in %q, use %q",
					piece.place, rule.word, excerpt(piece.text), rule.instead))
			}
		}
	}
	return found
}

var (
	lowerUpper = regexp.MustCompile(`([\p{Ll}\d])(\p{Lu})`)
	acronym    = regexp.MustCompile(`(\p{Lu})(\p{Lu}\p{Ll})`)
	snakeCase  = regexp.MustCompile(`^[a-z\d]+(_[a-z\d]+)+$`)
	noLetters  = regexp.MustCompile(`[^\p{L}\d]+`)
)

// split writes a text as lower-case words with one space around each.
func split(text string) string {
	text = acronym.ReplaceAllString(lowerUpper.ReplaceAllString(text, "$1 $2"), "$1 $2")
	return " " + strings.ToLower(noLetters.ReplaceAllString(text, " ")) + " "
}

func excerpt(text string) string {
	if runes := []rune(text); len(runes) > 100 {
		return string(runes[:100]) + "..."
	}
	return text
}

func read(path string) ([]piece, error) {
	name := piece{place: path, text: filepath.Base(path), name: true}
	switch filepath.Ext(path) {
	case ".go":
		pieces, err := readGo(path)
		return append(pieces, name), err
	case ".md":
		content, err := os.ReadFile(path)
		pieces := []piece{name}
		number := 0
		for line := range strings.Lines(string(content)) {
			number++
			place := fmt.Sprintf("%s:%d", path, number)
			pieces = append(pieces, piece{place: place, text: strings.TrimSpace(line)})
		}
		return pieces, err
	default:
		return nil, nil
	}
}

func readGo(path string) ([]piece, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var pieces []piece
	add := func(at token.Pos, text string, name bool) {
		pieces = append(pieces, piece{fmt.Sprintf("%s:%d", path, files.Position(at).Line), text, name})
	}
	for _, group := range file.Comments {
		for _, comment := range group.List {
			add(comment.Pos(), comment.Text, false)
		}
	}
	addNames := func(names ...*ast.Ident) {
		for _, name := range names {
			add(name.Pos(), name.Name, true)
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.File:
			addNames(node.Name)
		case *ast.ImportSpec:
			return false
		case *ast.FuncDecl:
			addNames(node.Name)
		case *ast.TypeSpec:
			addNames(node.Name)
		case *ast.ValueSpec:
			addNames(node.Names...)
		case *ast.Field:
			addNames(node.Names...)
			node.Tag = nil
		case *ast.AssignStmt:
			for _, left := range node.Lhs {
				if name, ok := left.(*ast.Ident); ok && node.Tok == token.DEFINE {
					addNames(name)
				}
			}
		case *ast.RangeStmt:
			for _, variable := range []ast.Expr{node.Key, node.Value} {
				if name, ok := variable.(*ast.Ident); ok {
					addNames(name)
				}
			}
		case *ast.BasicLit:
			if node.Kind == token.STRING {
				text, err := strconv.Unquote(node.Value)
				if err != nil {
					text = node.Value
				}
				add(node.Pos(), text, false)
			}
		}
		return true
	})
	return pieces, nil
}
