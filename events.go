// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// notices keeps the last things that an operator may want to know and that no request of his has
// asked for.
type notices struct {
	mu       sync.Mutex
	warning  *client.Warning
	failures failures
	// lastNotified is when something was last told that is told once a day.
	lastNotified map[string]time.Time
}

// daily is true once a day for each subject.
func (n *notices) daily(subject string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.lastNotified[subject]) < 24*time.Hour {
		return false
	}
	if n.lastNotified == nil {
		n.lastNotified = make(map[string]time.Time)
	}
	n.lastNotified[subject] = time.Now()
	return true
}

// freshWarningAge is how long a warning belongs to the request in progress.
const freshWarningAge = 30 * time.Second

func (n *notices) setWarning(warning client.Warning) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.warning = &warning
}

// setOutcome notes that something succeeded, for a nil error, or failed.
func (n *notices) setOutcome(of activity, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.failures.failed(of, err)
		return
	}
	n.failures.succeeded(of)
}

// roleDeleted notes that what KSeF has refused to the role is over.
func (n *notices) roleDeleted(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failures.roleDeleted(name)
}

func (n *notices) last() (*client.Warning, *failure) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.warning, n.failures.last()
}

// freshWarning is what KSeF has just warned of; "" for nothing.
func (n *notices) freshWarning() string {
	warning, _ := n.last()
	if warning == nil || time.Since(warning.At) > freshWarningAge {
		return ""
	}
	return fmt.Sprintf("KSeF warns at %s: %s", warning.Endpoint, warning.Text)
}

func (b *backend) onWarning(warning client.Warning) {
	b.notices.setWarning(warning)
	b.Logger().Warn("KSeF warns", "endpoint", warning.Endpoint, "warning", warning.Text)
}

// onLogin notes a login in status where its connection is in force: whether a configuration that is
// not stored can log in is no trouble of the mount.
func (b *backend) onLogin(used *connection, taxpayer client.ContextIdentifier, err error) {
	if b.connection.get() == used {
		b.notices.setOutcome(activity{kind: kindLogin, taxpayer: taxpayer}, err)
	}
	b.reportLogin(taxpayer, err)
}

func (b *backend) onExternalLoginFailed(taxpayer client.ContextIdentifier, err error) {
	b.notices.setOutcome(activity{kind: kindLogin, taxpayer: taxpayer}, err)
	b.reportLogin(taxpayer, err)
}

// reportLogin logs and publishes what has become of a login.
func (b *backend) reportLogin(taxpayer client.ContextIdentifier, err error) {
	if err != nil {
		b.Logger().Error("the login to KSeF failed", "context", taxpayer.String(), "error", err)
		b.sendBackgroundEvent("login-fail", "config", "context", taxpayer.String(), "error", err.Error())
		return
	}
	b.Logger().Info("logged in to KSeF", "context", taxpayer.String())
	b.sendBackgroundEvent("login", "config", "context", taxpayer.String())
}

// logConfigured notes what a configuration that was written shows to be over: the failure of a
// login that was proven, of one for the taxpayer before, and of a rotation of the certificate
// before.
func (b *backend) logConfigured(before, next *config, unproven string) {
	if before != nil && before.Context != next.Context {
		b.notices.setOutcome(activity{kind: kindLogin, taxpayer: before.Context}, nil)
	}
	if unproven == "" {
		b.notices.setOutcome(activity{kind: kindLogin, taxpayer: next.Context}, nil)
	}
	if replaces(before, next) {
		b.notices.setOutcome(activity{kind: kindRotation}, nil)
	}
}

// onLedgerEvent logs and publishes what happened to a token.
func (b *backend) onLedgerEvent(event ledger.Event) {
	record := event.Record
	fields := []any{
		"reference_number", record.ReferenceNumber, "context", record.Target.Context.String(), "role", record.Role,
	}
	if what := activityOf(event); what.kind != "" {
		b.notices.setOutcome(what, event.Err)
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
	b.sendBackgroundEvent(event.Kind, "tokens", metadata...)
}

// activityOf is zero for an event that says nothing new of KSeF.
func activityOf(event ledger.Event) activity {
	record := event.Record
	switch event.Kind {
	case ledger.EventIssue, ledger.EventIssueFail:
		return activity{kindIssue, record.Target.Context, record.Role}
	case ledger.EventRevoke, ledger.EventRevokeFail:
		return activity{kindRevoke, record.Target.Context, record.ReferenceNumber}
	}
	return activity{}
}

// eventTimeout bounds the sending of an event that no request waits for.
const eventTimeout = 5 * time.Second

func (b *backend) sendBackgroundEvent(kind, path string, metadata ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), eventTimeout)
	defer cancel()
	b.sendEvent(ctx, kind, path, metadata...)
}

// sendEvent publishes an event such as ksef/token-issue. Empty values are left out. That nobody can
// receive events is no fault.
func (b *backend) sendEvent(ctx context.Context, kind, path string, metadata ...string) {
	pairs := []string{logical.EventMetadataDataPath, path}
	for i := 0; i+1 < len(metadata); i += 2 {
		if metadata[i+1] != "" {
			pairs = append(pairs, metadata[i], metadata[i+1])
		}
	}
	err := logical.SendEvent(ctx, b, "ksef/"+kind, pairs...)
	if err != nil && !errors.Is(err, framework.ErrNoEvents) {
		b.Logger().Debug("an event could not be sent", "event", kind, "error", err)
	}
}
