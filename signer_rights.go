// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/session"

	"golang.org/x/sync/semaphore"
)

const (
	// rightsMaxWait bounds what a write waits for KSeF to tell the signer's rights, all waits
	// included.
	rightsMaxWait = 5 * time.Second
	// rightsLast is how long an answer serves the role writes that come after it, also the answer
	// that KSeF did not give.
	rightsLast = 5 * time.Minute
	// rightsAtMost bounds how many answers are kept.
	rightsAtMost = 200
	// rolesNamedAtMost bounds the roles that a warning names.
	rolesNamedAtMost = 10

	permissionCredentialsManage = "CredentialsManage"
)

// signerRights are KSeF's last answers on the rights of the signer, by taxpayer. They belong to one
// connection, so that each write of config drops them.
type signerRights struct {
	// turn is held by the request that asks; those that would ask the same wait for its answer.
	lock *semaphore.Weighted

	mu    sync.Mutex
	known map[client.ContextIdentifier]knownRights
}

// knownRights is an answer to a session.
type knownRights struct {
	session string
	at      time.Time
	grants  *client.Grants // nil where KSeF did not answer
}

func newSignerRights() *signerRights {
	return &signerRights{lock: semaphore.NewWeighted(1), known: make(map[client.ContextIdentifier]knownRights)}
}

// recall returns the answer that the session has had within rightsLast.
func (r *signerRights) recall(in *session.Session) (grants *client.Grants, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.known[in.Context]
	if found.session != in.ReferenceNumber || time.Since(found.at) > rightsLast {
		return nil, false
	}
	return found.grants, true
}

func (r *signerRights) remember(in *session.Session, grants *client.Grants) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= rightsAtMost {
		r.known = make(map[client.ContextIdentifier]knownRights)
	}
	r.known[in.Context] = knownRights{session: in.ReferenceNumber, at: time.Now(), grants: grants}
}

// roleRightsWarnings says what KSeF will refuse of a role's tokens. It makes no login: 300 roles
// written at once must not become 300 logins, nor 300 questions.
func (b *backend) roleRightsWarnings(ctx context.Context, name string, written *role) []string {
	ctx, cancel := context.WithTimeout(ctx, rightsMaxWait)
	defer cancel()
	current, err := b.connect(ctx)
	if err != nil {
		return nil // without a configuration that works there is nobody whose rights could be asked for
	}
	taxpayer := written.Context
	if taxpayer.IsZero() {
		taxpayer = current.config.Context
	}
	named := func() []rolePermissions { return []rolePermissions{{name, written.Permissions}} }
	return b.rightsWarnings(ctx, current, taxpayer, named)
}

// rolePermissions are the permissions that a role names.
type rolePermissions struct {
	role        string
	permissions []string
}

// rolesIn returns the roles whose tokens live with a taxpayer; byDefault is that of config. What
// cannot be read now is left out: a warning is no proof.
func (b *backend) rolesIn(ctx context.Context, taxpayer, byDefault client.ContextIdentifier) []rolePermissions {
	names, err := b.storage.List(ctx, rolesPrefix)
	if err != nil {
		b.Logger().Warn("the roles could not be compared with the signer's rights", "error", err)
	}
	var found []rolePermissions
	for _, name := range names {
		stored, err := b.readRole(ctx, b.storage, name)
		if err != nil || stored == nil {
			continue
		}
		if stored.Context == taxpayer || (stored.Context.IsZero() && taxpayer == byDefault) {
			found = append(found, rolePermissions{name, stored.Permissions})
		}
	}
	return found
}

// rightsWarnings returns what KSeF will refuse to the signer, one sentence each; none where KSeF
// cannot be asked under a session that there is, does not answer in time, or has not told all.
func (b *backend) rightsWarnings(ctx context.Context, current *connection, taxpayer client.ContextIdentifier, named func() []rolePermissions) []string {
	ctx, cancel := context.WithTimeout(ctx, rightsMaxWait)
	defer cancel()
	known, err := current.sessions.Known(ctx, taxpayer)
	if err != nil || known == nil || time.Now().After(known.Refresh.ValidUntil) {
		return nil
	}
	subject := known.Subject
	if !known.External {
		subject = current.sessions.Subject
	}
	if subject == credential.IdentifierNIP+":"+taxpayer.NIP() {
		return nil // the owner may do everything
	}
	grants, err := b.askRights(ctx, current, known)
	if err != nil {
		b.Logger().Debug("KSeF did not tell the signer's rights", "context", taxpayer, "error", err)
	}
	if grants == nil || grants.Owner || grants.HasMore || len(grants.Permissions) == 0 {
		return nil
	}
	return lackingWarnings(grants, subject, taxpayer, named())
}

var errNoSessionAtHand = errors.New("there is no session that a login would not have to make")

// askRights returns KSeF's answer to the session, or the one that it has had before.
func (b *backend) askRights(ctx context.Context, current *connection, known *session.Session) (*client.Grants, error) {
	if grants, answered := current.rights.recall(known); answered {
		return grants, nil
	}
	if err := current.rights.lock.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for KSeF's answer on the signer's rights: %w", err)
	}
	defer current.rights.lock.Release(1)
	if grants, answered := current.rights.recall(known); answered {
		return grants, nil
	}
	grants, err := b.queryRights(ctx, current, known.Context)
	if !errors.Is(ctx.Err(), context.Canceled) { // a caller that leaves says nothing of KSeF
		current.rights.remember(known, grants)
	}
	return grants, err
}

func (b *backend) queryRights(ctx context.Context, current *connection, taxpayer client.ContextIdentifier) (*client.Grants, error) {
	atHand, err := current.sessions.AtHand(ctx, taxpayer)
	if err != nil {
		return nil, err
	}
	if atHand == nil {
		return nil, errNoSessionAtHand
	}
	api := current.client.WithLimiter(b.limiters.For(current.config.URL, taxpayer, ratelimit.Wait{AtMost: rightsMaxWait}))
	return api.WithTokenSource(atHand.Access.Token).PersonalGrants(ctx, taxpayer)
}

func lackingWarnings(grants *client.Grants, subject string, taxpayer client.ContextIdentifier, named []rolePermissions) []string {
	signer := strings.TrimSpace("the signer " + subject)
	var warnings []string
	if !slices.Contains(grants.Permissions, permissionCredentialsManage) {
		warnings = append(warnings, fmt.Sprintf("In %s %s lacks CredentialsManage: it can revoke only tokens that it made itself. Grant it CredentialsManage in KSeF.", taxpayer, signer))
	}
	var lacking []string
	for _, one := range named {
		missing := slices.DeleteFunc(slices.Clone(one.permissions), func(permission string) bool { return slices.Contains(grants.Permissions, permission) })
		if len(missing) > 0 {
			lacking = append(lacking, fmt.Sprintf("%s (%s)", one.role, strings.Join(missing, ", ")))
		}
	}
	if len(lacking) == 0 {
		return warnings
	}
	more := ""
	if count := len(lacking) - rolesNamedAtMost; count > 0 {
		lacking, more = lacking[:rolesNamedAtMost], fmt.Sprintf(" and %d more roles", count)
	}
	return append(warnings, fmt.Sprintf("In %s %s lacks permissions that roles name: KSeF will refuse their tokens with 26001. Grant them to it in KSeF, or take them out of the roles: %s%s.",
		taxpayer, signer, strings.Join(lacking, ", "), more))
}
