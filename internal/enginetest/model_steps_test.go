// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"pgregory.net/rapid"
)

// scenario is one run of the model: the options of KSeF and the steps.
type scenario struct {
	KSeF  simulator.Options
	Steps []step
}

// step is an action and the time after it. Which of the fields in between count depends on the
// action.
type step struct {
	Do    action
	Pick  int           // a mount or a lease, counted round
	Count int           // of tokens, requests or points
	For   time.Duration // how long it holds, or is to hold
	Where string        // an endpoint, a role, a kind of write
	How   string        // what goes wrong
	Then  time.Duration
}

// GoString makes a failure readable.
func (c step) GoString() string {
	text := fmt.Sprintf("{Do: %q, Pick: %d, Count: %d, Where: %q, How: %q", c.Do, c.Pick, c.Count, c.Where, c.How)
	return text + fmt.Sprintf(", For: %d /* %s */, Then: %d /* %s */}\n", c.For, c.For, c.Then, c.Then)
}

// action is what users, operators, KSeF and storage do.
type action string

const (
	anIssue         action = "issue"   // Count tokens at once under the role Where
	aLeaving        action = "leave"   // the same, and no caller waits for the answer longer than For
	aRenewal        action = "renew"   // of a lease
	anEnd           action = "end"     // of a lease, by an operator
	aDeletion       action = "delete"  // of a lease's token, by hand
	aTidy           action = "tidy"    // of a mount
	aCrash          action = "crash"   // at the Count-th point from now, just before or after it; back after For, as Where says
	aRestart        action = "restart" // of the process
	anOutage        action = "outage"  // of KSeF
	aBlock          action = "block"   // 429 for Count requests to Where, with For as Retry-After
	aFault          action = "fault"   // of Count replies at Where
	aJump           action = "jump"    // of KSeF's clock
	aStorageFailure action = "disk"    // of a mount
	aDropping       action = "drop"    // of a mount's config, and another write of it
	aChange         action = "nip"     // of a mount's config to Where, with force where How says so
	aMove           action = "move"    // of a mount to another path
	aPause          action = "pause"   // in which nothing happens
	aRole           action = "role"    // is written as How says, which hands out access tokens
	aStaticRole     action = "static"  // role is written as How says
	aRead           action = "read"    // of Where, an access token or a static token
	anAbuse         action = "abuse"   // of an access token of Where: its reader ends what stands behind it
	aRotation       action = "rotate"  // of Where, with revoke_previous where How says so
	anImport        action = "import"  // of a token that was made by hand
)

// oneByOne is a restart after a crash in which the mount Pick is loaded first and the other seconds
// later.
const oneByOne = "one by one"

// byForce is a change of config that leaves tokens in the old context.
const byForce = "force"

// steps draws each kind of step as often as it is listed.
func steps() *rapid.Generator[step] {
	kinds := []*rapid.Generator[step]{
		pauses(), issues(), issues(), issues(), issues(), leavings(), renewals(), ends(), ends(), deletions(), tidies(), picked(aDropping), changes(), picked(aMove),
		crashes(), crashes(), restarts(), outages(), blocks(), faults(), faults(), faults(), jumps(), diskFailures(),
		accessRoleWrites(), staticRoleWrites(), pathReads(), pathReads(), abuses(), rotations(), imports(),
	}
	return rapid.Custom(func(t *rapid.T) step {
		c := rapid.OneOf(kinds...).Draw(t, "step")
		c.Then = rapid.SampledFrom([]time.Duration{
			time.Second, 0, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour,
		}).Draw(t, "then")
		return c
	})
}

func issues() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{
			Do: anIssue, Pick: pick(t), Count: rapid.IntRange(1, 6).Draw(t, "tokens"),
			For:   rapid.SampledFrom([]time.Duration{time.Hour, 2 * time.Minute, 20 * time.Minute, 4 * time.Hour, 240 * time.Hour}).Draw(t, "ttl"),
			Where: rapid.SampledFrom([]string{"invoices", "invoices", "invoices", "unit"}).Draw(t, "role"),
		}
	})
}

func leavings() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{
			Do: aLeaving, Pick: pick(t), Count: 1, Where: "invoices",
			For: rapid.SampledFrom([]time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond, 7 * time.Second}).Draw(t, "max wait"),
		}
	})
}

func renewals() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{Do: aRenewal, Pick: pick(t), For: rapid.SampledFrom([]time.Duration{time.Hour, 10 * time.Minute, 240 * time.Hour}).Draw(t, "increment")}
	})
}

func ends() *rapid.Generator[step]      { return picked(anEnd) }
func deletions() *rapid.Generator[step] { return picked(aDeletion) }
func tidies() *rapid.Generator[step]    { return picked(aTidy) }
func restarts() *rapid.Generator[step]  { return rapid.Just(step{Do: aRestart}) }
func pauses() *rapid.Generator[step]    { return rapid.Just(step{Do: aPause}) }

func picked(do action) *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step { return step{Do: do, Pick: pick(t)} })
}

func crashes() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{
			Do: aCrash, Count: rapid.IntRange(0, 20).Draw(t, "points"),
			How:   string(rapid.SampledFrom([]moment{justBefore, justAfter}).Draw(t, "moment")),
			For:   rapid.SampledFrom([]time.Duration{0, 10 * time.Second, 10 * time.Minute, time.Hour}).Draw(t, "downtime"),
			Where: rapid.SampledFrom([]string{"", oneByOne}).Draw(t, "return"), Pick: pick(t),
		}
	})
}

func changes() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{
			Do: aChange, Pick: pick(t), Where: rapid.SampledFrom([]string{SecondNIP, NIP}).Draw(t, "nip"),
			How: rapid.SampledFrom([]string{"", byForce}).Draw(t, "force"),
		}
	})
}

func outages() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{
			Do: anOutage, How: string(rapid.SampledFrom([]Outage{Refusing, Silent}).Draw(t, "outage")),
			For: rapid.SampledFrom([]time.Duration{10 * time.Second, 5 * time.Minute, 3 * time.Hour}).Draw(t, "length"),
		}
	})
}

func blocks() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{
			Do: aBlock, Where: endpoint(t), Count: rapid.IntRange(1, 3).Draw(t, "requests"),
			For: rapid.SampledFrom([]time.Duration{time.Minute, 0, 10 * time.Minute, 45 * time.Minute}).Draw(t, "retry after"),
		}
	})
}

func jumps() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{Do: aJump, For: rapid.SampledFrom([]time.Duration{time.Minute, 20 * time.Minute, 3 * time.Hour}).Draw(t, "jump")}
	})
}

func diskFailures() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{
			Do: aStorageFailure, Pick: pick(t), How: string(rapid.SampledFrom([]StorageFailure{StorageRefuses, StorageUnconfirmed}).Draw(t, "trouble")),
			Where: rapid.SampledFrom([]string{"", "put ledger/live/", "put ledger/", "delete ", "put budget/", "put sessions/", "put token-holders/", "put access-", "read"}).Draw(t, "writes"),
			For:   rapid.SampledFrom([]time.Duration{10 * time.Second, 10 * time.Minute, 2 * time.Hour}).Draw(t, "length"),
		}
	})
}

func faults() *rapid.Generator[step] {
	kinds := []string{
		string(simulator.FaultDropRequest), string(simulator.FaultDropResponse), string(simulator.FaultTruncate),
		string(simulator.FaultGarbage), string(simulator.FaultDelay), "status 400", "status 401", "status 403", "status 500", "status 503",
	}
	return rapid.Custom(func(t *rapid.T) step {
		c := step{
			Do: aFault, Where: endpoint(t), How: rapid.SampledFrom(kinds).Draw(t, "fault"), Count: rapid.IntRange(1, 5).Draw(t, "replies"),
			For: rapid.SampledFrom([]time.Duration{3 * time.Second, 20 * time.Second, 50 * time.Second}).Draw(t, "delay"),
		}
		if c.Where == IssueEndpoint && rapid.IntRange(0, 4).Draw(t, "activation") == 0 {
			c.How = string(simulator.FaultFailActivation)
		}
		return c
	})
}

func accessRoleWrites() *rapid.Generator[step] {
	return written(aRole, append(slices.Sorted(maps.Keys(accessRoles)), "token", "token", "token", deletion))
}

func staticRoleWrites() *rapid.Generator[step] {
	return written(aStaticRole, append(slices.Sorted(maps.Keys(staticRoles)), "rotating", deletion, keeping))
}

func written(do action, ways []string) *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{Do: do, Pick: pick(t), How: rapid.SampledFrom(ways).Draw(t, "way")}
	})
}

func pathReads() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{Do: aRead, Pick: pick(t), Where: rapid.SampledFrom(paths).Draw(t, "path")}
	})
}

func abuses() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{
			Do: anAbuse, Pick: pick(t), Where: rapid.SampledFrom([]string{accessPath, staticAccessPath}).Draw(t, "path"),
			How: rapid.SampledFrom([]string{endingSession, revokingToken}).Draw(t, "abuse"),
		}
	})
}

func rotations() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		return step{
			Do: aRotation, Pick: pick(t), Where: rapid.SampledFrom([]string{"rotate-role/erp", "rotate-access/program"}).Draw(t, "path"),
			How: rapid.SampledFrom([]string{"", byForce}).Draw(t, "revoke previous"),
		}
	})
}

func imports() *rapid.Generator[step] {
	return written(anImport, []string{asIs, rotated, leftAlone})
}

// endpoint draws important endpoints more often.
func endpoint(t *rapid.T) string {
	return rapid.SampledFrom([]string{
		IssueEndpoint, RevokeEndpoint, "GET /tokens", StatusEndpoint,
		IssueEndpoint, RevokeEndpoint, "POST /auth/token/redeem", "POST /auth/token/refresh",
		"POST /auth/xades-signature", "GET /rate-limits", "POST /auth/ksef-token",
	}).Draw(t, "endpoint")
}

func pick(t *rapid.T) int { return rapid.IntRange(0, 12).Draw(t, "pick") }

func scenarios() *rapid.Generator[scenario] {
	seconds := []time.Duration{time.Second, -1, 5 * time.Second, 45 * time.Second}
	limits := []simulator.Windows{{}, {PerSecond: 4, PerMinute: 12, PerHour: 40}}
	lengths := []int{1, 4, 8, 12, 16, 24, 32}
	answers := []simulator.DeleteAnswer{simulator.AnswerBadRequest, simulator.AnswerNoContent, simulator.AnswerForbidden}
	return rapid.Custom(func(t *rapid.T) scenario {
		length := rapid.SampledFrom(lengths).Draw(t, "length")
		return scenario{
			KSeF: simulator.Options{
				ActivationDelay:    rapid.SampledFrom(seconds).Draw(t, "activation"),
				DeleteDeadToken:    rapid.SampledFrom(answers).Draw(t, "delete of a dead token"),
				DeletePendingToken: rapid.SampledFrom(answers).Draw(t, "delete of a pending token"),
				Grants:             SecondGrant(),
				Limits:             simulator.Limits{Context: rapid.SampledFrom(limits).Draw(t, "limits")},
			},
			Steps: rapid.SliceOfN(steps(), length, length).Draw(t, "steps"),
		}
	})
}

// faultOf translates a step for the simulator.
func faultOf(c step) simulator.Fault {
	made := simulator.Fault{Endpoint: c.Where, Kind: simulator.FaultKind(c.How), Times: c.Count}
	if c.How == string(simulator.FaultDelay) {
		made.Delay = c.For
	}
	if status, ok := strings.CutPrefix(c.How, "status "); ok {
		made.Kind = simulator.FaultStatus
		_, _ = fmt.Sscan(status, &made.Status)
	}
	return made
}
