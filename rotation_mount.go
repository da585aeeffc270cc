// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/notices"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/rotation"
)

// rotationMount is the mount as a rotation of its credential sees it.
type rotationMount struct {
	*backend

	mu sync.Mutex
	// proven is the connection of a credential that has logged in and is not in force yet.
	proven *connection
}

// Current implements rotation.Mount.
func (m *rotationMount) Current(ctx context.Context) (*rotation.Current, error) {
	connected, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	cred, err := connected.config.credential()
	if err != nil {
		return nil, err
	}
	if cred != nil {
		return &rotation.Current{Subject: cred.Identity.Subject(), Certificate: cred.Certificate}, nil
	}
	taxpayer := connected.config.Context
	session, err := connected.sessions.Known(ctx, taxpayer)
	if err != nil {
		return nil, err
	}
	if session == nil {
		if err := m.undecidedLogin(ctx, taxpayer); err != nil {
			return nil, err
		}
	}
	if session == nil || session.Subject == "" {
		return nil, &client.InputError{
			Field: "login", Fault: "has not been made in " + taxpayer.String() + " with a signature that carries its certificate",
			Remedy: "have a person sign the answer of login/begin, certificate included, and bring it to login/complete",
		}
	}
	return &rotation.Current{Subject: session.Subject}, nil
}

// Upstream implements rotation.Mount.
func (m *rotationMount) Upstream(ctx context.Context) (rotation.Upstream, error) {
	connected, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	return connected.upstream(m.backend, connected.config.Context, ratelimit.Wait{AtMost: authMaxWait}), nil
}

// Prove implements rotation.Mount.
func (m *rotationMount) Prove(ctx context.Context, fresh rotation.Credential) error {
	stored, err := readConfig(ctx, m.storage)
	if err != nil {
		return err
	}
	if stored == nil {
		return errNotConfigured
	}
	built, err := m.buildWith(stored, fresh)
	if err != nil {
		return err
	}
	if err := built.sessions.Prove(ctx, built.config.Context); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.proven = built
	return nil
}

func (m *rotationMount) buildWith(stored *config, fresh rotation.Credential) (*connection, error) {
	next := *stored
	next.Certificate, next.PrivateKey = fresh.Certificate, fresh.PrivateKey
	cred, err := next.credential()
	if err != nil {
		return nil, err
	}
	next.SubjectIdentifierType, next.CertificateMade = cred.Identity.SubjectIdentifierType(), true
	return m.build(&next)
}

// Switch implements rotation.Mount. Requests in progress go on under the new credential.
func (m *rotationMount) Switch(ctx context.Context, fresh rotation.Credential) error {
	if err := m.connection.lock.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for the configuration: %w", err)
	}
	defer m.connection.lock.Release(1)
	stored, err := readConfig(ctx, m.storage)
	if err != nil {
		return err
	}
	if stored == nil {
		return errNotConfigured
	}
	next, err := m.takeProven(stored, fresh)
	if err != nil {
		return err
	}
	if err := next.config.store(ctx, m.storage); err != nil {
		return err
	}
	before := m.connection.get()
	m.connection.replace(next)
	if before != nil && before != next {
		before.sessions.ReplaceWith(next.sessions)
	}
	m.ledger.Retry()
	return nil
}

// takeProven is the connection that Prove has made, unless the configuration has changed since.
func (m *rotationMount) takeProven(stored *config, fresh rotation.Credential) (*connection, error) {
	built, err := m.buildWith(stored, fresh)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	proven := m.proven
	m.proven = nil
	if proven != nil && reflect.DeepEqual(proven.config, built.config) {
		return proven, nil
	}
	return built, nil
}

// Supersede implements rotation.Mount.
func (m *rotationMount) Supersede(ctx context.Context) error {
	connected, err := m.connect(ctx)
	if err != nil {
		return err
	}
	return connected.sessions.Supersede(ctx)
}

// rotate begins a rotation, or joins the one in progress, and carries it on until it has ended or
// has to wait: then the engine goes on by itself, and status tells why. joined says that one was in
// progress. The error is why it failed.
func (b *backend) rotate(ctx context.Context, request rotation.Request) (joined bool, err error) {
	err = b.rotation.Begin(ctx, request)
	var lost *rotation.LostReplyError
	joined = errors.Is(err, rotation.ErrInProgress)
	if err != nil && !joined && !errors.As(err, &lost) {
		return false, err
	}
	if joined {
		b.rotation.RetryNow()
	}
	defer b.maintenance.Wake()
	ctx, cancel := context.WithTimeout(ctx, longStep)
	defer cancel()
	_, err = b.rotation.Await(ctx)
	return joined, err
}

func (b *backend) onRotationEvent(event rotation.Event) {
	fields := []any{"certificate_name", event.Name, "certificate_serial_number", event.SerialNumber, "retired_serial_number", event.Retired}
	metadata := []string{
		"certificate_name", event.Name, "certificate_serial_number", event.SerialNumber, "retired_serial_number", event.Retired,
		"automatic", fmt.Sprint(event.Automatic),
	}
	if event.Kind != rotation.EventBegin && !errors.Is(event.Err, rotation.ErrAbandoned) {
		b.notices.SetOutcome(notices.Activity{Kind: notices.Rotation}, event.Err)
	}
	if event.Err != nil {
		fields, metadata = append(fields, "error", event.Err), append(metadata, "error", event.Err.Error())
		b.Logger().Error(event.Kind, fields...)
	} else {
		b.Logger().Info(event.Kind, fields...)
	}
	b.sendBackgroundEvent(event.Kind, "config/rotate-root", metadata...)
}
