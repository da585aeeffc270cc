// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"fmt"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// CheckMountID checks a mount's identifier that a person has typed.
func CheckMountID(value string) error {
	if mountIDPattern.MatchString(value) {
		return nil
	}
	return &client.InputError{
		Field: "mount_id", Fault: "is not the id of a mount",
		Remedy: "give the 12 digits, 0 to 9 and a to f, that follow \"vault:\" in the description of its tokens; the log and status of the mount have shown them too",
	}
}

// FormerTokens lists the living tokens in a context that carry the mark of another mount. It fails
// where it could not read all pages.
func (l *Ledger) FormerTokens(ctx context.Context, target Target, mountID string) ([]client.Token, error) {
	api, err := l.Open(ctx, target, ratelimit.Wait{AtMost: tidyMaxWait, Background: true})
	if err != nil {
		return nil, err
	}
	query := client.TokenQuery{
		Description: mountMark(mountID), Statuses: []string{string(client.StatusPending), string(client.StatusActive)},
	}
	var found []client.Token
	err = eachPage(ctx, api, query, func(tokens []client.Token) (more bool) {
		for _, token := range tokens {
			if mount, _, marked := parseMarker(token.Description); marked && mount == mountID {
				found = append(found, token)
			}
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("reading KSeF's list: %w", err)
	}
	return found, nil
}

// RevokeFormer revokes tokens that FormerTokens has listed, one after the other, and returns the
// numbers of those whose end KSeF has confirmed. The error is why it has stopped before the last.
func (l *Ledger) RevokeFormer(ctx context.Context, target Target, tokens []client.Token) (revoked []string, err error) {
	api, err := l.Open(ctx, target, ratelimit.Wait{AtMost: tidyMaxWait, Background: true})
	if err != nil {
		return nil, err
	}
	var refused error
	for _, token := range tokens {
		err := l.reconciler.revokeUpstream(ctx, api, &Record{ReferenceNumber: token.ReferenceNumber, Target: target})
		switch {
		case err == nil:
			revoked = append(revoked, token.ReferenceNumber)
		case scopeOf(err) == ofTask:
			refused = err
		default:
			return revoked, err
		}
	}
	return revoked, refused
}

// formerAPI is the API of a token that only its lease knows, "" of every other: each token that
// this mount has issued has a description.
func formerAPI(record *Record) string {
	if record.Description != "" {
		return ""
	}
	return record.Target.API
}

// formerRemedy says which configuration can revoke a former mount's token.
func formerRemedy(api string, taxpayer client.ContextIdentifier) string {
	field := "nip"
	if taxpayer.Type == client.ContextInternalID {
		field = "internal_id"
	}
	return fmt.Sprintf(". The token was issued by a mount that was at this path before: to revoke it this mount needs a config "+
		"with url=%s and a credential that may revoke tokens in %s=%s", api, field, taxpayer.Value)
}
