// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"crypto/x509"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ippolicy"
	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// Owner is the owner of a login, who alone lists and ends its sessions. A login with a token
// belongs to that token.
type Owner struct {
	Context, Identifier ksef.Identifier
	Token               string
}

// Login is an authentication operation, and the session that follows from it.
type Login struct {
	Owner
	Reference string
	Method    AuthenticationMethod
	IPPolicy  ippolicy.Policy
	Signed    *x509.Certificate // nil after a login with a token
	Issued    *Certificate      // the record of that certificate if KSeF has issued it
	Chain     bool              // the certificate's chain must be trusted
	Started   time.Time
	Due       time.Time // when the login delay is over
	Decided   bool
	Failure   *StatusInfo // nil when it succeeds; hidden until the login is decided
	Redeemed  time.Time   // zero until its tokens are fetched
	Refreshed time.Time
	Revoked   bool
}

// Status returns the status as of the last decision.
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

// Active reports whether the list of sessions has the session.
func (l *Login) Active(now time.Time) bool {
	if l.Status().Code != 200 {
		return false
	}
	if l.Redeemed.IsZero() {
		return now.Before(l.Started.Add(jwt.OperationLifetime))
	}
	return now.Before(l.Redeemed.Add(jwt.RefreshLifetime))
}

// StatusInfo is a status with its code.
type StatusInfo struct {
	Code        int      `json:"code"`
	Description string   `json:"description"`
	Details     []string `json:"details,omitempty"`
}

// AuthenticationMethod is the method of a login, in the older form (AuthenticationMethod) and the
// newer one.
type AuthenticationMethod struct {
	Legacy string
	Info   MethodInfo
}

// MethodInfo is AuthenticationMethodInfo.
type MethodInfo struct {
	Category    string `json:"category"`
	Code        string `json:"code"`
	DisplayName string `json:"displayName"`
}
