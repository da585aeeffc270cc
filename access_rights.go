// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"sync"

	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/rights"
)

// ownerRights stand for everything.
const ownerRights = "owner"

// sessionRights has KSeF's answers on what the subject of a session may do, one per key of access
// tokens: KSeF is asked once per session.
type sessionRights struct {
	mu      sync.Mutex
	answers map[accesstoken.Key]sessionAnswer
}

type sessionAnswer struct {
	session     string
	permissions []string
}

func (r *sessionRights) get(key accesstoken.Key, session string) ([]string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer, found := r.answers[key]
	return answer.permissions, found && answer.session == session
}

func (r *sessionRights) set(key accesstoken.Key, session string, permissions []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answers == nil {
		r.answers = make(map[accesstoken.Key]sessionAnswer)
	}
	r.answers[key] = sessionAnswer{session, permissions}
}

// subjectRights returns what an access token of the mount's certificate may do, by KSeF's list of
// the subject's grants. Without an answer it returns none and says why.
func (b *backend) subjectRights(ctx context.Context, current *connection, key accesstoken.Key, token *accesstoken.Token) (permissions []string, missing string) {
	if current.sessions.Subject == credential.IdentifierNIP+":"+key.Taxpayer.NIP() {
		return []string{ownerRights}, ""
	}
	if known, found := b.sessionRights.get(key, token.SessionNumber); found {
		return known, ""
	}
	ctx, cancel := context.WithTimeout(ctx, rights.MaxWait)
	defer cancel()
	limiter := b.limiters.For(current.config.URL, key.Taxpayer, ratelimit.Wait{AtMost: rights.MaxWait})
	grants, err := current.client.WithTokenSource(token.AccessToken).WithLimiter(limiter).PersonalGrants(ctx, key.Taxpayer)
	if err != nil {
		return nil, "KSeF did not say what the access token may do; it carries all rights of the mount's subject at the taxpayer: " + err.Error()
	}
	permissions = orEmpty(grants.Permissions)
	if grants.Owner {
		permissions = []string{ownerRights}
	}
	b.sessionRights.set(key, token.SessionNumber, permissions)
	return permissions, ""
}
