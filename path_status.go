// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"sort"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/internal/rotation"
	"vault-plugin-secrets-ksef/internal/status"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathStatus() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "status",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "status"},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: fields.Forwarded(b.pathStatusRead, "read", statusSchema()),
		},
		HelpSynopsis:    "Read the state of this mount, and what to do about it.",
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
	report := status.New(b.RunningVersion)
	report.AddTokens(open, b.ledger.Pending(), b.ledger.UnknownTokens())
	b.addUnmountStatus(ctx, open, report.Response)
	report.AddOutages(b.ledger.Outages())
	report.AddUnsettled(b.ledger.UnsettledRequests())
	report.AddHolders(b.holders.Troubles())
	report.AddLimits(b.limiters.Usage())
	report.AddNotices(b.report.Last())
	switch {
	case unreadable != nil:
		b.onUnreadable(unreadable.entry, unreadable)
		report.Warn(status.Config, "The stored configuration cannot be read: write config anew, with all its fields.", unreadable.Error())
	case stored == nil:
		report.Warn(status.Config, "The mount has no configuration: write to config.", errNotConfigured.Error())
	default:
		err = b.addSigningStatus(ctx, stored, report)
	}
	// Last, since reading the above may have met one.
	keys, unreadableErr := b.unreadable.Keys(ctx)
	if unreadableErr == nil {
		report.AddUnreadable(keys)
	}
	return report.Finish(open), errors.Join(err, unreadableErr)
}

// addSigningStatus adds the configuration and the state of logins.
func (b *backend) addSigningStatus(ctx context.Context, stored *config, report *status.Report) error {
	shown := stored.summary()
	report.AddConfig(stored.URL, stored.Context, shown)
	leases.AddNotice(report.Flat, stored.TokensAcceptedUntil, time.Now())
	report.AddTokensEnd(stored.TokensAcceptedUntil, time.Now())
	state, err := b.rotation.State(ctx)
	if err != nil {
		return err
	}
	if rotation := rotationStatus(state); rotation != nil {
		report.Details["rotation"] = rotation
	}
	if state.Step != "" {
		report.Flat["rotation_step"] = string(state.Step)
	}
	logins, err := b.loginStatus(ctx)
	if err != nil {
		return err
	}
	report.AddLogins(logins)
	current, err := b.connect(ctx)
	if err != nil {
		report.Warn(status.Config, "The stored configuration cannot be used: write config anew.", err.Error())
		return nil
	}
	sessions, err := sessionStatus(ctx, current)
	if err != nil {
		return err
	}
	report.Details["sessions"], report.Flat["sessions_open"] = sessions, len(sessions)
	report.AddRefusedLogins(current.sessions.Refusals())
	return b.addSigningTroubles(ctx, stored, state, report, shown)
}

// addSigningTroubles adds the end of the certificate or session that logins depend on.
func (b *backend) addSigningTroubles(ctx context.Context, stored *config, state *rotation.State, report *status.Report, shown map[string]any) error {
	signing := &logical.Response{Data: shown}
	err := b.addSigning(ctx, stored, state, signing)
	if end := shown["session_until"]; end != nil {
		report.Flat["session_until"] = end
	}
	for _, warning := range signing.Warnings {
		report.Warn(signingUrgency(stored, shown), warning, warning)
	}
	return err
}

// signingUrgency distinguishes what has ended from what ends soon.
func signingUrgency(stored *config, shown map[string]any) status.Urgency {
	if stored.signing() == signingExternal && shown["session_until"] == nil {
		return status.Login
	}
	if left, known := shown["certificate_days_left"].(int64); known && left < 0 {
		return status.Login
	}
	return status.Expiry
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
			"signer":           session.Subject,
			"external":         session.External,
		}
		fields.AddTaxpayer(one, session.Context)
		shown = append(shown, one)
	}
	return shown, nil
}

func statusSchema() map[int][]framework.Response {
	return fields.ResponseSchema(map[string]*framework.FieldSchema{
		"summary":                       {Type: framework.TypeString, Description: "Whether all is well; otherwise the most important trouble, and what to do."},
		"plugin_version":                {Type: framework.TypeString, Description: "The plugin's version."},
		"mount_id":                      {Type: framework.TypeString, Description: "The id in the mark of this mount's tokens in KSeF: [vault:<mount_id>:...]; absent before the first."},
		"url":                           {Type: framework.TypeString, Description: "KSeF's API of this mount."},
		"nip":                           {Type: framework.TypeString, Description: "Default taxpayer, if it is a NIP."},
		"internal_id":                   {Type: framework.TypeString, Description: "Default taxpayer, if it is an internal unit."},
		"signing":                       {Type: framework.TypeString, Description: "certificate, or external if a person signs logins."},
		"certificate_not_after":         {Type: framework.TypeTime, Description: "When the certificate that signs logins expires."},
		"session_until":                 {Type: framework.TypeTime, Description: "With external signing, when the login in the default context ends."},
		"sessions_open":                 {Type: framework.TypeInt, Description: "Sessions in use."},
		"logins_pending":                {Type: framework.TypeInt, Description: "Logins that a person has signed and KSeF has not decided."},
		"rotation_step":                 {Type: framework.TypeString, Description: "Step of the certificate's rotation: enroll, await, prove or retire; absent if none is in progress."},
		"tokens_issuing":                {Type: framework.TypeInt, Description: "Tokens requested and not returned yet, or whose response was lost."},
		"tokens_recovering":             {Type: framework.TypeInt, Description: "Tokens whose response was lost: the engine finds and revokes them."},
		"tokens_live":                   {Type: framework.TypeInt, Description: "Tokens that are in use."},
		"unleased_tokens":               {Type: framework.TypeInt, Description: "Tokens of static roles and access-token roles, of which no lease exists. secrets disable does not wait for them: delete the roles first."},
		"tokens_revoking":               {Type: framework.TypeInt, Description: "Tokens whose revocation has begun and KSeF has not confirmed."},
		"revocation_queue_length":       {Type: framework.TypeInt, Description: "The same number, as the length of the queue."},
		"revocation_queue_oldest_since": {Type: framework.TypeTime, Description: "When the oldest of these revocations began."},
		"revocation_queue_next_attempt": {Type: framework.TypeTime, Description: "When the engine tries the oldest again."},
		"rate_limits_next_request":      {Type: framework.TypeTime, Description: "When KSeF's limits permit a request at every endpoint; now if none is used up."},
		"rate_limits_blocked_until":     {Type: framework.TypeTime, Description: "When KSeF's last block (429 with Retry-After) ends; absent if there is none."},
		"unreadable_entries":            {Type: framework.TypeInt, Description: "Storage entries that cannot be read and are skipped."},
		"last_error":                    {Type: framework.TypeString, Description: "The last failure that is not over, otherwise the last; with KSeF's trace id if known."},
		"last_error_at":                 {Type: framework.TypeTime, Description: "When that was."},
		"last_error_resolved_at":        {Type: framework.TypeTime, Description: "When the same has succeeded since, or the role was deleted; absent while the failure is not known to be over."},
		"last_warning":                  {Type: framework.TypeString, Description: "The last X-System-Warning of KSeF."},
		"last_warning_at":               {Type: framework.TypeTime, Description: "When that was."},
		status.FieldVerbose: {Type: framework.TypeMap, Description: "The details. config; sessions, those in use; logins, the external ones; " +
			"rotation, in progress and the last; rate_limits, KSeF's limits per context and endpoint that are in use: used, free and limit in each window, waiting requests, the next slot; " +
			"revocation_queue, with the oldest revocation and its last error; unreadable, the keys of storage entries; last_warning, with its endpoint."},
		leases.FieldNotice: leases.NoticeSchema(),
	})
}

const helpStatus = `
Read the state of the mount. This sends no request to KSeF:

  vault read ksef/status

Read summary first: it states whether all is well, or the most important trouble
and what to do. Everything that needs attention is also a warning.

The other fields have one value each. Read the details, in verbose, with:
vault read -format=yaml ksef/status
`

// onUnreadable logs an entry once. Its value stays out of the log.
func (b *backend) onUnreadable(entry *logical.StorageEntry, err error) {
	if b.unreadable.Add(entry) {
		b.Logger().Error("a storage entry cannot be read and is skipped", "key", entry.Key, "error", err)
	}
}
