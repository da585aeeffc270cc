// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package ksef is a Vault secrets engine for KSeF, Poland's e-invoice system: it has KSeF make
// tokens, hands them out as leases, and revokes them in KSeF when the leases end.
package ksef

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/internal/admission"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/events"
	"vault-plugin-secrets-ksef/internal/externallogin"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/limiters"
	"vault-plugin-secrets-ksef/internal/mountpath"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/report"
	"vault-plugin-secrets-ksef/internal/rotation"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/internal/unleased"
	"vault-plugin-secrets-ksef/internal/unreadable"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

const (
	// operationPrefix begins the names of operations in the OpenAPI document that Vault makes of
	// this engine.
	operationPrefix = "ksef"
	// cleanupTimeout bounds what a mount writes when it is unloaded.
	cleanupTimeout = 5 * time.Second
)

// NewFactory returns the factory of the engine's mounts. version is what Vault shows as the running
// version. All mounts of one factory share KSeF's request limits, since KSeF counts their requests
// together.
func NewFactory(version string) logical.Factory {
	return Options{Version: version}.Factory()
}

// Options are what the mounts of a factory have in common. Tests replace Transport.
type Options struct {
	Version string
	// Transport carries the requests to KSeF; nil is HTTP.
	Transport http.RoundTripper
}

// Factory returns the factory of mounts with these options.
func (want Options) Factory() logical.Factory {
	loaded, registry := &sync.Map{}, ratelimit.NewRegistry()
	return func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		b := newBackend(want.Version, conf.StorageView, registry, want.Transport)
		seen := *conf
		seen.System = newSystemView(conf.System)
		if err := b.Setup(ctx, &seen); err != nil {
			return nil, fmt.Errorf("setting up the KSeF secrets engine: %w", err)
		}
		b.open()
		b.loaded = loaded
		loaded.Store(b.ledger, nil)
		return b, nil
	}
}

// backend is one mount of the engine.
type backend struct {
	*framework.Backend
	storage    logical.Storage
	userAgent  string
	transport  http.RoundTripper
	limiters   *limiters.Set
	ledger     *ledger.Ledger
	connection connections
	// roles and staticRoles are those that were read.
	roles       roleCache[role]
	staticRoles roleCache[staticRole]
	// parsing is held while a written credential is read.
	parsing     *semaphore.Weighted
	rotation    *rotation.Rotation
	logins      *externallogin.Logins
	maintenance *background.Loop
	unreadable  *unreadable.Entries
	events      *events.Publisher
	report      *report.Reporter
	unmounting  unmounting
	// loaded has the ledgers of all mounts that the process serves.
	loaded *sync.Map
	// firstLogins bounds what allowed_contexts=* lets in.
	firstLogins admission.FirstLogins
	openTargets *admission.OpenTargets
	// holders have the tokens without a lease, access the access tokens.
	holders       *unleased.Holders
	holderWork    *background.Loop
	access        *accesstoken.Tokens
	deadTokens    *deadTokens
	sessionRights sessionRights
}

func newBackend(version string, storage logical.Storage, registry *ratelimit.Registry, transport http.RoundTripper) *backend {
	b := &backend{
		userAgent:  "vault-plugin-secrets-ksef/" + strings.TrimPrefix(version, "v"),
		transport:  transport,
		deadTokens: newDeadTokens(),
	}
	b.storage = b.storageOf(storage)
	b.unreadable = unreadable.New(b.storage)
	b.limiters = limiters.New(registry, b.storage, b.onUnreadable)
	b.connection.lock = semaphore.NewWeighted(1)
	b.parsing = semaphore.NewWeighted(1)
	b.Backend = &framework.Backend{
		Help:           strings.TrimSpace(helpMount),
		BackendType:    logical.TypeLogical,
		RunningVersion: version,
		PathsSpecial: &logical.Paths{
			Root: []string{tidyFormerPath},
			SealWrapStorage: []string{
				configKey, session.StoragePrefix, session.AccessPrefix, externallogin.StoragePrefix, rotation.StorageKey, ledger.TextPrefix,
			},
		},
		Paths: framework.PathAppend(
			b.pathCreds(), // first, since the SDK tries the patterns in this order
			b.pathTokens(),
			b.pathToken(),
			b.pathRoles(),
			b.pathStaticImport(), // before the static roles, for the same reason
			b.pathStaticRoles(),
			b.pathStaticCreds(),
			b.pathRotateRole(),
			b.pathRotateAccess(),
			b.pathConfig(),
			b.pathRotateRoot(),
			b.pathLogin(),
			b.pathStatus(),
			b.pathTidy(),
		),
		Secrets:          []*framework.Secret{b.secretToken(), b.secretAccess()},
		InitializeFunc:   b.initialize,
		PeriodicFunc:     b.periodic,
		RotateCredential: b.rotateCredential,
		Invalidate:       b.invalidate,
		Clean:            b.clean,
	}
	return b
}

// open makes the parts of the mount. They need the logger that Setup sets.
func (b *backend) open() {
	b.events = events.NewPublisher(b, b.Logger().Named("events"))
	b.report = report.NewReporter(b.Logger(), b.events)
	b.ledger = ledger.New(ledger.Options{
		Storage: b.storage, Upstream: b.openUpstream, NextPermit: b.nextPermit, Probe: b.probe, OnEvent: b.report.Token,
		Logger: b.Logger().Named("ledger"), OnUnreadable: b.onUnreadable, SelfUpstream: b.openItself,
	})
	b.holders = unleased.New(unleased.Options{
		Storage: b.storage, Ledger: b.ledger, Spec: b.holderSpec, OnEvent: b.report.Holder, OnUnreadable: b.onUnreadable,
		Wake: func() { b.holderWork.Wake() }, Logger: b.Logger().Named("unleased"),
	})
	b.access = accesstoken.New(accesstoken.Options{
		Storage: b.storage, KSeF: b.accessKSeF, Login: b.accessLogin, OnLogin: b.onAccessLogin, OnUnread: b.onUnreadAccess,
		Logger: b.Logger().Named("access"),
	})
	b.openTargets = admission.NewOpenTargets(b.ledger.OpenTargets)
	b.rotation = rotation.New(rotation.Options{
		Storage: b.storage, Config: rotationConfig{b}, OnEvent: b.report.Rotation, Logger: b.Logger().Named("rotation"),
		OnUnreadable: b.onUnreadable,
	})
	b.logins = externallogin.New(externallogin.Options{
		Storage: b.storage, Open: b.openLogin, Admit: b.admitSigner, OnFail: b.report.Login,
		OnUnreadable: b.onUnreadable,
	})
	b.maintenance, b.holderWork = b.newMaintenance(), b.newHolderWork()
}

// initialize starts the reconciler and the maintenance where this node may write. What cannot be
// read now is read when it is needed: a mount that is in trouble must still load.
func (b *backend) initialize(ctx context.Context, _ *logical.InitializationRequest) error {
	if !b.WriteSafeReplicationState() {
		return nil
	}
	stored, err := readConfig(ctx, b.storage)
	if err == nil && stored != nil {
		err = errors.Join(b.limiters.OpenStored(ctx, stored.URL), b.limiters.OpenOwn(ctx, stored.URL, stored.Context))
	}
	if err != nil {
		b.Logger().Error("the state of KSeF's request limits could not be read at the start", "error", err)
	}
	b.Logger().Info("the mount has been loaded", "mount_id", b.mountID(ctx))
	b.ledger.Start()
	b.maintenance.Start()
	b.holderWork.Start()
	b.access.Start()
	return nil
}

// periodic drops what is idle, and wakes the background work: Vault calls it each minute.
func (b *backend) periodic(ctx context.Context, _ *logical.Request) error {
	b.connection.dropIdle()
	if b.WriteSafeReplicationState() {
		b.followTaint(ctx)
		b.ledger.Start()
		b.ledger.Wake()
		b.maintenance.Start()
		b.maintenance.WakeIfLate()
		b.holderWork.Start()
		b.holderWork.WakeIfLate()
		b.access.Start()
		b.access.WakeIfLate()
		b.dropIdleLimits(ctx)
	}
	return nil
}

// invalidate drops from memory what another node has changed in storage.
func (b *backend) invalidate(_ context.Context, key string) {
	switch {
	case key == configKey:
		b.connection.replace(nil)
	case strings.HasPrefix(key, rolesPrefix), strings.HasPrefix(key, staticRolesPrefix):
		b.forgetRole(key)
	case strings.HasPrefix(key, unleased.StoragePrefix):
		b.holders.Invalidate()
	case strings.HasPrefix(key, session.StoragePrefix):
		b.connection.forget(session.ContextOf(key))
	}
}

// clean stops the reconciler and the maintenance, writes what must survive, and publishes the last
// events.
func (b *backend) clean(ctx context.Context) {
	b.endTokens(ctx)
	b.access.Stop()
	b.maintenance.Stop()
	b.holderWork.Stop()
	b.ledger.Stop()
	// The time for writing begins when nothing else goes on, however long that has taken.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := b.limiters.Close(ctx); err != nil {
		b.Logger().Warn("the state of KSeF's request limits could not be stored; the next start takes what was reserved as used", "error", err)
	}
	b.events.Close(ctx)
	b.connection.replace(nil)
	b.loaded.Delete(b.ledger)
	b.Logger().Info("the mount has been unloaded", "mount_id", b.mountID(ctx))
}

// HandleRequest refuses fields that a path does not have and values of a wrong kind, ignores such
// fields of a read, and keeps a panic in one mount from ending the process that serves them all.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (_ *logical.Response, err error) {
	defer background.Recover(b.Logger(), "the "+string(req.Operation)+" of "+req.Path, &err)
	known, warnings, err := fields.Check(b.Route, req)
	if err != nil {
		return logical.ErrorResponse(err.Error()), nil
	}
	checked := *req
	checked.Data, checked.Storage = known, b.storageOf(req.Storage)
	response, err := b.Backend.HandleRequest(ctx, &checked)
	if err == nil && response != nil && !response.IsError() {
		fields.AddWarnings(response, warnings...)
	}
	return mountpath.Name(req.MountPoint, response, err)
}

// HandleExistenceCheck decides by the path alone whether a request creates something. HandleRequest
// checks the fields, so that no error here can quote them.
func (b *backend) HandleExistenceCheck(ctx context.Context, req *logical.Request) (checked, exists bool, err error) {
	defer background.Recover(b.Logger(), "the existence check of "+req.Path, &err)
	bare := *req
	bare.Data, bare.Storage = nil, b.storageOf(req.Storage)
	return b.Backend.HandleExistenceCheck(ctx, &bare)
}

const helpMount = `
The KSeF secrets engine hands out KSeF tokens as leases. KSeF is Poland's
e-invoice system. A program logs in to it with a token, which never expires by
itself, has fixed permissions in one taxpayer's context, and is shown once.

With this engine a token lives only as long as its lease. Reading creds/<role> or
writing to tokens has KSeF make one. When the lease ends or is revoked, or the
Vault token that it belongs to ends, the engine has KSeF revoke the KSeF token.

It also keeps secrets alive itself, which any number of programs may read at no cost to
KSeF and without a lease: access tokens, KSeF's JWTs of 15 minutes, of roles with
credential_type=access_token (creds/<role>), and tokens of static roles, which it
rotates (static-roles/<name>, static-creds/<name>).

The credential that makes the tokens is a certificate with its private key. Write
it to config once; it is never read back. Or have a person sign one login
(login/begin), and let config/rotate-root make a key that never leaves Vault.

Write config first, then a role, then read creds/<role>.
`
