// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package status

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/report"
	"vault-plugin-secrets-ksef/internal/rotation"
)

// vaultGivesUp is how long Vault itself tries to end a lease, in six attempts.
const vaultGivesUp = 10 * time.Minute

// Urgency orders troubles: causes come before their effects.
type Urgency int

// The troubles, the most urgent first.
const (
	Config Urgency = iota
	Login
	Storage
	Outage
	Revocation
	Unreadable
	TokensEnd
	Limits
	Expiry
	Recovery
	LastError
)

// trouble is a state that needs attention.
type trouble struct {
	urgency Urgency
	// sentence states it, and what to do.
	sentence string
	// warned is set where a warning states it, too.
	warned bool
}

// Warn adds warnings and their trouble; nothing without a warning.
func (r *Report) Warn(urgency Urgency, sentence string, warnings ...string) {
	if len(warnings) == 0 {
		return
	}
	r.troubles = append(r.troubles, trouble{urgency, sentence, true})
	fields.AddWarnings(r.Response, warnings...)
}

// AddHolders adds what has happened to the tokens that the engine keeps: those that readers have
// revoked, and rotations that fail.
func (r *Report) AddHolders(troubles []string) {
	r.Warn(Recovery, "Tokens without a lease were replaced, or could not be rotated yet; the engine goes on by itself, see the warnings.", troubles...)
}

// summary returns a sentence for the most urgent trouble.
func (r *Report) summary(open ledger.Open) string {
	if len(r.troubles) == 0 {
		unleased := ""
		if count := open.Static + open.Access; count > 0 {
			unleased = fmt.Sprintf(", tokens without a lease: %d", count)
		}
		return fmt.Sprintf("All is well. Live tokens: %d%s, revocations in progress: %d.", open.Live, unleased, open.Revoking)
	}
	slices.SortStableFunc(r.troubles, func(a, b trouble) int { return int(a.urgency - b.urgency) })
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

// addLedgerTroubles adds what keeps tokens from being revoked.
func (r *Report) addLedgerTroubles(open ledger.Open, pending ledger.Pending, unknown []string) {
	if pending.ReviewErr != nil {
		r.Warn(Storage, "The mount's records cannot be read, so that revocations may stand still: mend Vault's storage; the engine then goes on by itself.",
			fmt.Sprintf("The ledger could not be read, so what is pending may stand still: %v", pending.ReviewErr))
	}
	r.Warn(Revocation, fmt.Sprintf("KSeF does not know tokens that are to be revoked (%d): they count as revoked when it has said so for a day; "+
		"after a reset of KSeF delete them with unknown_to_ksef=true.", len(unknown)), atMost(unknown, "tokens")...)
	oldest := pending.Oldest
	reported := oldest != nil && oldest.Err != nil && slices.Contains(unknown, oldest.Err.Error())
	if oldest != nil && !reported && (oldest.Err != nil || time.Since(pending.OldestSince) > vaultGivesUp) {
		r.Warn(Revocation, revocationTrouble(open, pending), oldest.Error())
	}
}

// revocationTrouble distinguishes waiting for an operator from waiting for KSeF.
func revocationTrouble(open ledger.Open, pending ledger.Pending) string {
	oldest := pending.Oldest
	since := InUTC(pending.OldestSince)
	if oldest.Err != nil && failure.NeedsOperator(oldest.Err) {
		return fmt.Sprintf("The token %s could not be revoked since %s: mend the cause that the warning names; a write to config then tries at once.",
			oldest.ReferenceNumber, since)
	}
	return fmt.Sprintf("KSeF has not confirmed revocations (%d, the oldest since %s): the engine goes on by itself, next at %s; nothing to do but wait.",
		open.Revoking, since, InUTC(oldest.Next))
}

// maxShown bounds the tokens, or contexts, that are named for one reason.
const maxShown = 3

// atMost returns the first sentences and the number of the others.
func atMost(sentences []string, of string) []string {
	if len(sentences) <= maxShown {
		return sentences
	}
	return append(sentences[:maxShown:maxShown], fmt.Sprintf("The same is true of %d more %s.", len(sentences)-maxShown, of))
}

// AddOutages adds that KSeF gives no usable answer to requests for tokens.
func (r *Report) AddOutages(outages []string) {
	r.Warn(Outage, "KSeF gives no usable answer to requests for tokens: new ones are refused until it does; nothing to do but ask again later.", outages...)
}

// AddUnsettled adds the requests for tokens whose outcome the configured signer may not see.
func (r *Report) AddUnsettled(requests []string) {
	r.Warn(Recovery, fmt.Sprintf("The replies to requests for tokens were lost (%d), and the configured signer may not see what came of them: "+
		"configure the signer that asked, or grant this one CredentialsManage.", len(requests)), atMost(requests, "requests")...)
}

// AddRefusedLogins adds the contexts whose login KSeF refuses.
func (r *Report) AddRefusedLogins(refusals []error) {
	if len(refusals) == 0 {
		return
	}
	refused := make([]string, len(refusals))
	for i, err := range refusals {
		refused[i] = err.Error()
	}
	slices.Sort(refused)
	what, _, _ := strings.Cut(refused[0], ": ")
	if where, isLogin := strings.CutPrefix(what, "logging in"); isLogin {
		what = "Logging in" + where + " is refused"
	}
	r.Warn(Login, what+": mend what the warning names, in KSeF or in config; then any write to config has KSeF asked again.",
		atMost(refused, "contexts")...)
}

// addLimitTroubles adds the endpoints that KSeF has blocked, and the limits that keep new tokens
// waiting.
func (r *Report) addLimitTroubles(all map[ratelimit.Key][]ratelimit.Usage) {
	var blocked, usedUp []string
	for key, usages := range all {
		for _, usage := range usages {
			asksForTokens := usage.Endpoint == client.EndpointGenerateToken || usage.Endpoint == ratelimit.AllRequests
			switch {
			case !usage.BlockedUntil.IsZero():
				blocked = append(blocked, fmt.Sprintf("KSeF has blocked %s in %s: nothing is sent there before %s.",
					usage.Endpoint, placeOf(key), permitInUTC(usage.BlockedUntil)))
			case asksForTokens && time.Until(usage.Next) > ledger.IssueMaxWait:
				usedUp = append(usedUp, fmt.Sprintf("KSeF's limit of requests for tokens in %s is used up: new ones are refused until %s; ask again then, or ask for fewer tokens with longer leases.",
					placeOf(key), permitInUTC(usage.Next)))
			}
		}
	}
	for _, warning := range slices.Sorted(slices.Values(blocked)) {
		r.Warn(Limits, warning+" Nothing to do but wait.", warning)
	}
	for _, text := range slices.Sorted(slices.Values(usedUp)) {
		r.troubles = append(r.troubles, trouble{Limits, text, false})
	}
}

// placeOf names the scope of limits.
func placeOf(key ratelimit.Key) string {
	if key.Context == "" {
		return "all contexts from this address"
	}
	return key.Context
}

// AddTokensEnd adds that no token is issued any more. It is in the summary alone, since
// tokens_notice has announced it.
func (r *Report) AddTokensEnd(until, now time.Time) {
	if leases.CheckUntil(until, now) != nil {
		r.troubles = append(r.troubles, trouble{
			TokensEnd, fmt.Sprintf("No token is issued: %s is %s. See %s; if KSeF does accept tokens for longer, write a later one to config.",
				leases.FieldUntil, until.Format(time.RFC3339), leases.TokensPage), false,
		})
	}
}

// lastErrorMatters is how long an unresolved failure counts as a trouble.
const lastErrorMatters = 24 * time.Hour

func (r *Report) addFailureTrouble(failed *report.Failure) {
	if failed.ResolvedAt.IsZero() && time.Since(failed.At) < lastErrorMatters {
		r.troubles = append(r.troubles, trouble{
			LastError, fmt.Sprintf("The last failure, of %s, is not known to be over: read last_error and mend what it says, or try again.", InUTC(failed.At)), false,
		})
	}
}

// maxUnreadableShown bounds the unreadable entries that are named.
const maxUnreadableShown = 20

// AddUnreadable adds the storage entries that are skipped.
func (r *Report) AddUnreadable(keys []string) {
	count, shown := len(keys), keys[:min(len(keys), maxUnreadableShown)]
	r.Flat["unreadable_entries"] = count
	r.Details["unreadable"] = map[string]any{"count": count, "keys": shown}
	if count == 0 {
		return
	}
	more := ""
	if count > len(shown) {
		more = fmt.Sprintf(" and %d more", count-len(shown))
	}
	noun := "storage entries"
	if count == 1 {
		noun = "storage entry"
	}
	r.Warn(Unreadable, "Storage entries cannot be read and are skipped: find out who wrote them, and delete or write anew those that the warning names.",
		fmt.Sprintf("%d %s that cannot be read, and skipped: %s%s.%s", count, noun, strings.Join(shown, ", "), more, unreadableRemedies(shown)))
}

// unreadableRemedies states what to do about each kind of entry, for the first of its kind.
func unreadableRemedies(keys []string) string {
	kinds := []struct{ prefix, remedy string }{
		{ledger.StoragePrefix + "live/", " The token of a live record is revoked with: vault delete <mount>/tokens/%s"},
		{ledger.StoragePrefix + "unleased/live/", " The token of an unleased record is revoked with: vault delete <mount>/tokens/%s; an imported one in KSeF"},
		{ledger.StoragePrefix + "ending/", " The token of an ending record is revoked with: vault delete <mount>/tokens/%s"},
		{"roles/", " Write the role anew with all its fields, or: vault delete <mount>/roles/%s"},
		{rotation.StorageKey, " The rotation is given up with: vault write <mount>/config force=rotation"},
	}
	var all strings.Builder
	for _, kind := range kinds {
		i := slices.IndexFunc(keys, func(key string) bool { return strings.HasPrefix(key, kind.prefix) })
		if i < 0 {
			continue
		}
		remedy := kind.remedy
		if strings.Contains(remedy, "%s") {
			remedy = fmt.Sprintf(remedy, path.Base(keys[i]))
		}
		all.WriteString(remedy)
	}
	return all.String()
}
