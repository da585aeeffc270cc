// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/rotation"

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
		HelpSynopsis:    "Read whether all is well, and what to do where it is not.",
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
	report := newStatusReport(b.RunningVersion)
	report.addTokens(open, b.ledger.Pending(), b.ledger.UnknownTokens())
	b.addUnmountStatus(ctx, open, report.response)
	report.addOutages(b.ledger.Outages())
	report.addUnsettled(b.ledger.UnsettledRequests())
	report.addLimits(b.limiters.Usage())
	report.addNotices(b.notices.Last())
	switch {
	case unreadable != nil:
		b.onUnreadable(unreadable.entry, unreadable)
		report.warn(troubleConfig, "The stored configuration cannot be read: write config anew, with all its fields.", unreadable.Error())
	case stored == nil:
		report.warn(troubleConfig, "The mount has no configuration: write to config.", errNotConfigured.Error())
	default:
		err = b.addSigningStatus(ctx, stored, report)
	}
	// Last, since what comes before may have met one.
	err = errors.Join(err, b.addUnreadable(ctx, report))
	return report.finish(open), err
}

// addSigningStatus shows the configuration and all that becomes of logins.
func (b *backend) addSigningStatus(ctx context.Context, stored *config, report *statusReport) error {
	shown := stored.summary()
	report.details["config"] = shown
	report.addConfig(stored, shown)
	stored.addTokensNotice(report.flat, time.Now())
	report.addTokensEnd(stored.TokensAcceptedUntil, time.Now())
	rotation, err := b.rotationStatus(ctx)
	if err != nil {
		return err
	}
	if rotation != nil {
		report.details["rotation"] = rotation
		if step := rotation["step"]; step != nil {
			report.flat["rotation_step"] = step
		}
	}
	logins, err := b.loginStatus(ctx)
	if err != nil {
		return err
	}
	report.addLogins(logins)
	current, err := b.connect(ctx)
	if err != nil {
		report.warn(troubleConfig, "The stored configuration cannot be used: write config anew.", err.Error())
		return nil
	}
	sessions, err := sessionStatus(ctx, current)
	if err != nil {
		return err
	}
	report.details["sessions"], report.flat["sessions_open"] = sessions, len(sessions)
	report.addRefusedLogins(refusedLogins(current))
	return b.addSigningTroubles(ctx, stored, report, shown)
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
			"signed_outside":   session.External,
		}
		fields.AddTaxpayer(one, session.Context)
		shown = append(shown, one)
	}
	return shown, nil
}

func limitsStatus(all map[ratelimit.Key][]ratelimit.Usage) []map[string]any {
	shown := make([]map[string]any, 0)
	for key, usages := range all {
		for _, usage := range usages {
			if isIdle(usage) {
				continue
			}
			shown = append(shown, usageSchema(key, usage))
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

func usageSchema(key ratelimit.Key, usage ratelimit.Usage) map[string]any {
	answer := map[string]any{
		"context":   key.Context,
		"endpoint":  usage.Endpoint,
		"waiting":   usage.Waiting,
		"next_slot": permitInUTC(usage.Next),
	}
	for window, share := range map[string]ratelimit.WindowUsage{"second": usage.Second, "minute": usage.Minute, "hour": usage.Hour} {
		if share.Limit > 0 {
			answer[window] = map[string]any{"used": share.Used, "free": max(0, share.Limit-share.Used), "limit": share.Limit}
		}
	}
	if !usage.BlockedUntil.IsZero() {
		answer["blocked_until"] = permitInUTC(usage.BlockedUntil)
	}
	return answer
}

// isIdle says that an endpoint's limits are of no interest: nothing is used, and nobody waits.
func isIdle(usage ratelimit.Usage) bool {
	return usage.Second.Used+usage.Minute.Used+usage.Hour.Used+usage.Waiting == 0 && usage.BlockedUntil.IsZero()
}

func statusSchema() map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{
		Description: "OK",
		Fields: map[string]*framework.FieldSchema{
			"summary":                       {Type: framework.TypeString, Description: "Whether all is well; otherwise the most important trouble, and what to do."},
			"plugin_version":                {Type: framework.TypeString, Description: "The plugin's version."},
			"mount_id":                      {Type: framework.TypeString, Description: "The id in the mark of this mount's tokens in KSeF: [vault:<mount_id>:...]; absent before the first."},
			"url":                           {Type: framework.TypeString, Description: "KSeF's API that the mount talks to."},
			"nip":                           {Type: framework.TypeString, Description: "Default taxpayer, where it is a NIP."},
			"internal_id":                   {Type: framework.TypeString, Description: "Default taxpayer, where it is an internal unit."},
			"signing":                       {Type: framework.TypeString, Description: "certificate, or external where a person signs logins."},
			"certificate_not_after":         {Type: framework.TypeTime, Description: "When the certificate that signs logins expires."},
			"session_until":                 {Type: framework.TypeTime, Description: "With external signing, when the login in the default context ends."},
			"sessions_open":                 {Type: framework.TypeInt, Description: "Logins in hand."},
			"logins_pending":                {Type: framework.TypeInt, Description: "Logins that a person has signed and KSeF has not decided."},
			"rotation_step":                 {Type: framework.TypeString, Description: "Step of the certificate's rotation: enroll, await, prove or retire; absent where none is in progress."},
			"tokens_issuing":                {Type: framework.TypeInt, Description: "Tokens asked for and not returned yet, or whose reply was lost."},
			"tokens_recovering":             {Type: framework.TypeInt, Description: "Those whose reply was lost: the engine looks for them and revokes them."},
			"tokens_live":                   {Type: framework.TypeInt, Description: "Tokens that are in use."},
			"tokens_revoking":               {Type: framework.TypeInt, Description: "Tokens whose revocation has begun and KSeF has not confirmed."},
			"revocation_queue_length":       {Type: framework.TypeInt, Description: "The same number, as the length of the queue."},
			"revocation_queue_oldest_since": {Type: framework.TypeTime, Description: "When the oldest of them was asked for."},
			"revocation_queue_next_attempt": {Type: framework.TypeTime, Description: "When the engine tries the oldest again."},
			"rate_limits_next_slot":         {Type: framework.TypeTime, Description: "When KSeF's limits let a request go at every endpoint; the time of this answer where none is used up."},
			"rate_limits_blocked_until":     {Type: framework.TypeTime, Description: "When KSeF's last block (429 with Retry-After) ends; absent where there is none."},
			"unreadable_entries":            {Type: framework.TypeInt, Description: "Storage entries that cannot be read and are skipped."},
			"last_error":                    {Type: framework.TypeString, Description: "The last failure that is not over, otherwise the last; with KSeF's trace id where it gave one."},
			"last_error_at":                 {Type: framework.TypeTime, Description: "When that was."},
			"last_error_resolved_at":        {Type: framework.TypeTime, Description: "When the same has succeeded since, or the role was deleted; absent while the failure is not known to be over."},
			"last_warning":                  {Type: framework.TypeString, Description: "The last X-System-Warning of KSeF."},
			"last_warning_at":               {Type: framework.TypeTime, Description: "When that was."},
			fieldVerbose: {Type: framework.TypeMap, Description: "The details. config; sessions, the logins in hand; logins, those that a person signs; " +
				"rotation, in progress and the last; rate_limits, KSeF's limits per context and endpoint that are in use: used, free and limit in each window, who waits, the next slot; " +
				"revocation_queue, with the oldest revocation and its last error; unreadable, the keys of storage entries; last_warning, with its endpoint."},
			fieldTokensNotice: tokensNoticeField(),
		},
	}}}
}

const helpStatus = `
Read the state of the mount. Nothing is asked of KSeF:

  vault read ksef/status

Begin with summary: it says whether all is well, and otherwise the most important
trouble and what to do. Everything that needs attention is a warning besides.

The other fields have one value each. verbose has the details, and is read best
with: vault read -format=yaml ksef/status
`

// maxUnreadableShown bounds the unreadable entries that status names.
const maxUnreadableShown = 20

// onUnreadable logs an entry once. Its value stays out of the log.
func (b *backend) onUnreadable(entry *logical.StorageEntry, err error) {
	if b.unreadable.Add(entry) {
		b.Logger().Error("a storage entry cannot be read and is skipped", "key", entry.Key, "error", err)
	}
}

// addUnreadable shows in status which entries are skipped.
func (b *backend) addUnreadable(ctx context.Context, report *statusReport) error {
	keys, err := b.unreadable.Keys(ctx)
	if err != nil {
		return err
	}
	count, shown := len(keys), keys[:min(len(keys), maxUnreadableShown)]
	report.flat["unreadable_entries"] = count
	report.details["unreadable"] = map[string]any{"count": count, "keys": shown}
	if count == 0 {
		return nil
	}
	more := ""
	if count > len(shown) {
		more = fmt.Sprintf(" and %d more", count-len(shown))
	}
	noun := "storage entries"
	if count == 1 {
		noun = "storage entry"
	}
	report.warn(troubleUnreadable, "Storage entries cannot be read and are skipped: find out who wrote them, and delete or write anew those that the warning names.",
		fmt.Sprintf("%d %s that cannot be read, and skipped: %s%s.%s", count, noun, strings.Join(shown, ", "), more, unreadableRemedies(shown)))
	return nil
}

// unreadableRemedies says what to do with each kind of entry among keys, by the first of its kind.
func unreadableRemedies(keys []string) string {
	kinds := []struct{ prefix, remedy string }{
		{ledger.StoragePrefix + "live/", " The token of a live record is revoked with: vault delete <mount>/tokens/%s"},
		{ledger.StoragePrefix + "ending/", " The token of an ending record is revoked with: vault delete <mount>/tokens/%s"},
		{rolesPrefix, " Write the role anew with all its fields, or: vault delete <mount>/roles/%s"},
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
