// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"net/http"
	"sort"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/internal/budget"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathStatus() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "status",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "status"},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: writeOperation(b.pathStatusRead, "read", statusAnswer()),
		},
		HelpSynopsis:    "How the mount is: credential, sessions, KSeF's limits, tokens, what is pending and why.",
		HelpDescription: strings.TrimSpace(helpStatus),
	}}
}

func (b *backend) pathStatusRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	stored, configErr := readConfig(ctx, req.Storage)
	var unreadable *unreadableConfigError
	if configErr != nil && !errors.As(configErr, &unreadable) {
		return nil, configErr
	}
	open, err := b.ledger.CountOpen(ctx)
	if err != nil {
		return nil, err
	}
	usage, pending := b.budgets.usage(), b.ledger.Pending()
	answer := map[string]any{
		"version": b.RunningVersion,
		"tokens":  map[string]any{"issuing": open.Issuing, "live": open.Live, "revoking": open.Revoking, "unreadable": open.Unreadable},
		"budgets": budgetStatus(usage),
		"pump":    pumpStatus(pending),
	}
	b.addNotices(answer)
	response := &logical.Response{Data: answer}
	b.addUnmountStatus(ctx, open, response)
	addWarnings(response, ledgerTroubles(pending, b.ledger.UnknownTokens())...)
	addWarnings(response, b.ledger.Outages()...)
	addWarnings(response, atMost(b.ledger.UnsettledRequests(), "requests")...)
	addWarnings(response, blockWarnings(usage)...)
	switch {
	case unreadable != nil:
		b.onUnreadable(unreadable.entry, unreadable)
		response.AddWarning(unreadable.Error())
	case stored == nil:
		response.AddWarning(errNotConfigured.Error())
	default:
		err = b.addSigningStatus(ctx, stored, response)
	}
	// Last, since what comes before may have met one.
	return response, errors.Join(err, b.addUnreadable(ctx, response))
}

// addSigningStatus shows the configuration and all that becomes of logins.
func (b *backend) addSigningStatus(ctx context.Context, stored *config, response *logical.Response) error {
	answer, shown := response.Data, stored.summary()
	answer["config"] = shown
	rotation, err := b.rotationStatus(ctx)
	if err != nil {
		return err
	}
	if rotation != nil {
		answer["rotation"] = rotation
	}
	if answer["logins"], err = b.loginStatus(ctx); err != nil {
		return err
	}
	current, err := b.connect(ctx)
	if err != nil {
		response.AddWarning(err.Error())
		return nil
	}
	if answer["sessions"], err = sessionStatus(ctx, current); err != nil {
		return err
	}
	addWarnings(response, atMost(refusedLogins(current), "contexts")...)
	return b.addSigning(ctx, stored, response, shown)
}

func sessionStatus(ctx context.Context, current *connection) ([]map[string]any, error) {
	sessions, err := current.sessions.All(ctx)
	if err != nil {
		return nil, err
	}
	sort.Slice(sessions, func(i, j int) bool { return sessions[i].Context.String() < sessions[j].Context.String() })
	shown := make([]map[string]any, 0, len(sessions))
	for _, session := range sessions {
		one := map[string]any{
			"reference_number": session.ReferenceNumber,
			"since":            session.Since.UTC().Format(time.RFC3339),
			"access_until":     session.Access.ValidUntil.UTC().Format(time.RFC3339),
			"refresh_until":    session.Refresh.ValidUntil.UTC().Format(time.RFC3339),
			"signer":           session.Author,
			"signed_outside":   session.Outside,
		}
		addContext(one, session.Context)
		shown = append(shown, one)
	}
	return shown, nil
}

func budgetStatus(all map[budget.Key][]budget.Usage) []map[string]any {
	shown := make([]map[string]any, 0)
	for key, usages := range all {
		for _, usage := range usages {
			if isIdle(usage) {
				continue
			}
			shown = append(shown, usageAnswer(key, usage))
		}
	}
	sort.Slice(shown, func(i, j int) bool {
		left, right := shown[i], shown[j]
		if left["context"] != right["context"] {
			return left["context"].(string) < right["context"].(string)
		}
		return left["endpoint"].(string) < right["endpoint"].(string)
	})
	return shown
}

func usageAnswer(key budget.Key, usage budget.Usage) map[string]any {
	answer := map[string]any{
		"context":   key.Context,
		"endpoint":  usage.Endpoint,
		"waiting":   usage.Waiting,
		"next_slot": usage.Next.UTC().Format(time.RFC3339),
	}
	for window, share := range map[string]budget.Share{"second": usage.Second, "minute": usage.Minute, "hour": usage.Hour} {
		if share.Limit > 0 {
			answer[window] = map[string]any{"used": share.Used, "free": max(0, share.Limit-share.Used), "limit": share.Limit}
		}
	}
	if !usage.BlockedUntil.IsZero() {
		answer["blocked_until"] = usage.BlockedUntil.UTC().Format(time.RFC3339)
	}
	return answer
}

// isIdle says that an endpoint's limits are of no interest: nothing is used,
// and nobody waits.
func isIdle(usage budget.Usage) bool {
	return usage.Second.Used+usage.Minute.Used+usage.Hour.Used+usage.Waiting == 0 && usage.BlockedUntil.IsZero()
}

func pumpStatus(pending ledger.Pending) map[string]any {
	shown := map[string]any{
		"alive":     pending.Alive,
		"revoking":  pending.Revoking,
		"searching": pending.Searching,
	}
	if !pending.Reviewed.IsZero() {
		shown["reviewed_at"] = pending.Reviewed.UTC().Format(time.RFC3339)
	}
	if pending.ReviewErr != nil {
		shown["review_error"] = pending.ReviewErr.Error()
	}
	if oldest := pending.Oldest; oldest != nil {
		one := map[string]any{
			"reference_number": oldest.ReferenceNumber,
			"since":            pending.OldestSince.UTC().Format(time.RFC3339),
			"next_attempt":     oldest.Next.UTC().Format(time.RFC3339),
		}
		addContext(one, oldest.Context)
		if oldest.Err != nil {
			one["last_error"] = oldest.Err.Error()
		}
		shown["oldest"] = one
	}
	return shown
}

func (b *backend) addNotices(answer map[string]any) {
	warning, failed := b.notices.last()
	if warning != nil {
		answer["last_warning"] = map[string]any{
			"at": warning.At.UTC().Format(time.RFC3339), "endpoint": warning.Endpoint, "text": warning.Text,
		}
	}
	if failed != nil {
		answer["last_error"] = map[string]any{"at": failed.at.UTC().Format(time.RFC3339), "text": failed.err.Error()}
	}
}

func statusAnswer() map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{
		Description: "OK",
		Fields: map[string]*framework.FieldSchema{
			"version":      {Type: framework.TypeString, Description: "The plugin's version."},
			"mount_id":     {Type: framework.TypeString, Description: "The id in the mark of this mount's tokens in KSeF: [vault:<mount_id>:...]; absent before the first."},
			"config":       {Type: framework.TypeMap, Description: "Where the mount leads, who signs, and how many days the certificate is still valid."},
			"sessions":     {Type: framework.TypeSlice, Description: "The logins in hand: context, number and ends."},
			"logins":       {Type: framework.TypeSlice, Description: "Logins that a person signs: begun, pending or failed."},
			"rotation":     {Type: framework.TypeMap, Description: "The rotation of the certificate under way, and how the last one ended."},
			"budgets":      {Type: framework.TypeSlice, Description: "KSeF's limits per context and endpoint: used, free and limit in each window, who waits, the next slot. What is not in use is left out."},
			"unreadable":   {Type: framework.TypeMap, Description: "Storage entries that cannot be read and are skipped: count, and the first keys."},
			"tokens":       {Type: framework.TypeMap, Description: "The ledger's open records by state."},
			"pump":         {Type: framework.TypeMap, Description: "What the engine is finishing by itself; the oldest revocation with its last error."},
			"last_warning": {Type: framework.TypeMap, Description: "The last X-System-Warning of KSeF."},
			"last_error":   {Type: framework.TypeMap, Description: "The last failure, with KSeF's trace id where it gave one."},
		},
	}}}
}

const helpStatus = `
A read shows all that one wants to know when something is wrong, without asking
KSeF; it reads best with: vault read -format=yaml ksef/status

It has the credential and when it expires, the sessions, what of KSeF's limits is
used and free, the tokens by state, the oldest revocation that KSeF has not
confirmed and why, and the last error and warning. What the engine knows to need
attention comes as a warning.
`
