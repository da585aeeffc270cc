// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const output = `=== RUN   TestFigureStart
=== ATTR  TestFigureStart reads 68
--- PASS: TestFigureStart (0.05s)
BenchmarkRSA-2   	     883	   2.64e+06 ns/op	         0.9871 throughput/bare	   22164 B/op
PASS
`

func sample() []figure {
	return []figure{
		{"signing", "≥ 0.90", []part{{"BenchmarkRSA throughput/bare", "%.2f", atLeast(0.90)}}},
		{"start", "≤ 60 reads", []part{{"TestFigureStart reads", "%.0f reads", atMost(60)}}},
	}
}

func TestBenchmarksAndAttributesBecomeATable(t *testing.T) {
	measured, err := read(strings.NewReader(output))
	require.NoError(t, err)
	table, err := render(sample(), measured)
	require.NoError(t, err)
	require.Equal(t, `| figure | goal | measured |
|---|---|---|
| signing | ≥ 0.90 | 0.99 |
| start | ≤ 60 reads | 68 reads **(missed)** |
`, table)
}

func TestAFigureThatIsMissingIsAnError(t *testing.T) {
	require.ErrorContains(t, run(strings.NewReader(output), io.Discard, io.Discard), `nothing has reported`)
}

func TestAFailureIsAnErrorAndTheRestIsReadAllTheSame(t *testing.T) {
	for _, line := range []string{"FAIL", "FAIL\tvault-plugin-secrets-ksef\t0.1s", "=== ATTR  TestFigureStart writes many"} {
		measured, err := read(strings.NewReader(line + "\n" + output))
		require.Error(t, err, line)
		require.Equal(t, 0.9871, measured["BenchmarkRSA throughput/bare"]) //nolint:testifylint // read, not computed
	}
}
