// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package status makes the report of a mount: fields with one value each, details, a summary, and
// warnings.
package status

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/report"

	"github.com/hashicorp/vault/sdk/logical"
)

// FieldVerbose has the nested values. Vault's CLI prints fields in the order of their names and a
// map as one long line: this one comes last.
const FieldVerbose = "verbose"

// Report collects the response of status.
type Report struct {
	Response *logical.Response
	// Flat are the fields with one value, the data of the response; Details are the nested ones.
	Flat, Details map[string]any
	troubles      []trouble
}

// New returns an empty report.
func New(version string) *Report {
	response := &logical.Response{Data: map[string]any{"plugin_version": version}}
	return &Report{Response: response, Flat: response.Data, Details: make(map[string]any)}
}

// Finish returns the response.
func (r *Report) Finish(open ledger.Open) *logical.Response {
	r.Flat["summary"] = r.summary(open)
	r.Flat[FieldVerbose] = r.Details
	return r.Response
}

// InUTC is how status shows a moment.
func InUTC(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// permitInUTC rounds up to seconds: before that moment nothing may be sent.
func permitInUTC(at time.Time) string { return InUTC(at.Add(time.Second - 1)) }

// AddTokens adds the counts of tokens, the revocation queue and its troubles.
func (r *Report) AddTokens(open ledger.Open, pending ledger.Pending, unknown []string) {
	r.Flat["tokens_issuing"], r.Flat["tokens_live"], r.Flat["tokens_revoking"] = open.Issuing, open.Live, open.Revoking
	r.Flat["tokens_recovering"] = pending.Recovering
	r.Flat["unleased_tokens"] = open.Static + open.Access
	r.Flat["revocation_queue_length"] = open.Revoking
	r.Details["revocation_queue"] = r.revocationQueue(open, pending)
	if pending.Oldest != nil {
		r.Flat["revocation_queue_oldest_since"] = InUTC(pending.OldestSince)
		r.Flat["revocation_queue_next_attempt"] = InUTC(pending.Oldest.Next)
	}
	r.addLedgerTroubles(open, pending, unknown)
}

func (r *Report) revocationQueue(open ledger.Open, pending ledger.Pending) map[string]any {
	shown := map[string]any{"alive": pending.Alive, "length": open.Revoking, "recovering": pending.Recovering}
	if !pending.Reviewed.IsZero() {
		shown["reviewed_at"] = InUTC(pending.Reviewed)
	}
	if pending.ReviewErr != nil {
		shown["review_error"] = pending.ReviewErr.Error()
	}
	if oldest := pending.Oldest; oldest != nil {
		one := map[string]any{
			"reference_number": oldest.ReferenceNumber, "since": InUTC(pending.OldestSince), "next_attempt": InUTC(oldest.Next),
		}
		fields.AddTaxpayer(one, oldest.Context)
		if oldest.Err != nil {
			one["last_error"] = oldest.Err.Error()
		}
		shown["oldest"] = one
	}
	return shown
}

// AddLimits adds the limits in use.
func (r *Report) AddLimits(all map[ratelimit.Key][]ratelimit.Usage) {
	r.Details["rate_limits"] = shownLimits(all)
	next, blocked := time.Now(), time.Time{}
	for _, usages := range all {
		for _, usage := range usages {
			next, blocked = later(next, usage.Next), later(blocked, usage.BlockedUntil)
		}
	}
	r.Flat["rate_limits_next_request"] = permitInUTC(next)
	if !blocked.IsZero() {
		r.Flat["rate_limits_blocked_until"] = permitInUTC(blocked)
	}
	r.addLimitTroubles(all)
}

// AddConfig adds the configuration.
func (r *Report) AddConfig(url string, taxpayer client.ContextIdentifier, shown map[string]any) {
	r.Details["config"], r.Flat["url"], r.Flat["signing"] = shown, url, shown["signing"]
	fields.AddTaxpayer(r.Flat, taxpayer)
	if end := shown["certificate_not_after"]; end != nil {
		r.Flat["certificate_not_after"] = end
	}
}

// AddLogins adds the external logins in progress.
func (r *Report) AddLogins(logins []map[string]any) {
	pending := 0
	for _, login := range logins {
		if login["status"] == "pending" {
			pending++
		}
	}
	r.Details["logins"], r.Flat["logins_pending"] = logins, pending
}

// AddNotices adds the last warning and the last failure.
func (r *Report) AddNotices(warning *client.Warning, failed *report.Failure) {
	if warning != nil {
		r.Flat["last_warning"], r.Flat["last_warning_at"] = warning.Text, InUTC(warning.At)
		r.Details["last_warning"] = map[string]any{"at": InUTC(warning.At), "endpoint": warning.Endpoint, "text": warning.Text}
	}
	if failed == nil {
		return
	}
	r.Flat["last_error"], r.Flat["last_error_at"] = failed.Err.Error(), InUTC(failed.At)
	if !failed.ResolvedAt.IsZero() {
		r.Flat["last_error_resolved_at"] = InUTC(failed.ResolvedAt)
	}
	r.addFailureTrouble(failed)
}

func shownLimits(all map[ratelimit.Key][]ratelimit.Usage) []map[string]any {
	shown := make([]map[string]any, 0)
	for key, usages := range all {
		for _, usage := range usages {
			if !isIdle(usage) {
				shown = append(shown, shownUsage(key, usage))
			}
		}
	}
	slices.SortFunc(shown, func(a, b map[string]any) int {
		return cmp.Or(strings.Compare(a["context"].(string), b["context"].(string)), strings.Compare(a["endpoint"].(string), b["endpoint"].(string)))
	})
	return shown
}

func shownUsage(key ratelimit.Key, usage ratelimit.Usage) map[string]any {
	shown := map[string]any{
		"context":      key.Context,
		"endpoint":     usage.Endpoint,
		"waiting":      usage.Waiting,
		"next_request": permitInUTC(usage.Next),
	}
	for window, share := range map[string]ratelimit.WindowUsage{"second": usage.Second, "minute": usage.Minute, "hour": usage.Hour} {
		if share.Limit > 0 {
			shown[window] = map[string]any{"used": share.Used, "free": max(0, share.Limit-share.Used), "limit": share.Limit}
		}
	}
	if !usage.BlockedUntil.IsZero() {
		shown["blocked_until"] = permitInUTC(usage.BlockedUntil)
	}
	return shown
}

// isIdle reports whether an endpoint's limits are of no interest: nothing is used, and no request
// waits.
func isIdle(usage ratelimit.Usage) bool {
	return usage.Second.Used+usage.Minute.Used+usage.Hour.Used+usage.Waiting == 0 && usage.BlockedUntil.IsZero()
}

func later(a, b time.Time) time.Time { return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare) }
