// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/notices"
)

func (b *backend) onWarning(warning client.Warning) {
	b.notices.SetWarning(warning)
	b.Logger().Warn("KSeF warns", "endpoint", warning.Endpoint, "warning", warning.Text)
}

// onLogin records a login whose connection is in force: whether an unstored configuration can log
// in is not of the mount's concern.
func (b *backend) onLogin(used *connection, taxpayer client.ContextIdentifier, err error) {
	if b.connection.get() == used {
		b.notices.SetOutcome(notices.Activity{Kind: notices.Login, Taxpayer: taxpayer}, err)
	}
	b.reportLogin(taxpayer, err)
}

func (b *backend) onExternalLoginFailed(taxpayer client.ContextIdentifier, err error) {
	b.notices.SetOutcome(notices.Activity{Kind: notices.Login, Taxpayer: taxpayer}, err)
	b.reportLogin(taxpayer, err)
}

// reportLogin logs and publishes the outcome of a login.
func (b *backend) reportLogin(taxpayer client.ContextIdentifier, err error) {
	if err != nil {
		b.Logger().Error("the login to KSeF failed", "context", taxpayer.String(), "error", err)
		b.events.Publish("login-fail", "config", "context", taxpayer.String(), "error", err.Error())
		return
	}
	b.Logger().Info("logged in to KSeF", "context", taxpayer.String())
	b.events.Publish("login", "config", "context", taxpayer.String())
}

// logConfigured resolves failures that a new configuration has ended: of a login that was proven,
// of one for the former taxpayer, and of a rotation of the former certificate.
func (b *backend) logConfigured(before, next *config, unproven string) {
	if before != nil && before.Context != next.Context {
		b.notices.SetOutcome(notices.Activity{Kind: notices.Login, Taxpayer: before.Context}, nil)
	}
	if unproven == "" {
		b.notices.SetOutcome(notices.Activity{Kind: notices.Login, Taxpayer: next.Context}, nil)
	}
	if invalidatesSessions(before, next) {
		b.notices.SetOutcome(notices.Activity{Kind: notices.Rotation}, nil)
	}
}

// onLedgerEvent logs and publishes what happened to a token.
func (b *backend) onLedgerEvent(event ledger.Event) {
	record := event.Record
	fields := []any{
		"reference_number", record.ReferenceNumber, "context", record.Target.Context.String(), "role", record.Role,
	}
	if what := activityOf(event); what.Kind != "" {
		b.notices.SetOutcome(what, event.Err)
	}
	if event.Err != nil {
		b.Logger().Warn(event.Kind, append(fields, "error", event.Err)...)
	} else {
		b.Logger().Info(event.Kind, fields...)
	}
	metadata := []string{
		"reference_number", record.ReferenceNumber, "context", record.Target.Context.String(),
		"role", record.Role, "cause", record.Cause,
	}
	if event.Err != nil {
		metadata = append(metadata, "error", event.Err.Error())
	}
	b.events.Publish(event.Kind, "tokens", metadata...)
}

// activityOf returns zero for an event that is no outcome of a request to KSeF.
func activityOf(event ledger.Event) notices.Activity {
	record := event.Record
	switch event.Kind {
	case ledger.EventIssue, ledger.EventIssueFail:
		return notices.Activity{Kind: notices.Issue, Taxpayer: record.Target.Context, Object: record.Role}
	case ledger.EventRevoke, ledger.EventRevokeFail:
		return notices.Activity{Kind: notices.Revoke, Taxpayer: record.Target.Context, Object: record.ReferenceNumber}
	}
	return notices.Activity{}
}
