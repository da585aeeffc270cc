// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Command benchtable reads the output of go test -v -bench and prints the table of
// docs/benchmarks.md. It copies its input to standard error. It fails if a figure is missing or a
// test has failed; a missed goal is only marked.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out, progress io.Writer) error {
	measured, failure := read(io.TeeReader(in, progress))
	table, err := render(slices.Concat(figures(), figuresOfSecrets()), measured)
	if err != nil {
		return errors.Join(err, failure)
	}
	fmt.Fprint(out, table)
	return failure
}

// read collects the reports of benchmarks and tests. It reads to the end even after a failure.
func read(in io.Reader) (numbers, error) {
	measured := make(numbers)
	var failure error
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 0 && fields[0] == "FAIL" {
			failure = errors.New("a test or a benchmark has failed")
		}
		if err := measured.add(fields); err != nil {
			failure = fmt.Errorf("%w in %q", err, lines.Text())
		}
	}
	return measured, errors.Join(failure, lines.Err())
}

// render returns the Markdown table.
func render(rows []figure, measured numbers) (string, error) {
	var table strings.Builder
	table.WriteString("| figure | goal | measured |\n|---|---|---|\n")
	for _, row := range rows {
		cell, err := row.cell(measured)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", row.name, row.goal, cell)
	}
	return table.String(), nil
}

// numbers are measured values by the name of the benchmark or test and its unit or attribute:
// "BenchmarkRSA ns/op".
type numbers map[string]float64

// processors is the suffix that Go adds to a benchmark's name.
var processors = regexp.MustCompile(`-\d+$`)

// add takes the numbers in a line of go test's output; most lines have none.
//
//	BenchmarkRSA-2	500	1322000 ns/op	0.98 throughput/bare
//	=== ATTR  TestFigure late-percent 0.21
func (n numbers) add(fields []string) error {
	switch {
	case len(fields) == 5 && fields[1] == "ATTR":
		return n.set(fields[2], fields[3], fields[4])
	case len(fields) >= 4 && strings.HasPrefix(fields[0], "Benchmark"):
		name := processors.ReplaceAllString(fields[0], "")
		for i := 2; i+1 < len(fields); i += 2 {
			if err := n.set(name, fields[i+1], fields[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n numbers) set(who, what, value string) error {
	number, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return fmt.Errorf("the value of %s %s is not a number: %w", who, what, err)
	}
	n[who+" "+what] = number
	return nil
}
