// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package store is what KSeF remembers: logins, tokens, grants, certificates, invoice sessions and
// test data. The status of each follows from its times. Callers hold a lock of their own.
package store

import (
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// maxSignedRequests bounds the memory that signed login documents take.
const maxSignedRequests = 1000

// Store is everything that KSeF remembers.
type Store struct {
	challenges      map[string]time.Time // those not yet used, with the time of their making
	Logins          map[string]*Login
	AllLogins       []*Login
	Undecided       []*Login           // oldest first
	NextDecision    time.Time          // no undecided login is decided before
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

func (s *Store) AddChallenge(challenge string, now time.Time) { s.challenges[challenge] = now }

// UseChallenge spends a challenge and returns when it was made. It has to be known, not yet used,
// and not too old.
func (s *Store) UseChallenge(challenge string, now time.Time) (made time.Time, valid bool) {
	made, valid = s.challenges[challenge]
	delete(s.challenges, challenge)
	return made, valid && now.Before(made.Add(challengeLifetime))
}

func (s *Store) AddLogin(l *Login) {
	s.Logins[l.Reference] = l
	s.AllLogins = append(s.AllLogins, l)
	s.Undecided = append(s.Undecided, l)
	s.LoginsByOwner[l.Owner] = append(s.LoginsByOwner[l.Owner], l)
}

// ScheduleDecision tells that a login may be decided as soon as at a time.
func (s *Store) ScheduleDecision(at time.Time) {
	if len(s.Undecided) == 1 || at.Before(s.NextDecision) {
		s.NextDecision = at
	}
}

func (s *Store) AddToken(t *Token) {
	s.Tokens[t.Reference] = t
	s.TokensByContext[t.Context] = append(s.TokensByContext[t.Context], t)
	s.AllTokens = append(s.AllTokens, t)
}

func (s *Store) AddSigned(document []byte) {
	if len(s.SignedDocuments) == maxSignedRequests {
		s.SignedDocuments = s.SignedDocuments[1:]
	}
	s.SignedDocuments = append(s.SignedDocuments, document)
}

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

// challengeLifetime is how long a challenge can be used.
const challengeLifetime = 10 * time.Minute
