// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"crypto"
	"crypto/tls"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// Signer signs logins outside of Vault.
type Signer struct {
	certificate tls.Certificate
}

// PESEL is a natural person who may act for the company of NIP.
const PESEL = "90010112345"

// Signer makes a signer with a new certificate.
func (env *Env) Signer(options simulator.CertificateOptions) *Signer {
	return env.pair(env.NewCertificate(options))
}

// pair is a signer with a certificate and its key, in PEM.
func (env *Env) pair(certificate, key string) *Signer {
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	require.NoError(env.T, err)
	env.Remember(key)
	return &Signer{pair}
}

// Sign signs the login of a response of login/begin, in a layout.
func (p *Signer) Sign(t require.TestingT, begun map[string]any, layout xadestest.Layout) string {
	return p.SignAs(t, xadestest.Request{
		Challenge: begun["challenge"].(string), Context: ContextElement(begun),
		SubjectType: begun["subject_identifier_type"].(string), Layout: layout,
	})
}

// SignAs signs a request with the signer's key.
func (p *Signer) SignAs(t require.TestingT, request xadestest.Request) string {
	request.Key, request.Certificate = p.certificate.PrivateKey.(crypto.Signer), p.certificate.Leaf
	request.SigningTime = time.Now().Add(-time.Minute)
	document, err := xadestest.Sign(request)
	require.NoError(t, err)
	return string(document)
}

// ContextElement is the XML element of the context of a response of login/begin.
func ContextElement(begun map[string]any) string {
	if nip, given := begun["nip"]; given {
		return "<Nip>" + nip.(string) + "</Nip>"
	}
	return "<InternalId>" + begun["internal_id"].(string) + "</InternalId>"
}

// WithoutCredential runs a test in a bubble, with a mount whose logins are signed outside.
func WithoutCredential(t *testing.T, options simulator.Options, test func(t *testing.T, m *Mount)) {
	t.Helper()
	InEnv(t, options, func(t *testing.T, env *Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Must(m.Write("config", map[string]any{"url": URL, "nip": NIP}))
		test(t, m)
	})
}

// BeginLogin writes login/begin and returns the response.
func (m *Mount) BeginLogin(fields map[string]any) map[string]any {
	m.T.Helper()
	return m.Must(m.Write("login/begin", fields)).Data
}

// CompleteLogin writes login/complete.
func (m *Mount) CompleteLogin(document string) (*logical.Response, error) {
	return m.Write("login/complete", map[string]any{"signed_request": document})
}

// LogIn logs in to the default context.
func (m *Mount) LogIn(p *Signer) *logical.Response {
	m.T.Helper()
	return m.Must(m.CompleteLogin(p.Sign(m.T, m.BeginLogin(nil), xadestest.DSS())))
}
