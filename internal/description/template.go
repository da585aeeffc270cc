// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package description

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template/parse"
	"unicode/utf8"

	"vault-plugin-secrets-ksef/client"
)

// Bounds of a template and of its result, in bytes. The longest field of KSeF's that is filled in
// has 256 characters.
const (
	maxTemplate = 1 << 10
	maxFilled   = 4 << 10
)

// templateFunctions are the functions of Vault's own templates whose output is never much longer
// than their input.
func templateFunctions() map[string]any {
	return map[string]any{
		"truncate": truncate, "truncate_sha256": truncateSHA256,
		"lowercase": strings.ToLower, "uppercase": strings.ToUpper, "sha256": hexSHA256,
	}
}

func truncate(length int, value string) (string, error) {
	if length < 1 {
		return "", fmt.Errorf("truncate %d gives nothing", length)
	}
	kept, _ := cutAfter(length, value)
	return kept, nil
}

// cutAfter cuts a text after so many characters, never within one: KSeF takes no halves, and names
// have Polish letters.
func cutAfter(length int, value string) (kept, rest string) {
	for i := range value {
		if length == 0 {
			return value[:i], value[i:]
		}
		length--
	}
	return value, ""
}

// hashKept is how much of the hash replaces what truncate_sha256 cuts off.
const hashKept = 8

func truncateSHA256(length int, value string) (string, error) {
	if length <= hashKept {
		return "", fmt.Errorf("truncate_sha256 %d leaves no room for the hash of %d", length, hashKept)
	}
	if utf8.RuneCountInString(value) <= length {
		return value, nil
	}
	kept, rest := cutAfter(length-hashKept, value)
	return kept + hexSHA256(rest)[:hashKept], nil
}

func hexSHA256(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// Template is a template in Go's syntax that consists of text and values alone. It is only parsed,
// never executed: the right to write one is no right to run a program.
type Template struct {
	nodes []parse.Node
	err   error // why it cannot be filled in
}

// FillTemplate parses a template and fills it in. Anything but text and values, such as a loop or a
// definition, is a *client.InputError that says what is allowed.
func FillTemplate(field, text string, values map[string]string) (string, error) {
	return Parse(text).fill(field, values)
}

func (t *Template) fill(field string, values map[string]string) (string, error) {
	filled, err := t.join(values)
	if err != nil {
		return "", &client.InputError{
			Field: field, Fault: fmt.Sprintf("is not a template that can be filled in (%v)", err), Remedy: allowedIn(values),
		}
	}
	return filled, nil
}

func allowedIn(values map[string]string) string {
	names := slices.Sorted(maps.Keys(values))
	return fmt.Sprintf("use text and {{.%s}}, where wanted through truncate N, truncate_sha256 N, lowercase, uppercase or sha256, as in {{.%s | truncate 20}}",
		strings.Join(names, "}}, {{."), names[len(names)-1])
}

// Parse parses a template. What is wrong with it is an error of filling it in.
func Parse(text string) *Template {
	if len(text) > maxTemplate {
		return &Template{err: fmt.Errorf("it is longer than %d bytes", maxTemplate)}
	}
	const name = "template"
	main, trees := parse.New(name), make(map[string]*parse.Tree)
	if _, err := main.Parse(text, "", "", trees, templateFunctions()); err != nil {
		return &Template{err: errors.New("it is not in the syntax of templates, or names a function that is not allowed")}
	}
	if len(trees) != 1 || trees[name] != main {
		return &Template{err: errors.New("it defines a template")}
	}
	return &Template{nodes: main.Root.Nodes}
}

func (t *Template) join(values map[string]string) (string, error) {
	if t.err != nil {
		return "", t.err
	}
	var filled strings.Builder
	for _, node := range t.nodes {
		part, err := fillNode(node, values)
		if err != nil {
			return "", err
		}
		if filled.Len()+len(part) > maxFilled {
			return "", fmt.Errorf("it gives more than %d bytes", maxFilled)
		}
		filled.WriteString(part)
	}
	return filled.String(), nil
}

func fillNode(node parse.Node, values map[string]string) (string, error) {
	switch node := node.(type) {
	case *parse.TextNode:
		return string(node.Text), nil
	case *parse.ActionNode:
		return fillAction(node.Pipe, values)
	}
	return "", errors.New("it has an instruction besides values")
}

// fillAction passes a value through the functions that follow it.
func fillAction(pipe *parse.PipeNode, values map[string]string) (string, error) {
	if len(pipe.Decl) > 0 {
		return "", errors.New("it has a variable")
	}
	first := pipe.Cmds[0]
	value, err := valueOf(first.Args[len(first.Args)-1], values)
	if err != nil {
		return "", err
	}
	if calls := first.Args[:len(first.Args)-1]; len(calls) > 0 {
		if value, err = applyFunction(calls, value); err != nil {
			return "", err
		}
	}
	for _, command := range pipe.Cmds[1:] {
		if value, err = applyFunction(command.Args, value); err != nil {
			return "", err
		}
	}
	return value, nil
}

func valueOf(node parse.Node, values map[string]string) (string, error) {
	if field, is := node.(*parse.FieldNode); is && len(field.Ident) == 1 {
		if value, known := values[field.Ident[0]]; known {
			return value, nil
		}
	}
	return "", errors.New("it names what is no value")
}

// applyFunction calls a function with the arguments before its last, which is the value.
func applyFunction(args []parse.Node, value string) (string, error) {
	switch function := templateFunctions()[args[0].String()].(type) {
	case func(string) string:
		if len(args) == 1 {
			return function(value), nil
		}
	case func(int, string) (string, error):
		if len(args) == 2 {
			if number, is := args[1].(*parse.NumberNode); is && number.IsInt {
				return function(int(number.Int64), value)
			}
		}
	}
	return "", errors.New("it calls what is no function, or with other arguments than it takes")
}
