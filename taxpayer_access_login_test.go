// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"encoding/base64"
	"encoding/pem"
	"regexp"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// unnamed signs without a SigningCertificate.
func unnamed(t *testing.T, p *enginetest.Signer, begun map[string]any) string {
	reference := regexp.MustCompile(`<xades:SigningCertificate>.*</xades:SigningCertificate>`)
	return p.SignAs(t, xadestest.Request{
		Challenge: begun["challenge"].(string), Context: enginetest.ContextElement(begun), Layout: xadestest.DSS(),
		EditProperties: func(properties string) string { return reference.ReplaceAllString(properties, "") },
	})
}

func TestLoginGuard(t *testing.T) {
	stranger := simulator.CertificateOptions{PESEL: enginetest.PESEL}
	unit := map[string]any{"internal_id": enginetest.UnitID}
	unitRole := map[string]any{"permissions": "InvoiceRead", "internal_id": enginetest.UnitID}
	allowUnit := func(m *enginetest.Mount) {
		m.Must(m.Write("config", map[string]any{"allowed_contexts": enginetest.UnitID}))
	}

	t.Run("counts the certificate that the signature names", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			block, _ := pem.Decode([]byte(m.Cert))
			own := "<ds:X509Data><ds:X509Certificate>" + base64.StdEncoding.EncodeToString(block.Bytes) + "</ds:X509Certificate></ds:X509Data>"
			signed := m.Signer(stranger).Sign(t, m.BeginLogin(nil), xadestest.DSS())
			signed = strings.Replace(signed, "<ds:KeyInfo>", "<ds:KeyInfo>"+own, 1)
			require.Contains(t, m.Refused(m.CompleteLogin(signed)), "is signed by Pesel:"+enginetest.PESEL)
			require.Equal(t, 1, m.Requests("POST /auth/xades-signature"), "nothing is sent")
		})
	})
	t.Run("refuses a signer who is not named", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			text := m.Refused(m.CompleteLogin(unnamed(t, m.Signer(stranger), m.BeginLogin(nil))))
			require.Contains(t, text, "signed_request: does not tell who has signed it")
			require.Equal(t, 1, m.Requests("POST /auth/xades-signature"), "nothing is sent")
		})
	})
	t.Run("refuses an unnamed signer beside open tokens of another subject", func(t *testing.T) {
		enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.LogIn(m.Signer(stranger))
			m.Issue()
			text := m.Refused(m.CompleteLogin(unnamed(t, m.Signer(stranger), m.BeginLogin(nil))))
			require.Contains(t, text, "does not tell who has signed it")
			require.Equal(t, 1, m.Requests("POST /auth/xades-signature"), "nothing is sent")
		})
	})
	t.Run("holds in a role's context", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			allowUnit(m)
			m.Must(m.Write("roles/unit", unitRole))
			text := m.Refused(m.CompleteLogin(m.Signer(stranger).Sign(t, m.BeginLogin(unit), xadestest.DSS())))
			require.Contains(t, text, "is signed by Pesel:"+enginetest.PESEL+", and config has the certificate of Nip:"+enginetest.NIP)
			m.Must(m.CompleteLogin(m.Signer(simulator.CertificateOptions{NIP: enginetest.NIP}).Sign(t, m.BeginLogin(unit), xadestest.DSS())))
		})
	})
	t.Run("holds where the certificate's tokens are open", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			allowUnit(m)
			m.Must(m.Write("roles/unit", unitRole))
			issued := m.Must(m.Read("creds/unit", nil))
			m.Must(m.Delete("roles/unit"))
			require.Contains(t, m.Refused(m.CompleteLogin(m.Signer(stranger).Sign(t, m.BeginLogin(unit), xadestest.DSS()))), "is signed by Pesel:"+enginetest.PESEL)
			require.NoError(t, m.Revoke(m.Lease(issued)))
			m.Must(m.CompleteLogin(m.Signer(stranger).Sign(t, m.BeginLogin(unit), xadestest.DSS())))
		})
	})
	t.Run("accepts a second login of the same subject", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			allowUnit(m)
			signer := m.Signer(stranger)
			m.Must(m.CompleteLogin(signer.Sign(t, m.BeginLogin(unit), xadestest.DSS())))
			m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "of the clerk", "internal_id": enginetest.UnitID}))
			m.Must(m.CompleteLogin(signer.Sign(t, m.BeginLogin(unit), xadestest.DSS())))
		})
	})
	t.Run("warns of tokens in another context than config's", func(t *testing.T) {
		enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			allowUnit(m)
			m.Must(m.Write("roles/unit", unitRole))
			m.Must(m.CompleteLogin(m.Signer(stranger).Sign(t, m.BeginLogin(unit), xadestest.DSS())))
			m.Must(m.Read("creds/unit", nil))
			response := m.Must(m.Write("config", m.ConfigFields()))
			require.Contains(t, strings.Join(response.Warnings, " "), "only if it holds CredentialsManage")
		})
	})
	t.Run("holds in a context that is no longer allowed", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			allowUnit(m)
			signed := m.Signer(simulator.CertificateOptions{NIP: enginetest.NIP}).Sign(t, m.BeginLogin(unit), xadestest.DSS())
			m.Must(m.Write("config", map[string]any{"allowed_contexts": ""}))
			require.Contains(t, m.Refused(m.CompleteLogin(signed)), "internal_id: names "+enginetest.UnitID+", which config does not allow")
			require.Equal(t, 1, m.Requests("POST /auth/xades-signature"), "nothing is sent")
		})
	})
	t.Run("warns of a role in a context with an external login", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			allowUnit(m)
			m.Must(m.CompleteLogin(m.Signer(stranger).Sign(t, m.BeginLogin(unit), xadestest.DSS())))
			role := map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "internal_id": enginetest.NIP + "-12346"}
			response := m.Must(m.Write("roles/unit", role))
			require.Contains(t, strings.Join(response.Warnings, " "), "the login that Pesel:"+enginetest.PESEL+" has signed is used")
			delete(role, "internal_id")
			require.Nil(t, m.Must(m.Write("roles/own", role)))
		})
	})
	t.Run("warns at the beginning of what it will refuse", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			allowUnit(m)
			warned := func(fields map[string]any) string {
				return strings.Join(m.Must(m.Write("login/begin", fields)).Warnings, " ")
			}
			const guarded = "login/complete will refuse this request unless Nip:" + enginetest.NIP + " signs it."
			require.Contains(t, warned(nil), guarded)
			require.Empty(t, warned(unit), "the certificate is not needed there")
			m.Must(m.Write("roles/unit", unitRole))
			require.Contains(t, warned(unit), guarded)
		})
		enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.Empty(t, m.Must(m.Write("login/begin", nil)).Warnings)
			m.LogIn(m.Signer(stranger))
			m.Issue()
			require.Empty(t, m.Must(m.Write("login/begin", nil)).Warnings, "the same person may sign again")
		})
	})
	t.Run("holds when KSeF decides after config was given a certificate", func(t *testing.T) {
		const decision = 40 * time.Second
		enginetest.InEnv(t, simulator.Options{QualifiedLoginDelay: decision}, func(t *testing.T, env *enginetest.Env) {
			issued := issuedByKSeF(env) // it logs in without delay
			m := env.Mount(&logical.InmemStorage{})
			defer m.Stop()
			m.Must(m.Write("config", map[string]any{"url": enginetest.URL, "nip": enginetest.NIP}))
			signed := m.Signer(stranger).Sign(t, m.BeginLogin(nil), xadestest.DSS())
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				_, _ = m.CompleteLogin(signed)
			}()
			m.Elapse(time.Second)
			m.Must(m.Write("config", issued))
			<-answered
			m.Elapse(2 * decision)
			status := m.StatusDetails()
			logins := status["logins"].([]map[string]any)
			require.Len(t, logins, 1, "the login has failed")
			require.Contains(t, logins[0]["error"], "is signed by Pesel:"+enginetest.PESEL)
			sessions := status["sessions"].([]map[string]any)
			require.Len(t, sessions, 1)
			require.Equal(t, "Nip:"+enginetest.NIP, sessions[0]["signer"])
			for _, one := range m.KSeF.State().Sessions {
				require.False(t, one.Active && one.Identifier.Type == "Pesel", "the stranger's session has been ended")
			}
		})
	})
}

// issuedByKSeF is the credential that a rotation of another mount has made.
func issuedByKSeF(env *enginetest.Env) map[string]any {
	env.T.Helper()
	m := env.Mount(&logical.InmemStorage{})
	defer m.Stop()
	m.Configure()
	m.Must(m.Write("config/rotate-root", nil))
	stored := m.StoredConfig()
	return map[string]any{"certificate": stored.Certificate, "private_key": stored.PrivateKey}
}
