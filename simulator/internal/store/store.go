// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package store has what KSeF remembers: logins, tokens, grants, certificates, invoice sessions and
// test data. The status of each follows from its times. It has no lock: the simulator locks.
package store

import (
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// maxSignedRequests bounds the memory that signed login documents take.
const maxSignedRequests = 1000

// challengeLifetime is how long a challenge is valid.
const challengeLifetime = 10 * time.Minute

// Store is all that KSeF remembers.
type Store struct {
	challenges      map[string]time.Time // when each unused challenge was made
	Logins          map[string]*Login
	AllLogins       []*Login
	Undecided       []*Login           // oldest first
	NextDecision    time.Time          // no undecided login is decided earlier
	LoginsByOwner   map[Owner][]*Login // oldest first
	Tokens          map[string]*Token
	TokensByContext map[ksef.Identifier][]*Token // per context, oldest first
	AllTokens       []*Token
	SignedDocuments [][]byte

	Rights       Rights
	Operations   map[string]*PermissionOperation
	Subjects     TestSubjects
	Certificates Certificates

	InvoiceSessions InvoiceSessions
}

// New makes an empty store.
func New() *Store {
	return &Store{
		challenges:      map[string]time.Time{},
		Logins:          map[string]*Login{},
		LoginsByOwner:   map[Owner][]*Login{},
		Tokens:          map[string]*Token{},
		TokensByContext: map[ksef.Identifier][]*Token{},

		Rights:       newRights(),
		Operations:   map[string]*PermissionOperation{},
		Subjects:     newTestSubjects(),
		Certificates: newCertificates(),

		InvoiceSessions: newInvoiceSessions(),
	}
}

// AddChallenge records a new challenge.
func (s *Store) AddChallenge(challenge string, now time.Time) { s.challenges[challenge] = now }

// UseChallenge removes a challenge and returns when it was made. A challenge is valid if it is
// known, unused and not too old.
func (s *Store) UseChallenge(challenge string, now time.Time) (made time.Time, valid bool) {
	made, valid = s.challenges[challenge]
	delete(s.challenges, challenge)
	return made, valid && now.Before(made.Add(challengeLifetime))
}

// AddLogin records a new login.
func (s *Store) AddLogin(l *Login) {
	s.Logins[l.Reference] = l
	s.AllLogins = append(s.AllLogins, l)
	s.Undecided = append(s.Undecided, l)
	s.LoginsByOwner[l.Owner] = append(s.LoginsByOwner[l.Owner], l)
}

// ScheduleDecision records that a login may be decided at a time.
func (s *Store) ScheduleDecision(at time.Time) {
	if len(s.Undecided) == 1 || at.Before(s.NextDecision) {
		s.NextDecision = at
	}
}

// AddToken records a new token.
func (s *Store) AddToken(t *Token) {
	s.Tokens[t.Reference] = t
	s.TokensByContext[t.Context] = append(s.TokensByContext[t.Context], t)
	s.AllTokens = append(s.AllTokens, t)
}

// AddSigned records a signed login document, and drops the oldest beyond the maximum.
func (s *Store) AddSigned(document []byte) {
	if len(s.SignedDocuments) == maxSignedRequests {
		s.SignedDocuments = s.SignedDocuments[1:]
	}
	s.SignedDocuments = append(s.SignedDocuments, document)
}
