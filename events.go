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

// notices keeps the last things that an operator may want to know and that no
// request of his has asked for.
type notices struct {
	mu      sync.Mutex
	warning *client.Warning
	failure *failure
	// told is when something was last told that is told once a day.
	told map[string]time.Time
}

// daily is true once a day for each subject.
func (n *notices) daily(subject string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.told[subject]) < 24*time.Hour {
		return false
	}
	if n.told == nil {
		n.told = make(map[string]time.Time)
	}
	n.told[subject] = time.Now()
	return true
}

// failure is the last error that KSeF has given.
type failure struct {
	at  time.Time
	err error
}

// freshWarningAge is how long a warning belongs to the request under way.
const freshWarningAge = 30 * time.Second

func (n *notices) setWarning(warning client.Warning) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.warning = &warning
}

func (n *notices) setFailure(err error) {
	if err == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failure = &failure{at: time.Now(), err: err}
}

func (n *notices) last() (*client.Warning, *failure) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.warning, n.failure
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

func (b *backend) onLogin(in client.Context, err error) {
	if err != nil {
		b.notices.setFailure(err)
		b.Logger().Error("the login to KSeF failed", "context", in.String(), "error", err)
		b.sendBackgroundEvent("login-fail", "config", "context", in.String(), "error", err.Error())
		return
	}
	b.Logger().Info("logged in to KSeF", "context", in.String())
	b.sendBackgroundEvent("login", "config", "context", in.String())
}

// onLedgerEvent logs and publishes what happened to a token.
func (b *backend) onLedgerEvent(event ledger.Event) {
	record := event.Record
	fields := []any{
		"reference_number", record.ReferenceNumber, "context", record.Target.Context.String(), "role", record.Role,
	}
	if event.Err != nil {
		if event.Kind != ledger.EventRevokeWait {
			b.notices.setFailure(event.Err)
		}
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

// eventTimeout bounds the sending of an event that no request waits for.
const eventTimeout = 5 * time.Second

func (b *backend) sendBackgroundEvent(kind, path string, metadata ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), eventTimeout)
	defer cancel()
	b.sendEvent(ctx, kind, path, metadata...)
}

// sendEvent publishes an event such as ksef/token-issue. Empty values are left
// out. That nobody can receive events is no fault.
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
