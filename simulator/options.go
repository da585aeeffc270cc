// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ca"
	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
)

// Options are the switches of a simulator. The zero value behaves as KSeF does, or as is most
// likely where KSeF's behaviour is not known.
type Options struct {
	// ActivationDelay is how long a new token is Pending: 1 s when zero, not at all when negative.
	ActivationDelay time.Duration
	// RevocationDelay is how long a revoked token is Revoking, and a revoked certificate Blocked,
	// before it is Revoked: 1 s when zero, not at all when negative.
	RevocationDelay time.Duration
	// LoginDelay is how long a login has status 100 before it is decided. The default is no delay.
	LoginDelay time.Duration
	// QualifiedLoginDelay is added to LoginDelay for a certificate that KSeF has not issued. KSeF
	// checks it with its issuer, which can take minutes (ksef-api issue 567). The default is no
	// delay.
	QualifiedLoginDelay time.Duration
	// AccessTokenLifetime is how long an access token is valid, by its exp and its validUntil: 15
	// min when zero, as KSeF's are. It is 10 s to 15 min.
	AccessTokenLifetime time.Duration
	// EnrollmentDelay is how long a request for a certificate has status 100: 1 s when zero, not at
	// all when negative.
	EnrollmentDelay time.Duration
	// CertificateLifetime is how long a certificate of KSeF is valid: two years when zero, as
	// KSeF's are.
	CertificateLifetime time.Duration
	// CertificateAcceptanceDelay is how long after its issue a certificate of KSeF counts as not
	// yet valid. Until then logins with it end with status 460, "Nieważny certyfikat", as in
	// ksef-api issue 160. The default is no delay.
	CertificateAcceptanceDelay time.Duration
	// GrantDelay is how long an operation that grants or revokes permissions has status 100. It
	// takes effect when it ends: after 1 s when zero, at once when negative.
	GrantDelay time.Duration
	// SigningTimeTolerance is how far in the future a SigningTime may lie: 1 min when zero, not at
	// all when negative. KSeF publishes no number.
	SigningTimeTolerance time.Duration

	// OwnerPermissions are the permissions of a subject that owns the context. nil means all of
	// them.
	OwnerPermissions []string
	// Grants give other subjects permissions in a context.
	Grants []Grant
	// RequireGrants refuses logins of persons (PESEL) without a grant, with status 415. By default
	// a person who has never had a grant in a context has all permissions there, so that a new test
	// certificate works at once. Other NIPs and fingerprints always need a grant.
	RequireGrants bool

	// TokensMayIssueTokens allows POST /tokens after a login with a token. By default the response
	// is 403 auth-method-not-allowed: only an XAdES login may make tokens (tokeny-ksef.md).
	TokensMayIssueTokens bool
	// TokensReadOthers lets a login with a token without CredentialsRead and CredentialsManage read
	// the status of other tokens, as the official C# client's KsefTokenE2ETests does. By default it
	// sees itself only (changelog 2.4.0, ksef-api issue 758).
	TokensReadOthers bool
	// TokensMayNotQueryCertificates makes POST /certificates/query after a login with a token
	// respond with 403 auth-method-not-allowed, as KSeF's pre-production does (ksef-api issues 608
	// and 659). By default it is allowed, as on TEST.
	TokensMayNotQueryCertificates bool
	// OmitAuthenticationMethod leaves the deprecated authenticationMethod out of responses, which
	// KSeF has announced for 16 November 2026. By default it is there, as OpenAPI 2.7.0 requires.
	OmitAuthenticationMethod bool
	// ForbidOtherJWTs responds to a JWT of the wrong kind with 403 and no body, as seen on TEST and
	// DEMO (ksef-api issues 129 and 628). By default the response is 401, as the OpenAPI suggests.
	ForbidOtherJWTs bool

	// Tokens is how KSeF treats KSeF tokens from 2027 on. "" is TokensAccepted. SetTokens changes
	// it later.
	Tokens TokenMode
	// TokenValidity is how many days a token is valid with TokensExpiring, 1 to 365: 365 when zero.
	TokenValidity int

	// DeleteUnknownToken is the response to DELETE of a token that is not in the context. "" is
	// AnswerBadRequest.
	DeleteUnknownToken DeleteAnswer
	// DeleteDeadToken is the response to DELETE of a token that is Revoking, Revoked or Failed. ""
	// is AnswerBadRequest.
	DeleteDeadToken DeleteAnswer
	// DeletePendingToken is the response to DELETE of a token that is Pending. "" is
	// AnswerNoContent, which also revokes it.
	DeletePendingToken DeleteAnswer

	// CertificateQuota bounds the certificates of each subject.
	CertificateQuota CertificateQuota

	// ClockOffset is how far the simulator's clock is ahead of package time, or behind when
	// negative.
	ClockOffset time.Duration

	// Limits are the rate limits. The zero value has KSeF's.
	Limits Limits

	// Keys are the key pairs whose public halves GET /security/public-key-certificates has. nil
	// makes new ones.
	Keys *Keys
}

// Keys are the Ministry's key pairs. Simulators whose clocks begin at about the same time can share
// them, which saves the time to make them.
type Keys struct {
	pairs func() (ca.PublicKeys, error)
}

// NewKeys returns keys that are made at their first use.
func NewKeys() *Keys { return newKeys(time.Now) }

func newKeys(now func() time.Time) *Keys {
	return &Keys{sync.OnceValues(func() (ca.PublicKeys, error) { return ca.NewPublicKeys(now()) })}
}

// minAccessTokenLifetime leaves time to refresh: JWTs have times of whole seconds.
const minAccessTokenLifetime = 10 * time.Second

// CertificateQuota is how many certificates a subject may have. Zero is KSeF's value: 300 requests
// and 100 certificates for a NIP, 12 and 6 for a PESEL or a fingerprint. A negative number allows
// none.
type CertificateQuota struct {
	Requests     int // in any 30 days; revoking a certificate does not give one back
	Certificates int // active at a time
}

// Grant gives a subject (Nip, Pesel or Fingerprint) permissions in a context. nil means all of
// them.
type Grant struct {
	Identifier  Identifier
	Context     Identifier
	Permissions []string
}

// DeleteAnswer is a response to DELETE /tokens/{referenceNumber} that KSeF's documentation leaves
// open.
type DeleteAnswer string

// The possible responses.
const (
	AnswerNoContent  DeleteAnswer = "204"
	AnswerBadRequest DeleteAnswer = "400" // code 21405
	AnswerForbidden  DeleteAnswer = "403" // reason insufficient-resource-access
)

// withDefaults returns the options with defaults filled in, or an error that names the invalid one.
func (o Options) withDefaults() (Options, error) {
	o.ActivationDelay = delayOr(o.ActivationDelay, time.Second)
	o.RevocationDelay = delayOr(o.RevocationDelay, time.Second)
	o.LoginDelay = max(o.LoginDelay, 0)
	o.QualifiedLoginDelay = max(o.QualifiedLoginDelay, 0)
	o.AccessTokenLifetime = cmp.Or(o.AccessTokenLifetime, jwt.AccessLifetime)
	o.EnrollmentDelay = delayOr(o.EnrollmentDelay, time.Second)
	o.GrantDelay = delayOr(o.GrantDelay, time.Second)
	o.CertificateLifetime = max(o.CertificateLifetime, 0)
	o.CertificateAcceptanceDelay = max(o.CertificateAcceptanceDelay, 0)
	o.SigningTimeTolerance = delayOr(o.SigningTimeTolerance, time.Minute)
	o.Tokens = cmp.Or(o.Tokens, TokensAccepted)
	o.TokenValidity = cmp.Or(o.TokenValidity, maxTokenValidity)
	o.DeleteUnknownToken = cmp.Or(o.DeleteUnknownToken, AnswerBadRequest)
	o.DeleteDeadToken = cmp.Or(o.DeleteDeadToken, AnswerBadRequest)
	o.DeletePendingToken = cmp.Or(o.DeletePendingToken, AnswerNoContent)
	if o.OwnerPermissions == nil {
		o.OwnerPermissions = ksef.AllPermissions()
	}
	o.Grants = slices.Clone(o.Grants)
	for i := range o.Grants {
		if !o.Grants[i].Context.WellFormed() {
			return Options{}, fmt.Errorf("grant %d: the context %v is not a valid identifier of a context", i,
				o.Grants[i].Context)
		}
		if o.Grants[i].Permissions == nil {
			o.Grants[i].Permissions = ksef.AllPermissions()
		}
	}
	return o, o.check()
}

func (o Options) check() error {
	for _, chosen := range []DeleteAnswer{o.DeleteUnknownToken, o.DeleteDeadToken, o.DeletePendingToken} {
		if !slices.Contains([]DeleteAnswer{AnswerNoContent, AnswerBadRequest, AnswerForbidden}, chosen) {
			return fmt.Errorf("the response %q to DELETE is not known: use 204, 400 or 403", chosen)
		}
	}
	if o.AccessTokenLifetime < minAccessTokenLifetime || o.AccessTokenLifetime > jwt.AccessLifetime {
		return fmt.Errorf("an access token's lifetime of %s is not valid: use %s to %s", o.AccessTokenLifetime,
			minAccessTokenLifetime, jwt.AccessLifetime)
	}
	if err := (tokenRules{o.Tokens, o.TokenValidity}).check(); err != nil {
		return err
	}
	sets := [][]string{o.OwnerPermissions}
	for _, grant := range o.Grants {
		sets = append(sets, grant.Permissions)
	}
	for _, permission := range slices.Concat(sets...) {
		if !slices.Contains(ksef.AllPermissions(), permission) {
			return fmt.Errorf("the permission %q is not known: use %v", permission, ksef.AllPermissions())
		}
	}
	return nil
}

func delayOr(delay, standard time.Duration) time.Duration {
	if delay == 0 {
		return standard
	}
	return max(delay, 0)
}

// Limits are the configurable rate limits: Context, Client and Global. Those of invoice sessions
// are KSeF's.
type Limits = limits.Limits

// Windows are the most requests in any second, minute and hour. Zero is KSeF's value. A negative
// number removes the limit.
type Windows = limits.Windows
