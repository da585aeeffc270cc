// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

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
