// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/notices"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/vault/sdk/logical"
)

// fieldVerbose holds the nested values of status. Vault's CLI prints fields in the order of their
// names and a map as one long line: this one comes after all others.
const fieldVerbose = "verbose"

// statusReport collects an answer of status.
type statusReport struct {
	response *logical.Response
	// flat are the fields with one value; they are the response's data.
	flat, details map[string]any
	troubles      []statusTrouble
}

func newStatusReport(version string) *statusReport {
	response := &logical.Response{Data: map[string]any{"plugin_version": version}}
	return &statusReport{response: response, flat: response.Data, details: make(map[string]any)}
}

// finish completes the answer.
func (r *statusReport) finish(open ledger.Open) *logical.Response {
	r.flat["summary"] = r.summary(open)
	r.flat[fieldVerbose] = r.details
	return r.response
}

func inUTC(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// permitInUTC is inUTC of a moment before which nothing may be sent: a part of a second counts as a
// whole one.
func permitInUTC(at time.Time) string { return inUTC(at.Add(time.Second - 1)) }

func (r *statusReport) addTokens(open ledger.Open, pending ledger.Pending, unknown []string) {
	r.flat["tokens_issuing"], r.flat["tokens_live"], r.flat["tokens_revoking"] = open.Issuing, open.Live, open.Revoking
	r.flat["tokens_recovering"] = pending.Searching
	r.flat["revocation_queue_length"] = open.Revoking
	r.details["revocation_queue"] = r.revocationQueue(open, pending)
	if pending.Oldest != nil {
		r.flat["revocation_queue_oldest_since"] = inUTC(pending.OldestSince)
		r.flat["revocation_queue_next_attempt"] = inUTC(pending.Oldest.Next)
	}
	r.addLedgerTroubles(open, pending, unknown)
}

func (r *statusReport) revocationQueue(open ledger.Open, pending ledger.Pending) map[string]any {
	shown := map[string]any{"alive": pending.Alive, "length": open.Revoking, "recovering": pending.Searching}
	if !pending.Reviewed.IsZero() {
		shown["reviewed_at"] = inUTC(pending.Reviewed)
	}
	if pending.ReviewErr != nil {
		shown["review_error"] = pending.ReviewErr.Error()
	}
	if oldest := pending.Oldest; oldest != nil {
		one := map[string]any{
			"reference_number": oldest.ReferenceNumber, "since": inUTC(pending.OldestSince), "next_attempt": inUTC(oldest.Next),
		}
		fields.AddTaxpayer(one, oldest.Context)
		if oldest.Err != nil {
			one["last_error"] = oldest.Err.Error()
		}
		shown["oldest"] = one
	}
	return shown
}

func (r *statusReport) addLimits(all map[ratelimit.Key][]ratelimit.Usage) {
	r.details["rate_limits"] = limitsStatus(all)
	next, blocked := time.Now(), time.Time{}
	for _, usages := range all {
		for _, usage := range usages {
			next, blocked = later(next, usage.Next), later(blocked, usage.BlockedUntil)
		}
	}
	r.flat["rate_limits_next_slot"] = permitInUTC(next)
	if !blocked.IsZero() {
		r.flat["rate_limits_blocked_until"] = permitInUTC(blocked)
	}
	r.addLimitTroubles(all)
}

func (r *statusReport) addConfig(stored *config, shown map[string]any) {
	r.flat["url"], r.flat["signing"] = stored.URL, shown["signing"]
	fields.AddTaxpayer(r.flat, stored.Context)
	if end := shown["certificate_not_after"]; end != nil {
		r.flat["certificate_not_after"] = end
	}
}

func (r *statusReport) addLogins(logins []map[string]any) {
	pending := 0
	for _, login := range logins {
		if login["status"] == "pending" {
			pending++
		}
	}
	r.details["logins"], r.flat["logins_pending"] = logins, pending
}

func (r *statusReport) addNotices(warning *client.Warning, failed *notices.Failure) {
	if warning != nil {
		r.flat["last_warning"], r.flat["last_warning_at"] = warning.Text, inUTC(warning.At)
		r.details["last_warning"] = map[string]any{"at": inUTC(warning.At), "endpoint": warning.Endpoint, "text": warning.Text}
	}
	if failed == nil {
		return
	}
	r.flat["last_error"], r.flat["last_error_at"] = failed.Err.Error(), inUTC(failed.At)
	if !failed.ResolvedAt.IsZero() {
		r.flat["last_error_resolved_at"] = inUTC(failed.ResolvedAt)
	}
	r.addFailureTrouble(failed)
}
