// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/rights"

	"golang.org/x/sync/semaphore"
)

// ownerRights stand for everything.
const ownerRights = "owner"

// sessionRights has KSeF's answers on what the subjects of sessions may do: KSeF is asked once per
// session, and where it does not answer, at most once in rights.Lasts.
type sessionRights struct {
	mu      sync.Mutex
	answers map[accesstoken.Key]*sessionAnswer
}

// sessionAnswer is KSeF's last answer about a key of access tokens. Its lock is held while KSeF is
// asked: other readers wait for the answer.
type sessionAnswer struct {
	lock *semaphore.Weighted

	session     string
	at          time.Time
	permissions []string // nil where KSeF did not answer
	missing     string   // why there are none
}

func (r *sessionRights) get(key accesstoken.Key) *sessionAnswer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answers == nil {
		r.answers = make(map[accesstoken.Key]*sessionAnswer)
	}
	if r.answers[key] == nil {
		r.answers[key] = &sessionAnswer{lock: semaphore.NewWeighted(1)}
	}
	return r.answers[key]
}

// isFor says that the answer is one about the session that still serves.
func (a *sessionAnswer) isFor(session string) bool {
	return a.session == session && (a.permissions != nil || time.Since(a.at) < rights.Lasts)
}

// subjectRights returns what an access token of the mount's certificate may do, by KSeF's list of
// the subject's grants. Without an answer it returns none and says why.
func (b *backend) subjectRights(ctx context.Context, current *connection, key accesstoken.Key, token *accesstoken.Token) (permissions []string, missing string) {
	if current.sessions.Subject == credential.IdentifierNIP+":"+key.Taxpayer.NIP() {
		return []string{ownerRights}, ""
	}
	const without = "KSeF did not say what the access token may do; it carries all rights of the mount's subject at the taxpayer: "
	ctx, cancel := context.WithTimeout(ctx, rights.MaxWait)
	defer cancel()
	known := b.sessionRights.get(key)
	if err := known.lock.Acquire(ctx, 1); err != nil {
		return nil, without + "it is being asked"
	}
	defer known.lock.Release(1)
	if known.isFor(token.SessionNumber) {
		return known.permissions, known.missing
	}
	permissions, err := b.askRights(ctx, current, key, token)
	if err != nil {
		missing = without + err.Error()
	}
	if !errors.Is(ctx.Err(), context.Canceled) { // a caller that leaves says nothing of KSeF
		known.session, known.at, known.permissions, known.missing = token.SessionNumber, time.Now(), permissions, missing
	}
	return permissions, missing
}

func (b *backend) askRights(ctx context.Context, current *connection, key accesstoken.Key, token *accesstoken.Token) ([]string, error) {
	limiter := b.limiters.For(current.config.URL, key.Taxpayer, ratelimit.Wait{AtMost: rights.MaxWait})
	grants, err := current.client.WithTokenSource(token.AccessToken).WithLimiter(limiter).PersonalGrants(ctx, key.Taxpayer)
	switch {
	case err != nil:
		return nil, err
	case grants.Owner:
		return []string{ownerRights}, nil
	}
	return orEmpty(grants.Permissions), nil
}
