// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

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

// signer signs outside of Vault.
type signer struct {
	certificate tls.Certificate
}

const testPESEL = "90010112345"

func (w *env) signer(options simulator.CertificateOptions) *signer {
	certificate, key := w.certificate(options)
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	require.NoError(w.t, err)
	return &signer{pair}
}

// sign makes a signed document of what login/begin has answered, as a program of the layout does.
func (p *signer) sign(t require.TestingT, begun map[string]any, layout xadestest.Layout) string {
	return p.signAs(t, xadestest.Request{
		Challenge: begun["challenge"].(string), Context: contextElement(begun),
		SubjectType: begun["subject_identifier_type"].(string), Layout: layout,
	})
}

func (p *signer) signAs(t require.TestingT, request xadestest.Request) string {
	request.Key, request.Certificate = p.certificate.PrivateKey.(crypto.Signer), p.certificate.Leaf
	request.SigningTime = time.Now().Add(-time.Minute)
	document, err := xadestest.Sign(request)
	require.NoError(t, err)
	return string(document)
}

func contextElement(begun map[string]any) string {
	if nip, given := begun["nip"]; given {
		return "<Nip>" + nip.(string) + "</Nip>"
	}
	return "<InternalId>" + begun["internal_id"].(string) + "</InternalId>"
}

// withoutKey is a mount whose configuration has no credential.
func withoutKey(t *testing.T, options simulator.Options, test func(t *testing.T, m *mount)) {
	t.Helper()
	inEnv(t, options, func(t *testing.T, w *env) {
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		m.must(m.write("config", map[string]any{"url": testURL, "nip": testNIP}))
		test(t, m)
	})
}

func (m *mount) begin(fields map[string]any) map[string]any {
	m.t.Helper()
	return m.must(m.write("login/begin", fields)).Data
}

func (m *mount) complete(document string) (*logical.Response, error) {
	return m.write("login/complete", map[string]any{"signed_request": document})
}

// logIn has the person log in to the default context.
func (m *mount) logIn(p *signer) *logical.Response {
	m.t.Helper()
	return m.must(m.complete(p.sign(m.t, m.begin(nil), xadestest.DSS())))
}
