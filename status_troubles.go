// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/notices"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/vault/sdk/logical"
)

// vaultGivesUp is how long Vault itself tries to end a lease: six times.
const vaultGivesUp = 10 * time.Minute

// urgency orders troubles: what others may follow from comes first.
type urgency int

const (
	troubleConfig urgency = iota
	troubleLogin
	troubleStorage
	troubleOutage
	troubleRevocation
	troubleUnreadable
	troubleTokensEnd
	troubleLimits
	troubleExpiry
	troubleRecovery
	troubleLastError
)

// statusTrouble is something that is not as it should be.
type statusTrouble struct {
	urgency urgency
	// sentence says what it is and what to do.
	sentence string
	// warned is true where a warning says it too.
	warned bool
}

// warn adds warnings, and the trouble that they are about; nothing without a warning.
func (r *statusReport) warn(urgency urgency, sentence string, warnings ...string) {
	if len(warnings) == 0 {
		return
	}
	r.troubles = append(r.troubles, statusTrouble{urgency, sentence, true})
	fields.AddWarnings(r.response, warnings...)
}

// summary is one sentence for the most important trouble.
func (r *statusReport) summary(open ledger.Open) string {
	if len(r.troubles) == 0 {
		return fmt.Sprintf("All is well. Live tokens: %d, revocations in progress: %d.", open.Live, open.Revoking)
	}
	slices.SortStableFunc(r.troubles, func(a, b statusTrouble) int { return int(a.urgency - b.urgency) })
	others := 0
	for _, other := range r.troubles[1:] {
		if other.warned {
			others++
		}
	}
	text := r.troubles[0].sentence
	if others > 0 {
		text += fmt.Sprintf(" Other troubles, in the warnings: %d.", others)
	}
	return text
}

// addLedgerTroubles says what of the tokens wants to be looked at.
func (r *statusReport) addLedgerTroubles(open ledger.Open, pending ledger.Pending, unknown []string) {
	if pending.ReviewErr != nil {
		r.warn(troubleStorage, "The mount's records cannot be read, so that revocations may stand still: mend Vault's storage; the engine then goes on by itself.",
			fmt.Sprintf("The ledger could not be read, so what is pending may stand still: %v", pending.ReviewErr))
	}
	r.warn(troubleRevocation, fmt.Sprintf("KSeF does not know tokens that are to be revoked (%d): they count as revoked when it has said so for a day; "+
		"after a reset of KSeF delete them with unknown_to_ksef=true.", len(unknown)), atMost(unknown, "tokens")...)
	oldest := pending.Oldest
	told := oldest != nil && oldest.Err != nil && slices.Contains(unknown, oldest.Err.Error())
	if oldest != nil && !told && (oldest.Err != nil || time.Since(pending.OldestSince) > vaultGivesUp) {
		r.warn(troubleRevocation, revocationTrouble(open, pending), oldest.Error())
	}
}

// revocationTrouble tells what waits for an operator from what waits for KSeF.
func revocationTrouble(open ledger.Open, pending ledger.Pending) string {
	oldest := pending.Oldest
	since := inUTC(pending.OldestSince)
	if oldest.Err != nil && needsOperator(oldest.Err) {
		return fmt.Sprintf("The token %s could not be revoked since %s: mend the cause that the warning names; a write to config then tries at once.",
			oldest.ReferenceNumber, since)
	}
	return fmt.Sprintf("KSeF has not confirmed revocations (%d, the oldest since %s): the engine goes on by itself, next at %s; nothing to do but wait.",
		open.Revoking, since, inUTC(oldest.Next))
}

// maxShown bounds the tokens, or the contexts, that status names for one reason.
const maxShown = 3

// atMost returns the first sentences and how many there are besides.
func atMost(sentences []string, of string) []string {
	if len(sentences) <= maxShown {
		return sentences
	}
	return append(sentences[:maxShown:maxShown], fmt.Sprintf("The same is true of %d more %s.", len(sentences)-maxShown, of))
}

func (r *statusReport) addOutages(outages []string) {
	r.warn(troubleOutage, "KSeF gives no usable answer to requests for tokens: new ones are refused until it does; nothing to do but ask again later.", outages...)
}

func (r *statusReport) addUnsettled(requests []string) {
	r.warn(troubleRecovery, fmt.Sprintf("The replies to requests for tokens were lost (%d), and the configured signer may not see what came of them: "+
		"configure the signer that asked, or grant this one CredentialsManage.", len(requests)), atMost(requests, "requests")...)
}

func (r *statusReport) addRefusedLogins(refused []string) {
	if len(refused) == 0 {
		return
	}
	what, _, _ := strings.Cut(refused[0], ": ")
	if where, isLogin := strings.CutPrefix(what, "logging in"); isLogin {
		what = "Logging in" + where + " is refused"
	}
	r.warn(troubleLogin, what+": mend what the warning names, in KSeF or in config; then any write to config has KSeF asked again.",
		atMost(refused, "contexts")...)
}

// refusedLogins names the contexts whose login KSeF has refused, one sentence each.
func refusedLogins(current *connection) (troubles []string) {
	for _, err := range current.sessions.Refusals() {
		troubles = append(troubles, err.Error())
	}
	slices.Sort(troubles)
	return troubles
}

// addLimitTroubles names each endpoint that KSeF has blocked, in the order of their text, and what
// keeps new tokens waiting.
func (r *statusReport) addLimitTroubles(all map[ratelimit.Key][]ratelimit.Usage) {
	for _, warning := range blockWarnings(all) {
		r.warn(troubleLimits, warning+" Nothing to do but wait.", warning)
	}
	for _, text := range usedUp(all) {
		r.troubles = append(r.troubles, statusTrouble{troubleLimits, text, false})
	}
}

func blockWarnings(all map[ratelimit.Key][]ratelimit.Usage) (troubles []string) {
	for key, usages := range all {
		for _, usage := range usages {
			if !usage.BlockedUntil.IsZero() {
				troubles = append(troubles, fmt.Sprintf("KSeF has blocked %s in %s: nothing is sent there before %s.",
					usage.Endpoint, placeOf(key), permitInUTC(usage.BlockedUntil)))
			}
		}
	}
	slices.Sort(troubles)
	return troubles
}

// placeOf says where limits hold.
func placeOf(key ratelimit.Key) string {
	if key.Context == "" {
		return "all contexts from this address"
	}
	return key.Context
}

// usedUpFor is how far off the next slot is where a request for a token would be refused.
const usedUpFor = 10 * time.Second

func usedUp(all map[ratelimit.Key][]ratelimit.Usage) (troubles []string) {
	for key, usages := range all {
		for _, usage := range usages {
			asksForTokens := usage.Endpoint == client.EndpointGenerateToken || usage.Endpoint == ratelimit.AllRequests
			if asksForTokens && usage.BlockedUntil.IsZero() && time.Until(usage.Next) > usedUpFor {
				troubles = append(troubles, fmt.Sprintf("KSeF's limit of requests for tokens in %s is used up: new ones are refused until %s; ask again then, or ask for fewer tokens with longer leases.",
					placeOf(key), permitInUTC(usage.Next)))
			}
		}
	}
	slices.Sort(troubles)
	return troubles
}

// addSigningTroubles shows the end of what logins are signed with.
func (b *backend) addSigningTroubles(ctx context.Context, stored *config, report *statusReport, shown map[string]any) error {
	told := &logical.Response{}
	err := b.addSigning(ctx, stored, told, shown)
	if end := shown["session_until"]; end != nil {
		report.flat["session_until"] = end
	}
	for _, warning := range told.Warnings {
		report.warn(signingUrgency(stored, shown), warning, warning)
	}
	return err
}

// signingUrgency tells what has ended from what comes to its end.
func signingUrgency(stored *config, shown map[string]any) urgency {
	if stored.signing() == signingExternal && shown["session_until"] == nil {
		return troubleLogin
	}
	if left, known := shown["certificate_days_left"].(int64); known && left < 0 {
		return troubleLogin
	}
	return troubleExpiry
}

// addTokensEnd says where no token is issued any more. Only the summary does: tokens_notice has
// told of it ahead.
func (r *statusReport) addTokensEnd(until, now time.Time) {
	if leases.CheckUntil(until, now) != nil {
		r.troubles = append(r.troubles, statusTrouble{
			troubleTokensEnd, fmt.Sprintf("No token is issued: %s is %s. See %s; if KSeF does accept tokens for longer, write a later one to config.",
				fieldTokensUntil, until.Format(time.RFC3339), tokensPage), false,
		})
	}
}

// lastErrorMatters is how long a failure that nothing has followed is a trouble.
const lastErrorMatters = 24 * time.Hour

func (r *statusReport) addFailureTrouble(failed *notices.Failure) {
	if failed.ResolvedAt.IsZero() && time.Since(failed.At) < lastErrorMatters {
		r.troubles = append(r.troubles, statusTrouble{
			troubleLastError, fmt.Sprintf("The last failure, of %s, is not known to be over: read last_error and mend what it says, or try again.", inUTC(failed.At)), false,
		})
	}
}
