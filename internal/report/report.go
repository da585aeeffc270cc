// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package report reports what has happened to tokens, logins and rotations: to the log, to Vault's
// event bus, and to the notices that status shows.
package report

import (
	"errors"
	"fmt"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/events"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/rotation"
	"vault-plugin-secrets-ksef/internal/unleased"

	"github.com/hashicorp/go-hclog"
)

// Reporter is safe for concurrent use.
type Reporter struct {
	Notices
	logger hclog.Logger
	events *events.Publisher
}

// NewReporter returns a reporter of a mount.
func NewReporter(logger hclog.Logger, events *events.Publisher) *Reporter {
	return &Reporter{logger: logger, events: events}
}

// Warning reports a warning of KSeF. It is no event.
func (r *Reporter) Warning(warning client.Warning) {
	r.SetWarning(warning)
	r.logger.Warn("KSeF warns", "endpoint", warning.Endpoint, "warning", warning.Text)
}

// Login reports a login, with a nil error for a success.
func (r *Reporter) Login(taxpayer client.ContextIdentifier, err error) {
	r.SetOutcome(Activity{Kind: Login, Taxpayer: taxpayer}, err)
	r.UnstoredLogin(taxpayer, err)
}

// UnstoredLogin reports a login with a configuration that is not in force. Status does not show its
// failure.
func (r *Reporter) UnstoredLogin(taxpayer client.ContextIdentifier, err error) {
	if err != nil {
		r.logger.Error("the login to KSeF failed", "context", taxpayer.String(), "error", err)
		r.events.Publish("login-fail", "config", "context", taxpayer.String(), "error", err.Error())
		return
	}
	r.logger.Info("logged in to KSeF", "context", taxpayer.String())
	r.events.Publish("login", "config", "context", taxpayer.String())
}

// AccessLogin reports a login behind the access tokens of a role, with a nil error for a success.
func (r *Reporter) AccessLogin(role string, taxpayer client.ContextIdentifier, err error) {
	r.SetOutcome(Activity{Kind: Access, Taxpayer: taxpayer, Object: role}, err)
	metadata := []string{"role", role, "context", taxpayer.String()}
	if err != nil {
		r.logger.Error("the login behind an access token failed", "role", role, "context", taxpayer.String(), "error", err)
		r.events.Publish("access-login-fail", "creds/"+role, append(metadata, "error", err.Error())...)
		return
	}
	r.logger.Info("logged in to KSeF for access tokens", "role", role, "context", taxpayer.String())
	r.events.Publish("access-login", "creds/"+role, metadata...)
}

// Holder reports what has happened to the token of a static role or of an access-token role.
func (r *Reporter) Holder(event unleased.Event) {
	key := event.Key
	path, object := "static-creds/"+key.Role, StaticRole(key.Role)
	if key.Kind == ledger.HolderAccess {
		path, object = "creds/"+key.Role, key.Role
	}
	r.SetOutcome(Activity{Kind: TokenRotation, Taxpayer: key.Taxpayer, Object: object}, event.Err)
	metadata := []string{
		"holder", string(key.Kind), "role", key.Role,
		"reference_number", event.ReferenceNumber, "previous", event.Previous, "automatic", fmt.Sprint(event.Automatic),
	}
	if !key.Taxpayer.IsZero() { // that of a static role is in the events of its tokens
		metadata = append(metadata, "context", key.Taxpayer.String())
	}
	fields := make([]any, 0, len(metadata)+2)
	for _, value := range metadata {
		fields = append(fields, value)
	}
	if event.Err != nil {
		r.logger.Error(event.Kind, append(fields, "error", event.Err)...)
		r.events.Publish(event.Kind, path, append(metadata, "error", event.Err.Error())...)
		return
	}
	r.logger.Info(event.Kind, fields...)
	r.events.Publish(event.Kind, path, metadata...)
}

// Rotation reports what has happened to a rotation of the certificate.
func (r *Reporter) Rotation(event rotation.Event) {
	fields := []any{"certificate_name", event.Name, "certificate_serial_number", event.SerialNumber, "retired_serial_number", event.Retired}
	metadata := []string{
		"certificate_name", event.Name, "certificate_serial_number", event.SerialNumber, "retired_serial_number", event.Retired,
		"automatic", fmt.Sprint(event.Automatic),
	}
	if event.Kind != rotation.EventBegin && !errors.Is(event.Err, rotation.ErrAbandoned) {
		r.SetOutcome(Activity{Kind: Rotation}, event.Err)
	}
	if event.Err != nil {
		fields, metadata = append(fields, "error", event.Err), append(metadata, "error", event.Err.Error())
		r.logger.Error(event.Kind, fields...)
	} else {
		r.logger.Info(event.Kind, fields...)
	}
	r.events.Publish(event.Kind, "config/rotate-root", metadata...)
}

// Token reports what has happened to a token.
func (r *Reporter) Token(event ledger.Event) {
	record, role := event.Record, event.Record.Role
	if record.Unleased() {
		role = record.Holder.Role
	}
	fields := []any{
		"reference_number", record.ReferenceNumber, "context", record.Target.Context.String(), "role", role,
	}
	if record.Unleased() {
		fields = append(fields, "holder", record.Holder.Kind)
	}
	if what := activityOf(event); what.Kind != "" {
		r.SetOutcome(what, event.Err)
	}
	if event.Err != nil {
		r.logger.Warn(event.Kind, append(fields, "error", event.Err)...)
	} else {
		r.logger.Info(event.Kind, fields...)
	}
	metadata := []string{
		"reference_number", record.ReferenceNumber, "context", record.Target.Context.String(),
		"role", role, "cause", record.Cause,
	}
	if record.Unleased() {
		metadata = append(metadata, "holder", string(record.Holder.Kind))
	}
	if event.Err != nil {
		metadata = append(metadata, "error", event.Err.Error())
	}
	r.events.Publish(event.Kind, "tokens", metadata...)
}

// activityOf returns zero for an event that is no outcome of a request to KSeF.
func activityOf(event ledger.Event) Activity {
	record := event.Record
	switch event.Kind {
	case ledger.EventIssue, ledger.EventIssueFail:
		return Activity{Kind: Issue, Taxpayer: record.Target.Context, Object: objectOf(record)}
	case ledger.EventRevoke, ledger.EventRevokeFail:
		return Activity{Kind: Revoke, Taxpayer: record.Target.Context, Object: record.ReferenceNumber}
	}
	return Activity{}
}

// objectOf returns what a token is issued for. A static role may have the name of a role.
func objectOf(record ledger.Record) string {
	switch record.Holder.Kind {
	case ledger.HolderStatic:
		return StaticRole(record.Holder.Role)
	case ledger.HolderAccess:
		return record.Holder.Role
	}
	return record.Role
}

// StaticRole names a static role in an Activity, and so to RoleDeleted.
func StaticRole(name string) string { return "static-roles/" + name }
