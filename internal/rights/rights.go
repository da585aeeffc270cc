// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package rights compares the permissions that roles name with those that the signer holds in KSeF.
package rights

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
	"vault-plugin-secrets-ksef/internal/session"

	"golang.org/x/sync/semaphore"
)

const (
	// MaxWait bounds what a write waits for KSeF's answer, all waits included.
	MaxWait = 5 * time.Second
	// Lasts is how long an answer serves later writes, also a missing one.
	Lasts = 5 * time.Minute

	maxAnswers    = 200
	maxRolesNamed = 10

	credentialsManage = "CredentialsManage"
)

// Role is a role with the permissions that it names.
type Role struct {
	Name        string
	Permissions []string
}

// Signer has KSeF's last answers on what the signer may do, by taxpayer. It belongs to one
// configuration. It is safe for concurrent use.
type Signer struct {
	sessions *session.Manager
	limited  func(client.ContextIdentifier) *client.Client
	asking   *semaphore.Weighted // later callers wait for the answer of the one that asks

	mu      sync.Mutex
	answers map[client.ContextIdentifier]answer
}

// answer is what KSeF has answered to a session.
type answer struct {
	session string
	at      time.Time
	grants  *client.Grants // nil where KSeF did not answer
}

// NewSigner returns the rights of the sessions' subjects. limited returns the client for requests
// about a taxpayer, without access tokens.
func NewSigner(sessions *session.Manager, limited func(client.ContextIdentifier) *client.Client) *Signer {
	return &Signer{sessions: sessions, limited: limited, asking: semaphore.NewWeighted(1), answers: make(map[client.ContextIdentifier]answer)}
}

// Warnings returns what KSeF will refuse to the signer, one sentence each. There are none where
// KSeF cannot be asked under an existing session, does not answer in time, or has not listed all;
// the error is why it did not answer. It never logs in: 300 roles written at once must not become
// 300 logins, nor 300 questions.
func (s *Signer) Warnings(ctx context.Context, taxpayer client.ContextIdentifier, roles func() []Role) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, MaxWait)
	defer cancel()
	known, err := s.sessions.Known(ctx, taxpayer)
	if err != nil || !known.IsAlive() {
		return nil, err
	}
	subject := s.sessions.SubjectOf(known)
	if subject == credential.IdentifierNIP+":"+taxpayer.NIP() {
		return nil, nil // the owner may do everything
	}
	grants, err := s.grants(ctx, known)
	if grants == nil || grants.Owner || grants.HasMore || len(grants.Permissions) == 0 {
		return nil, err
	}
	return lackingWarnings(grants, subject, taxpayer, roles()), nil
}

var errLoginNeeded = errors.New("there is no session to ask KSeF with")

// grants returns KSeF's answer to the session, or an earlier one.
func (s *Signer) grants(ctx context.Context, known *session.Session) (*client.Grants, error) {
	if grants, answered := s.recall(known); answered {
		return grants, nil
	}
	if err := s.asking.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for KSeF's answer on the signer's rights: %w", err)
	}
	defer s.asking.Release(1)
	if grants, answered := s.recall(known); answered {
		return grants, nil
	}
	grants, err := s.query(ctx, known.Context)
	if !errors.Is(ctx.Err(), context.Canceled) { // a caller that leaves says nothing of KSeF
		s.remember(known, grants)
	}
	return grants, err
}

func (s *Signer) query(ctx context.Context, taxpayer client.ContextIdentifier) (*client.Grants, error) {
	current, err := s.sessions.AtHand(ctx, taxpayer)
	if err != nil {
		return nil, err
	}
	if current == nil {
		return nil, errLoginNeeded
	}
	return s.limited(taxpayer).WithTokenSource(current.Access.Token).PersonalGrants(ctx, taxpayer)
}

// recall returns the answer that the session has had lately.
func (s *Signer) recall(known *session.Session) (grants *client.Grants, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.answers[known.Context]
	if found.session != known.ReferenceNumber || time.Since(found.at) > Lasts {
		return nil, false
	}
	return found.grants, true
}

func (s *Signer) remember(known *session.Session, grants *client.Grants) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) >= maxAnswers {
		clear(s.answers)
	}
	s.answers[known.Context] = answer{session: known.ReferenceNumber, at: time.Now(), grants: grants}
}

func lackingWarnings(grants *client.Grants, subject string, taxpayer client.ContextIdentifier, roles []Role) []string {
	signer := strings.TrimSpace("the signer " + subject)
	var warnings []string
	if !slices.Contains(grants.Permissions, credentialsManage) {
		warnings = append(warnings, fmt.Sprintf("In %s %s lacks CredentialsManage: it can revoke only tokens that it made itself. Grant it CredentialsManage in KSeF.", taxpayer, signer))
	}
	var lacking []string
	for _, one := range roles {
		missing := slices.DeleteFunc(slices.Clone(one.Permissions), func(permission string) bool { return slices.Contains(grants.Permissions, permission) })
		if len(missing) > 0 {
			lacking = append(lacking, fmt.Sprintf("%s (%s)", one.Name, strings.Join(missing, ", ")))
		}
	}
	if len(lacking) == 0 {
		return warnings
	}
	more := ""
	if count := len(lacking) - maxRolesNamed; count > 0 {
		lacking, more = lacking[:maxRolesNamed], fmt.Sprintf(" and %d more roles", count)
	}
	return append(warnings, fmt.Sprintf("In %s %s lacks permissions that roles name: KSeF will refuse their tokens with 26001. Grant them to it in KSeF, or take them out of the roles: %s%s.",
		taxpayer, signer, strings.Join(lacking, ", "), more))
}
