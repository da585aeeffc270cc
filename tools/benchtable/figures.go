// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"strings"
)

// figure is a row of the table.
type figure struct {
	name, goal string
	parts      []part
}

// part is one number of a figure.
type part struct {
	key    string // in numbers
	format string // of the number, with what parts it from the one before
	within func(float64) bool
}

func atLeast(goal float64) func(float64) bool {
	return func(value float64) bool { return value >= goal }
}
func atMost(goal float64) func(float64) bool {
	return func(value float64) bool { return value <= goal }
}
func exactly(goal float64) func(float64) bool {
	return func(value float64) bool { return value == goal }
}

// toRead accepts a number without a goal.
func toRead(float64) bool { return true }

func (f figure) cell(measured numbers) (string, error) {
	var cell strings.Builder
	met := true
	for _, p := range f.parts {
		value, found := measured[p.key]
		if !found {
			return "", fmt.Errorf("%q was not measured: nothing has reported %q", f.name, p.key)
		}
		fmt.Fprintf(&cell, p.format, value)
		met = met && p.within(value)
	}
	if !met {
		cell.WriteString(" **(missed)**")
	}
	return cell.String(), nil
}

// figures are the rows, in the order of the table.
func figures() []figure {
	const (
		hundred = "TestFigureAHundredTokensAtOnceTakeAHundredAndTenRequests "
		limits  = "TestFigureAThousandRevocationsEndAsSoonAsKSeFsLimitsAllow "
		outage  = "TestFigureAThousandRevocationsEndSoonAfterAnOutageInTheirMiddle "
		lone    = "TestFigureALoneReadEndsSoonAfterTheActivation "
		start   = "TestFigureARestartReadsWhatIsDueAndNotWhatIsAlive "
	)
	return []figure{
		{
			"XAdES login document, RSA-2048", "≥ 0.90 of the throughput of a bare `rsa.SignPKCS1v15`",
			[]part{{"BenchmarkRSA throughput/bare", "%.2f", atLeast(0.90)}},
		}, {
			"the same, P-256", "≤ 150 µs more than a bare ECDSA signature, ≤ 300 allocations",
			[]part{
				{"BenchmarkECDSA µs-over-bare/op", "%.0f µs", atMost(150)},
				{"BenchmarkECDSA allocs/document", ", %.0f allocations", atMost(300)},
			},
		}, {
			"issuing through backend and simulator (no delay) against the bare client call", "≤ 1.5 ×",
			[]part{{"BenchmarkIssue time/bare", "%.2f ×", atMost(1.5)}},
		}, {
			"requests to KSeF for 100 tokens asked for at once, limits lifted, activation 2 s", "100 POST, ≤ 10 GET, 0 logins",
			[]part{
				{hundred + "POST", "%.0f POST", exactly(100)},
				{hundred + "GET", ", %.0f GET", atMost(10)},
				{hundred + "logins-and-others", ", %.0f logins", exactly(0)},
			},
		}, {
			"a read alone, one after another, activation 0.3 s to 5 s", "ends ≤ 0.5 s after the activation",
			[]part{
				{lone + "latest-seconds", "%.2f s", atMost(0.5)},
				{lone + "looks-per-read", ", %.1f GET each", toRead},
			},
		}, {
			"1,000 revocations at once under 10/s, 30/min, 120/h (virtual time)", "ends within 1 % of the earliest possible moment, zero 429",
			[]part{
				{limits + "late-percent", "%.2f %% later", atMost(1)},
				{limits + "429", ", %.0f × 429", exactly(0)},
			},
		}, {
			"the same with KSeF away for 2 h in the middle", "nothing lost, ends within 1 % + 5 min of the earliest possible",
			[]part{
				{outage + "lost", "%.0f lost", exactly(0)},
				{outage + "late-percent", ", %.2f %% later", toRead},
				{outage + "late-minutes-beyond-percent", ", %.1f min beyond 1 %%", atMost(5)},
			},
		}, {
			"issuing with 100,000 live records against an empty ledger", "≤ 1.1 ×",
			[]part{{"BenchmarkIssueBesideManyRecords time/empty", "%.2f ×", atMost(1.1)}},
		}, {
			"plugin process with 100,000 live records", "≤ 64 MiB resident above an empty one",
			[]part{
				{"BenchmarkResident MiB-over-empty", "%.0f MiB", atMost(64)},
				{"BenchmarkResident MiB-empty", " (an empty one has %.0f MiB)", toRead},
			},
		}, {
			"start-up with 100,000 live records against 1,000", "≤ 1.2 × storage reads",
			[]part{
				{start + "reads/reads", "%.2f ×", atMost(1.2)},
				{start + "reads-of-100000", " (%.0f reads", toRead},
				{start + "reads-of-1000", " against %.0f;", toRead},
				{start + "hour-of-100000", " %.0f", toRead},
				{start + "hour-of-1000", " against %.0f in the hour after)", toRead},
			},
		},
	}
}

// figuresOfSecrets are the rows of what costs KSeF nothing.
func figuresOfSecrets() []figure {
	const (
		reads    = "TestFigureReadsOfSecretsCostKSeFNothing "
		failover = "TestFigureAFailoverOf300TaxpayersTakesNoLogin "
		thousand = "TestFigureAThousandTaxpayersAreCheapToKeep "
		weeks    = "TestFigureTwoWeeksOfAnAccessToken "
		vault    = "BenchmarkReads "
	)
	return []figure{
		{
			"requests to KSeF for 10,000 reads of one access token, and of one static token", "0 after the first",
			[]part{{reads + "access", "%.0f", exactly(0)}, {reads + "static", ", %.0f", exactly(0)}},
		}, {
			"reads of an access token, real Vault, 8 connections, against a path that does nothing and has the same answer", "≥ 0.95 ×",
			[]part{
				{vault + "access/noop", "%.2f ×", atLeast(0.95)},
				{vault + "access/empty", " (%.2f × that of an empty answer)", toRead},
			},
		}, {
			"the same for a static token", "≥ 0.95 ×",
			[]part{
				{vault + "static/noop", "%.2f ×", atLeast(0.95)},
				{vault + "static/empty", " (%.2f × that of an empty answer)", toRead},
			},
		}, {
			"the same against KV v2 in that Vault", "only measured",
			[]part{{vault + "access/kv", "access token %.2f ×", toRead}, {vault + "static/kv", ", static token %.2f ×", toRead}},
		}, {
			"300 taxpayers read at once after a failover", "0 logins, ≤ 1 refresh each",
			[]part{{failover + "logins", "%.0f logins", exactly(0)}, {failover + "refreshes", ", %.0f refreshes", atMost(300)}},
		}, {
			"access tokens of 1,000 taxpayers: memory", "≤ 32 MiB above none",
			[]part{{thousand + "MiB", "%.0f MiB", atMost(32)}},
		}, {
			"the same: storage reads of a start", "linear in the taxpayers read within 24 h",
			[]part{{thousand + "reads-of-1000", "%.0f", toRead}, {thousand + "reads-of-100", " (%.0f for 100)", toRead}},
		}, {
			"an access token read each 5 minutes for two weeks (virtual time)", "≥ 60 s left at each read, ≤ 1 login each 7 days after the first",
			[]part{{weeks + "least-seconds", "%.0f s left at least", atLeast(60)}, {weeks + "logins", ", %.0f logins", atMost(3)}},
		},
	}
}
