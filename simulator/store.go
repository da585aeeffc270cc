// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/sha256"
	"crypto/x509"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ippolicy"
	"vault-plugin-secrets-ksef/simulator/internal/jwt"
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

func NewStore() *Store {
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

// Token is a KSeF token. Its status follows from the times.
type Token struct {
	Reference      string
	Hash           [sha256.Size]byte
	Context        ksef.Identifier
	Author         ksef.Identifier
	Description    string
	Folded         string // the description in lower case
	Permissions    []string
	Created        time.Time
	Decided        time.Time // when it stops being Pending
	Fails          bool
	Revoked        time.Time // when it was revoked; zero if it was not
	RevocationEnds time.Time // when it stops being Revoking
	Expires        time.Time // when it runs out; zero if it does not
	LastUse        time.Time
}

// The statuses of a token (AuthenticationTokenStatus).
const (
	StatusPending  = "Pending"
	StatusActive   = "Active"
	StatusRevoking = "Revoking"
	StatusRevoked  = "Revoked"
	StatusFailed   = "Failed"
)

func (t *Token) Status(now time.Time) string {
	switch {
	case !t.Revoked.IsZero() && now.Before(t.RevocationEnds):
		return StatusRevoking
	case !t.Revoked.IsZero():
		return StatusRevoked
	case now.Before(t.Decided):
		return StatusPending
	case t.Fails:
		return StatusFailed
	case t.Expired(now):
		return StatusRevoked
	}
	return StatusActive
}

func (t *Token) Expired(now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

// Owner is whose a login is: sessions are listed and ended by the same one only. A login with a
// token belongs to that token.
type Owner struct {
	Context, Identifier ksef.Identifier
	Token               string
}

// Login is an authentication operation, and the session that grows out of it.
type Login struct {
	Owner
	Reference string
	Method    AuthenticationMethod
	IPPolicy  ippolicy.Policy
	Signed    *x509.Certificate // that it was signed with; nil after a login with a token
	Issued    *Certificate      // what is known of that certificate if KSeF has issued it
	Chain     bool              // the certificate's chain must be trusted
	Started   time.Time
	Due       time.Time // when the login delay is over
	Decided   bool
	Failure   *StatusInfo // nil when it succeeds; one known before it is decided shows then only
	Redeemed  time.Time   // zero while its tokens have not been fetched
	Refreshed time.Time
	Revoked   bool
}

// StatusInfo is a status with its code.
type StatusInfo struct {
	Code        int      `json:"code"`
	Description string   `json:"description"`
	Details     []string `json:"details,omitempty"`
}

// Status is right at the time that the logins were settled at last.
func (l *Login) Status() StatusInfo {
	switch {
	case l.Revoked:
		return StatusInfo{425, "Uwierzytelnienie unieważnione",
			[]string{"Uwierzytelnienie i powiązane refresh tokeny zostały unieważnione przez użytkownika"}}
	case !l.Decided:
		return StatusInfo{Code: 100, Description: "Uwierzytelnianie w toku"}
	case l.Failure != nil:
		return *l.Failure
	}
	return StatusInfo{Code: 200, Description: "Uwierzytelnianie zakończone sukcesem"}
}

// Active tells whether the session belongs in the list of sessions.
func (l *Login) Active(now time.Time) bool {
	if l.Status().Code != 200 {
		return false
	}
	if l.Redeemed.IsZero() {
		return now.Before(l.Started.Add(jwt.OperationLifetime))
	}
	return now.Before(l.Redeemed.Add(jwt.RefreshLifetime))
}
