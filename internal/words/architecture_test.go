// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package words

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const architecture = root + "/docs/architecture.md"

// TestArchitecture holds what docs/architecture.md names against the code: paths, functions, tests
// with their parts, and the arrows between packages.
func TestArchitecture(t *testing.T) {
	document, err := os.ReadFile(architecture)
	require.NoError(t, err)
	code, err := readCode()
	require.NoError(t, err)
	missing := code.missing(string(document))
	require.Empty(t, missing, "%s names what does not exist:\n%s", architecture, strings.Join(missing, "\n"))
}

func TestArchitectureMissing(t *testing.T) {
	code, err := readCode()
	require.NoError(t, err)
	for name, test := range map[string]struct {
		text    string
		missing int
	}{
		"a file":                              {"`internal/words/words_test.go`", 0},
		"a file that does not exist":          {"`internal/words/nothing.go`", 1},
		"a folder":                            {"`internal/words`", 0},
		"a folder that does not exist":        {"`internal/nothing`", 1},
		"a pattern":                           {"`path_*.go`", 0},
		"a pattern of no file":                {"`nothing_*.go`", 1},
		"a link":                              {"[text](operations.md#storage)", 0},
		"a link to no file":                   {"[text](nothing.md)", 1},
		"a path of Vault":                     {"`config/rotate-root`", 0},
		"a function":                          {"`parseRules()`", 0},
		"a function that does not exist":      {"`parseNothing()`", 1},
		"a function of the file beside it":    {"`parseRules()` in `internal/words/words_test.go`", 0},
		"a function of another file":          {"`parseRules()` in `internal/words/doc.go`", 1},
		"a test":                              {"`TestRead`", 0},
		"a test that does not exist":          {"`TestNothing`", 1},
		"a test of another file":              {"`internal/words/words_test.go`: `TestBegin`", 1},
		"a part of a test":                    {"`TestRead/a local variable`, `TestCheck/a_word_in_prose`", 0},
		"a part that does not exist":          {"`TestRead/nothing_of_the_kind`", 1},
		"a row of a table names its own file": {"| `internal/words/doc.go` |\n| `parseRules()` |", 0},
		"an arrow":                            {"```mermaid\nroot --> a[internal/ledger]\n  a --> b[client]\n```", 0},
		"an arrow that goes up":               {"```mermaid\n  b[client] --> a[internal/ledger]\n```", 1},
	} {
		t.Run(name, func(t *testing.T) { require.Len(t, code.missing(test.text), test.missing) })
	}
}

// source is a Go file.
type source struct {
	functions, imports []string
	text               string
}

// code has the module's Go files by their paths.
type code map[string]source

const module = "vault-plugin-secrets-ksef"

func readCode() (code, error) {
	all := make(code)
	return all, walk(nil, func(path string) error {
		if filepath.Ext(path) != ".go" {
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		all[filepath.ToSlash(relative)], err = readSource(path)
		return err
	})
}

func readSource(path string) (source, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return source{}, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	read := source{text: string(text)}
	for _, declared := range file.Decls {
		if function, ok := declared.(*ast.FuncDecl); ok {
			read.functions = append(read.functions, function.Name.Name)
		}
	}
	for _, imported := range file.Imports {
		name, err := strconv.Unquote(imported.Path.Value)
		if err != nil {
			return source{}, err
		}
		read.imports = append(read.imports, name)
	}
	return read, nil
}

var (
	quoted   = regexp.MustCompile("`([^`]+)`")
	link     = regexp.MustCompile(`\]\(([^)#:]+)`)
	fileName = regexp.MustCompile(`^[\w./*-]+\.(go|md|yml|txtar|txt)$`)
	inFolder = regexp.MustCompile(`^(client|cmd|docs|e2e|internal|scripts|simulator|tools)(/[\w.*-]+)*/?$`)
	function = regexp.MustCompile(`^(\w+)\(\)$`)
	testName = regexp.MustCompile(`^(Test\w+)(?:/(.+))?$`)
	arrow    = regexp.MustCompile(`(\w+)(?:\[([^\]]+)\])? --> (\w+)(?:\[([^\]]+)\])?`)
)

// missing returns what the document names and the code does not have.
func (c code) missing(document string) []string {
	prose, drawing, _ := strings.Cut(document, "```mermaid")
	drawing, rest, _ := strings.Cut(drawing, "```")
	found := c.missingArrows(drawing)
	for _, found := range link.FindAllStringSubmatch(document, -1) {
		prose += "\n\n`docs/" + found[1] + "`"
	}
	for _, part := range parts(prose + "\n\n" + rest) {
		found = append(found, c.missingNames(part)...)
	}
	return found
}

// parts splits a document into its paragraphs and the rows of its tables.
func parts(document string) []string {
	var all []string
	for paragraph := range strings.SplitSeq(document, "\n\n") {
		if strings.HasPrefix(strings.TrimSpace(paragraph), "|") {
			all = append(all, strings.Split(paragraph, "\n")...)
			continue
		}
		all = append(all, paragraph)
	}
	return all
}

// missingNames checks the names of one part. Functions and tests are those of the Go files that it
// names, or of any file where it names none.
func (c code) missingNames(part string) (missing []string) {
	var names, files []string
	for _, found := range quoted.FindAllStringSubmatch(part, -1) {
		name := found[1]
		if !fileName.MatchString(name) && !inFolder.MatchString(name) {
			names = append(names, name)
			continue
		}
		if matches, err := filepath.Glob(filepath.Join(root, name)); err != nil || len(matches) == 0 {
			missing = append(missing, name)
		}
		if filepath.Ext(name) == ".go" {
			files = append(files, name)
		}
	}
	for _, name := range names {
		if !c.has(name, files) {
			missing = append(missing, fmt.Sprintf("%s %v", name, files))
		}
	}
	return missing
}

// has returns true for a name that is neither a function nor a test.
func (c code) has(name string, files []string) bool {
	if named := function.FindStringSubmatch(name); named != nil {
		return len(c.declaring(named[1], files)) > 0
	}
	named := testName.FindStringSubmatch(name)
	if named == nil {
		return true
	}
	declaring := c.declaring(named[1], files)
	if named[2] == "" {
		return len(declaring) > 0
	}
	return slices.ContainsFunc(declaring, func(path string) bool {
		return c.hasLiteral(filepath.Dir(path), named[2]) || c.hasLiteral(filepath.Dir(path), strings.ReplaceAll(named[2], "_", " "))
	})
}

// declaring returns the files, of those given, that declare a function.
func (c code) declaring(function string, files []string) []string {
	var found []string
	for path, source := range c {
		if (len(files) == 0 || slices.Contains(files, path)) && slices.Contains(source.functions, function) {
			found = append(found, path)
		}
	}
	return found
}

func (c code) hasLiteral(folder, text string) bool {
	for path, source := range c {
		if filepath.Dir(path) == folder && strings.HasSuffix(path, "_test.go") && strings.Contains(source.text, strconv.Quote(text)) {
			return true
		}
	}
	return false
}

// missingArrows returns the arrows between packages that do not import each other.
func (c code) missingArrows(drawing string) (missing []string) {
	folders := map[string]string{"root": "."}
	for _, found := range arrow.FindAllStringSubmatch(drawing, -1) {
		for id, label := range map[string]string{found[1]: found[2], found[3]: found[4]} {
			if label != "" {
				folders[id] = label
			}
		}
		from, to := folders[found[1]], folders[found[3]]
		if !c.imports(from, module+"/"+to) {
			missing = append(missing, from+" --> "+to)
		}
	}
	return missing
}

func (c code) imports(folder, imported string) bool {
	for path, source := range c {
		if filepath.Dir(path) == folder && !strings.HasSuffix(path, "_test.go") && slices.Contains(source.imports, imported) {
			return true
		}
	}
	return false
}
