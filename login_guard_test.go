// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"encoding/base64"
	"encoding/pem"
	"regexp"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// unnamed signs without a SigningCertificate.
func (p *signer) unnamed(t *testing.T, begun map[string]any) string {
	reference := regexp.MustCompile(`<xades:SigningCertificate>.*</xades:SigningCertificate>`)
	return p.signAs(t, xadestest.Request{
		Challenge: begun["challenge"].(string), Context: contextElement(begun), Layout: xadestest.DSS(),
		EditProperties: func(properties string) string { return reference.ReplaceAllString(properties, "") },
	})
}

func TestLoginGuard(t *testing.T) {
	stranger := simulator.CertificateOptions{PESEL: testPESEL}
	unit := map[string]any{"internal_id": unitContext}
	unitRole := map[string]any{"permissions": "InvoiceRead", "internal_id": unitContext}
	allowUnit := func(m *mount) { m.must(m.write("config", map[string]any{"allowed_contexts": unitContext})) }

	t.Run("counts the certificate that the signature names", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			block, _ := pem.Decode([]byte(m.cert))
			own := "<ds:X509Data><ds:X509Certificate>" + base64.StdEncoding.EncodeToString(block.Bytes) + "</ds:X509Certificate></ds:X509Data>"
			signed := m.signer(stranger).sign(t, m.begin(nil), xadestest.DSS())
			signed = strings.Replace(signed, "<ds:KeyInfo>", "<ds:KeyInfo>"+own, 1)
			require.Contains(t, m.refused(m.complete(signed)), "is signed by Pesel:"+testPESEL)
			require.Equal(t, 1, m.requests("POST /auth/xades-signature"), "nothing is sent")
		})
	})
	t.Run("refuses a signer who is not named", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			text := m.refused(m.complete(m.signer(stranger).unnamed(t, m.begin(nil))))
			require.Contains(t, text, "signed_request: does not tell who has signed it")
			require.Equal(t, 1, m.requests("POST /auth/xades-signature"), "nothing is sent")
		})
	})
	t.Run("refuses a signer who is not named beside open tokens of a person", func(t *testing.T) {
		withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
			m.logIn(m.signer(stranger))
			m.issue()
			text := m.refused(m.complete(m.signer(stranger).unnamed(t, m.begin(nil))))
			require.Contains(t, text, "does not tell who has signed it")
			require.Equal(t, 1, m.requests("POST /auth/xades-signature"), "nothing is sent")
		})
	})
	t.Run("holds in a role's context", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			allowUnit(m)
			m.must(m.write("roles/unit", unitRole))
			text := m.refused(m.complete(m.signer(stranger).sign(t, m.begin(unit), xadestest.DSS())))
			require.Contains(t, text, "is signed by Pesel:"+testPESEL+", and config has the certificate of Nip:"+testNIP)
			m.must(m.complete(m.signer(simulator.CertificateOptions{NIP: testNIP}).sign(t, m.begin(unit), xadestest.DSS())))
		})
	})
	t.Run("holds where the certificate's tokens are open", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			allowUnit(m)
			m.must(m.write("roles/unit", unitRole))
			issued := m.must(m.read("creds/unit", nil))
			m.must(m.delete("roles/unit"))
			require.Contains(t, m.refused(m.complete(m.signer(stranger).sign(t, m.begin(unit), xadestest.DSS()))), "is signed by Pesel:"+testPESEL)
			require.NoError(t, m.revoke(m.lease(issued)))
			m.must(m.complete(m.signer(stranger).sign(t, m.begin(unit), xadestest.DSS())))
		})
	})
	t.Run("lets a person log in again", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			allowUnit(m)
			clerk := m.signer(stranger)
			m.must(m.complete(clerk.sign(t, m.begin(unit), xadestest.DSS())))
			m.must(m.write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "of the clerk", "internal_id": unitContext}))
			m.must(m.complete(clerk.sign(t, m.begin(unit), xadestest.DSS())))
		})
	})
	t.Run("warns of tokens in another context than config's", func(t *testing.T) {
		withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
			allowUnit(m)
			m.must(m.write("roles/unit", unitRole))
			m.must(m.complete(m.signer(stranger).sign(t, m.begin(unit), xadestest.DSS())))
			m.must(m.read("creds/unit", nil))
			response := m.must(m.write("config", m.fields()))
			require.Contains(t, strings.Join(response.Warnings, " "), "only if it holds CredentialsManage")
		})
	})
	t.Run("holds in a context that is no longer allowed", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			allowUnit(m)
			signed := m.signer(simulator.CertificateOptions{NIP: testNIP}).sign(t, m.begin(unit), xadestest.DSS())
			m.must(m.write("config", map[string]any{"allowed_contexts": ""}))
			require.Contains(t, m.refused(m.complete(signed)), "internal_id: names "+unitContext+", which config does not allow")
			require.Equal(t, 1, m.requests("POST /auth/xades-signature"), "nothing is sent")
		})
	})
	t.Run("warns of a role in a context where a person is logged in", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			allowUnit(m)
			m.must(m.complete(m.signer(stranger).sign(t, m.begin(unit), xadestest.DSS())))
			role := map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "internal_id": testNIP + "-12346"}
			response := m.must(m.write("roles/unit", role))
			require.Contains(t, strings.Join(response.Warnings, " "), "the login that Pesel:"+testPESEL+" has signed is used")
			delete(role, "internal_id")
			require.Nil(t, m.must(m.write("roles/own", role)))
		})
	})
	t.Run("warns at the beginning of what it will refuse", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			allowUnit(m)
			warned := func(fields map[string]any) string {
				return strings.Join(m.must(m.write("login/begin", fields)).Warnings, " ")
			}
			const guarded = "login/complete will refuse this request unless Nip:" + testNIP + " signs it."
			require.Contains(t, warned(nil), guarded)
			require.Empty(t, warned(unit), "nobody needs the certificate there")
			m.must(m.write("roles/unit", unitRole))
			require.Contains(t, warned(unit), guarded)
		})
		withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
			require.Empty(t, m.must(m.write("login/begin", nil)).Warnings)
			m.logIn(m.signer(stranger))
			m.issue()
			require.Empty(t, m.must(m.write("login/begin", nil)).Warnings, "the same person may sign again")
		})
	})
	t.Run("holds when KSeF decides after config was given a certificate", func(t *testing.T) {
		const decision = 40 * time.Second
		inEnv(t, simulator.Options{QualifiedLoginDelay: decision}, func(t *testing.T, w *env) {
			issued := w.issuedByKSeF() // it logs in without delay
			m := w.mount(&logical.InmemStorage{})
			defer m.stop()
			m.must(m.write("config", map[string]any{"url": testURL, "nip": testNIP}))
			signed := m.signer(stranger).sign(t, m.begin(nil), xadestest.DSS())
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				_, _ = m.complete(signed)
			}()
			m.elapse(time.Second)
			m.must(m.write("config", issued))
			<-answered
			m.elapse(2 * decision)
			status := m.statusDetails()
			logins := status["logins"].([]map[string]any)
			require.Len(t, logins, 1, "the login has failed")
			require.Contains(t, logins[0]["error"], "is signed by Pesel:"+testPESEL)
			sessions := status["sessions"].([]map[string]any)
			require.Len(t, sessions, 1)
			require.Equal(t, "Nip:"+testNIP, sessions[0]["signer"])
			for _, one := range m.ksef.State().Sessions {
				require.False(t, one.Active && one.Identifier.Type == "Pesel", "the stranger's session has been ended")
			}
		})
	})
}

// issuedByKSeF is a credential that a rotation of another mount has led to.
func (w *env) issuedByKSeF() map[string]any {
	w.t.Helper()
	m := w.mount(&logical.InmemStorage{})
	defer m.stop()
	m.configure()
	m.must(m.write("config/rotate-root", nil))
	stored, err := readConfig(m.ctx, m.storage)
	require.NoError(w.t, err)
	return map[string]any{"certificate": stored.Certificate, "private_key": stored.PrivateKey}
}
