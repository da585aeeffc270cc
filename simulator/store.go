// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/sha256"
	"crypto/x509"
	"regexp"
	"strings"
	"time"
)

// maxSignedRequests bounds the memory that signed login documents take.
const maxSignedRequests = 1000

// store is everything that KSeF remembers.
type store struct {
	challenges      map[string]time.Time // those not yet used, with the time of their making
	Logins          map[string]*login
	AllLogins       []*login
	Undecided       []*login           // oldest first
	NextDecision    time.Time          // no undecided login is decided before
	LoginsByOwner   map[owner][]*login // oldest first
	Tokens          map[string]*token
	TokensByContext map[Identifier][]*token // per context, oldest first
	AllTokens       []*token
	SignedDocuments [][]byte

	rights       rights
	operations   map[string]*permissionOperation
	subjects     testSubjects
	certificates Certificates

	invoiceSessions InvoiceSessions
}

func newStore() *store {
	return &store{
		challenges:      map[string]time.Time{},
		Logins:          map[string]*login{},
		LoginsByOwner:   map[owner][]*login{},
		Tokens:          map[string]*token{},
		TokensByContext: map[Identifier][]*token{},

		rights:       newRights(),
		operations:   map[string]*permissionOperation{},
		subjects:     newTestSubjects(),
		certificates: newCertificateStore(),

		invoiceSessions: newInvoiceSessionStore(),
	}
}

func (s *store) addLogin(l *login) {
	s.Logins[l.reference] = l
	s.AllLogins = append(s.AllLogins, l)
	s.Undecided = append(s.Undecided, l)
	s.LoginsByOwner[l.owner] = append(s.LoginsByOwner[l.owner], l)
}

// expectDecision tells that a login may be decided as soon as at a time.
func (s *store) ScheduleDecision(at time.Time) {
	if len(s.Undecided) == 1 || at.Before(s.NextDecision) {
		s.NextDecision = at
	}
}

func (s *store) addToken(t *token) {
	s.Tokens[t.reference] = t
	s.TokensByContext[t.context] = append(s.TokensByContext[t.context], t)
	s.AllTokens = append(s.AllTokens, t)
}

func (s *store) addSigned(document []byte) {
	if len(s.SignedDocuments) == maxSignedRequests {
		s.SignedDocuments = s.SignedDocuments[1:]
	}
	s.SignedDocuments = append(s.SignedDocuments, document)
}

// newReference makes a reference number or challenge: the day, the kind, 22 hexadecimal digits; 36
// characters.
func newReference(kind string, now time.Time) string {
	digits := strings.ToUpper(randomHex(22))
	return strings.Join([]string{now.Format("20060102"), kind, digits[:10], digits[10:20], digits[20:]}, "-")
}

var referencePattern = regexp.MustCompile(`^\d{8}-[A-Z]{2}-[0-9A-F]{10}-[0-9A-F]{10}-[0-9A-F]{2}$`)

// The kinds of reference numbers.
const (
	challengeKind  = "CR"
	loginKind      = "AU"
	tokenKind      = "EC"
	enrollmentKind = "EH"
	operationKind  = "EG"

	invoiceSessionKind = "SO" // of an online session
)

// token is a KSeF token. Its status follows from the times.
type token struct {
	reference      string
	hash           [sha256.Size]byte
	context        Identifier
	author         Identifier
	description    string
	folded         string // the description in lower case
	permissions    []string
	created        time.Time
	decided        time.Time // when it stops being Pending
	fails          bool
	revoked        time.Time // when it was revoked; zero if it was not
	RevocationEnds time.Time // when it stops being Revoking
	expires        time.Time // when it runs out; zero if it does not
	lastUse        time.Time
}

// The statuses of a token (AuthenticationTokenStatus).
const (
	statusPending  = "Pending"
	statusActive   = "Active"
	statusRevoking = "Revoking"
	statusRevoked  = "Revoked"
	statusFailed   = "Failed"
)

func (t *token) status(now time.Time) string {
	switch {
	case !t.revoked.IsZero() && now.Before(t.RevocationEnds):
		return statusRevoking
	case !t.revoked.IsZero():
		return statusRevoked
	case now.Before(t.decided):
		return statusPending
	case t.fails:
		return statusFailed
	case t.expired(now):
		return statusRevoked
	}
	return statusActive
}

func (t *token) expired(now time.Time) bool {
	return !t.expires.IsZero() && !now.Before(t.expires)
}

// owner is whose a login is: sessions are listed and ended by the same one only. A login with a
// token belongs to that token.
type owner struct {
	context, identifier Identifier
	token               string
}

// login is an authentication operation, and the session that grows out of it.
type login struct {
	owner
	reference string
	method    authenticationMethod
	ipPolicy  ipPolicy
	signed    *x509.Certificate // that it was signed with; nil after a login with a token
	issued    *ksefCertificate  // what is known of that certificate if KSeF has issued it
	chain     bool              // the certificate's chain must be trusted
	started   time.Time
	due       time.Time // when the login delay is over
	decided   bool
	failure   *statusInfo // nil when it succeeds; one known before it is decided shows then only
	redeemed  time.Time   // zero while its tokens have not been fetched
	refreshed time.Time
	revoked   bool
}

// statusInfo is a status with its code.
type statusInfo struct {
	Code        int      `json:"code"`
	Description string   `json:"description"`
	Details     []string `json:"details,omitempty"`
}

// status is right at the time that the logins were settled at last.
func (l *login) status() statusInfo {
	switch {
	case l.revoked:
		return statusInfo{425, "Uwierzytelnienie unieważnione",
			[]string{"Uwierzytelnienie i powiązane refresh tokeny zostały unieważnione przez użytkownika"}}
	case !l.decided:
		return statusInfo{Code: 100, Description: "Uwierzytelnianie w toku"}
	case l.failure != nil:
		return *l.failure
	}
	return statusInfo{Code: 200, Description: "Uwierzytelnianie zakończone sukcesem"}
}

// active tells whether the session belongs in the list of sessions.
func (l *login) active(now time.Time) bool {
	if l.status().Code != 200 {
		return false
	}
	if l.redeemed.IsZero() {
		return now.Before(l.started.Add(operationLifetime))
	}
	return now.Before(l.redeemed.Add(refreshLifetime))
}
