// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestExternalLogin(t *testing.T) {
	t.Run("one_signature_makes_tokens", testExternalLoginOneSignatureMakesTokens)
	t.Run("accepts_base64", testExternalLoginAcceptsBase64)
	t.Run("several_contexts", testExternalLoginSeveralContexts)
	t.Run("missing_login_says_what_to_do", testExternalLoginMissingLoginSaysWhatToDo)
	t.Run("foreign_documents_are_not_sent", testExternalLoginForeignDocumentsAreNotSent)
	t.Run("accepts_a_document_once", testExternalLoginAcceptsADocumentOnce)
	t.Run("passes_on_what_ksef_refuses", testExternalLoginPassesOnWhatKsefRefuses)
	t.Run("shows_the_status_of_a_refusal", testExternalLoginShowsTheStatusOfARefusal)
	t.Run("slow_login_ends_in_background", testExternalLoginSlowLoginEndsInBackground)
	t.Run("warns_before_the_session_ends", testExternalLoginWarnsBeforeTheSessionEnds)
	t.Run("warns_of_another_signer", testExternalLoginWarnsOfAnotherSigner)
	t.Run("leaves_the_session_of_the_certificate", testExternalLoginLeavesTheSessionOfTheCertificate)
	t.Run("pending_login_is_not_repeated", testExternalLoginPendingLoginIsNotRepeated)
	t.Run("ended_session_is_not_shown", testExternalLoginEndedSessionIsNotShown)
	t.Run("resumes_waiting_revocations", testExternalLoginResumesWaitingRevocations)
	t.Run("settings_change_during_a_session", testExternalLoginSettingsChangeDuringASession)
	t.Run("a_certificate_replaces_it", testExternalLoginACertificateReplacesIt)
	t.Run("config_deletion_ends_it", testExternalLoginConfigDeletionEndsIt)
}

func testExternalLoginOneSignatureMakesTokens(t *testing.T) {
	for name, layout := range map[string]xadestest.Layout{
		"C#": xadestest.CSharp(), "DSS": xadestest.DSS(), "godss": xadestest.GoDSS(), "signxml": xadestest.SignXML(),
		"enveloping": xadestest.Enveloping(), "enveloping base64": xadestest.EnvelopingBase64(),
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
				signer := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
				begun := m.BeginLogin(nil)
				require.Equal(t, enginetest.NIP, begun["nip"])
				require.NotEmpty(t, begun["client_ip"])
				require.Contains(t, begun["auth_token_request"], begun["challenge"])
				until, err := time.Parse(time.RFC3339, begun["valid_until"].(string))
				require.NoError(t, err)
				require.WithinDuration(t, time.Now().Add(10*time.Minute), until, 2*time.Second)

				answer := m.Must(m.CompleteLogin(signer.Sign(t, begun, layout))).Data
				require.Equal(t, "active", answer["status"])
				require.Equal(t, "Pesel", answer["signer_identifier_type"])
				require.Equal(t, enginetest.PESEL, answer["signer_identifier"])

				config := m.Must(m.Read("config", nil))
				require.Equal(t, "external", config.Data["signing"])
				require.Equal(t, answer["session_until"], config.Data["session_until"])
				require.NoError(t, m.Login(m.Issue().Data["token"]))
			})
		})
	}
}

func testExternalLoginAcceptsBase64(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		signer := m.Signer(simulator.CertificateOptions{NIP: enginetest.NIP})
		signed := base64.StdEncoding.EncodeToString([]byte(signer.Sign(t, m.BeginLogin(nil), xadestest.DSS())))
		m.Must(m.CompleteLogin(signed[:100] + "\n" + signed[100:] + "\n"))
	})
}

func testExternalLoginSeveralContexts(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		signer := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
		m.Must(m.Write("config", map[string]any{"allowed_contexts": enginetest.UnitID}))
		first, second := m.BeginLogin(nil), m.BeginLogin(map[string]any{"internal_id": enginetest.UnitID})
		m.Must(m.CompleteLogin(signer.Sign(t, second, xadestest.DSS())))
		m.Must(m.CompleteLogin(signer.Sign(t, first, xadestest.DSS())))
		m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "default context"}))
		m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "another one", "internal_id": enginetest.UnitID}))
		require.Equal(t, 2, m.OpenSessions())
	})
}

func testExternalLoginMissingLoginSaysWhatToDo(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
		require.Contains(t, m.Refused(m.Read("creds/invoices", nil)), "login/begin")
		for _, path := range []string{"config", "status"} {
			require.Contains(t, strings.Join(m.Must(m.Read(path, nil)).Warnings, " "), "login/begin")
		}
		require.Contains(t, m.Refused(m.Write("config/rotate-root", nil)), "login/begin")
		require.Empty(t, m.KSeF.State().Requests)
	})
}

// testExternalLoginForeignDocumentsAreNotSent covers documents that are refused without asking
// KSeF.
func testExternalLoginForeignDocumentsAreNotSent(t *testing.T) {
	stranger := "<Nip>1111111111</Nip>"
	for name, test := range map[string]struct {
		make func(t *testing.T, m *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string
		text string
	}{
		"empty":   {func(*testing.T, *enginetest.Mount, *enginetest.Signer, map[string]any) string { return " \n" }, "is empty"},
		"not XML": {func(*testing.T, *enginetest.Mount, *enginetest.Signer, map[string]any) string { return "%PDF-1.7" }, "neither XML nor base64"},
		"not whole": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			return p.Sign(t, begun, xadestest.DSS())[:700]
		}, "not well-formed"},
		"two roots": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			return p.Sign(t, begun, xadestest.DSS()) + "<x>"
		}, "not well-formed"},
		"with a DTD": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			return "<!DOCTYPE x>" + p.Sign(t, begun, xadestest.DSS())
		}, "document type definition"},
		"not UTF-8": {func(*testing.T, *enginetest.Mount, *enginetest.Signer, map[string]any) string {
			return `<?xml version="1.0" encoding="UTF-16"?><x/>`
		}, "UTF-8"},
		"unsigned": {func(_ *testing.T, _ *enginetest.Mount, _ *enginetest.Signer, begun map[string]any) string {
			return begun["auth_token_request"].(string)
		}, "carries no signature"},
		"other XML": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			return strings.ReplaceAll(p.Sign(t, begun, xadestest.DSS()), "AuthTokenRequest", "Faktura")
		}, "no AuthTokenRequest"},
		"signed twice": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			signed := p.Sign(t, begun, xadestest.DSS())
			signature := signed[strings.Index(signed, "<ds:Signature"):strings.Index(signed, "</AuthTokenRequest>")]
			return strings.Replace(signed, "</AuthTokenRequest>", signature+"</AuthTokenRequest>", 1)
		}, "more than one signature"},
		"detached": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			signed := p.Sign(t, begun, xadestest.DSS())
			from, to := strings.Index(signed, "<ds:Signature"), strings.Index(signed, "</AuthTokenRequest>")
			return "<both>" + signed[:from] + signed[to:] + signed[from:to] + "</both>"
		}, "beside the request"},
		"unknown challenge": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, _ map[string]any) string {
			return p.SignAs(t, xadestest.Request{Challenge: "20260101-CR-0123456789-0123456789-AB", Context: "<Nip>" + enginetest.NIP + "</Nip>", Layout: xadestest.DSS()})
		}, "has not given out"},
		"challenge of another mount": {func(t *testing.T, m *enginetest.Mount, p *enginetest.Signer, _ map[string]any) string {
			other := m.Mount(&logical.InmemStorage{})
			defer other.Stop()
			other.Must(other.Write("config", map[string]any{"url": enginetest.URL, "nip": enginetest.NIP}))
			return p.Sign(t, other.BeginLogin(nil), xadestest.DSS())
		}, "has not given out"},
		"another context": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			return p.SignAs(t, xadestest.Request{Challenge: begun["challenge"].(string), Context: stranger, Layout: xadestest.DSS()})
		}, "was altered: it is for the context Nip:1111111111"},
		"another subject type": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			return p.SignAs(t, xadestest.Request{Challenge: begun["challenge"].(string), Context: enginetest.ContextElement(begun), SubjectType: "certificateFingerprint", Layout: xadestest.DSS()})
		}, "was altered: its SubjectIdentifierType"},
		"a policy that was not asked for": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			return p.SignAs(t, xadestest.Request{Inner: "<Challenge>" + begun["challenge"].(string) + "</Challenge><ContextIdentifier>" + enginetest.ContextElement(begun) +
				"</ContextIdentifier><SubjectIdentifierType>certificateSubject</SubjectIdentifierType><AuthorizationPolicy></AuthorizationPolicy>", Layout: xadestest.DSS()})
		}, "an element AuthorizationPolicy"},
		"a missing element": {func(t *testing.T, _ *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			return p.SignAs(t, xadestest.Request{Inner: "<Challenge>" + begun["challenge"].(string) + "</Challenge>", Layout: xadestest.DSS()})
		}, "an element of the request is missing"},
		"too late": {func(t *testing.T, m *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			signed := p.Sign(t, begun, xadestest.DSS())
			m.Elapse(11 * time.Minute)
			return signed
		}, "came too late"},
		"begun before another API was configured": {func(t *testing.T, m *enginetest.Mount, p *enginetest.Signer, begun map[string]any) string {
			signed := p.Sign(t, begun, xadestest.DSS())
			m.Must(m.Write("config", map[string]any{"url": "https://other.test/v2"}))
			return signed
		}, "was begun for " + enginetest.URL},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
				signer := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
				document := test.make(t, m, signer, m.BeginLogin(nil))
				text := m.Refused(m.CompleteLogin(document))
				require.Contains(t, text, "signed_request: ")
				require.Contains(t, text, test.text)
				require.Zero(t, m.Requests("POST /auth/xades-signature"), "nothing is sent")
			})
		})
	}
}

func testExternalLoginAcceptsADocumentOnce(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{QualifiedLoginDelay: 5 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
		signer := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
		signed := signer.Sign(t, m.BeginLogin(nil), xadestest.DSS())
		pending := m.Must(m.CompleteLogin(signed))
		require.Equal(t, "pending", pending.Data["status"])
		require.Contains(t, m.Refused(m.CompleteLogin(signed)), "was already submitted, as the login "+pending.Data["reference_number"].(string))
		m.Elapse(10 * time.Minute)
		require.Contains(t, m.Refused(m.CompleteLogin(signed)), "whose login is over")
		require.Equal(t, 1, m.Requests("POST /auth/xades-signature"))
	})
}

func testExternalLoginPassesOnWhatKsefRefuses(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		signer := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
		begun := m.BeginLogin(nil)
		signed := signer.Sign(t, begun, xadestest.DSS())
		text := m.Refused(m.CompleteLogin(strings.Replace(signed, "text/xml", "text/plain", 1)))
		require.Contains(t, text, "9105")
		require.Contains(t, text, "did not verify")
		m.Must(m.CompleteLogin(signed))
	})
}

func testExternalLoginShowsTheStatusOfARefusal(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{RequireGrants: true}, func(t *testing.T, m *enginetest.Mount) {
		signer := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
		text := m.Refused(m.CompleteLogin(signer.Sign(t, m.BeginLogin(nil), xadestest.DSS())))
		require.Contains(t, text, "415")
		status := m.StatusDetails()
		logins := status["logins"].([]map[string]any)
		require.Len(t, logins, 1)
		require.Equal(t, "failed", logins[0]["status"])
		require.Contains(t, logins[0]["error"], "415")
		m.RequireEvent("ksef/login-fail")
	})
}

func testExternalLoginSlowLoginEndsInBackground(t *testing.T) {
	for name, restart := range map[string]bool{"in the same process": false, "in the next process": true} {
		t.Run(name, func(t *testing.T) {
			enginetest.WithoutCredential(t, simulator.Options{QualifiedLoginDelay: 5 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
				signer := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
				asked := time.Now()
				answer := m.Must(m.CompleteLogin(signer.Sign(t, m.BeginLogin(nil), xadestest.DSS())))
				require.Equal(t, "pending", answer.Data["status"])
				require.Less(t, time.Since(asked), 90*time.Second)
				require.Equal(t, "pending", m.StatusDetails()["logins"].([]map[string]any)[0]["status"])
				if restart {
					m.Stop()
					m.Start()
				}
				for _, text := range []string{m.Refused(m.Read("tokens", nil)), m.Refused(m.Write("config/rotate-root", nil))} {
					require.Contains(t, text, "login: is still to be decided by KSeF in Nip:"+enginetest.NIP+", as "+answer.Data["reference_number"].(string))
					require.Contains(t, text, "nothing need be signed again")
				}
				m.Elapse(6 * time.Minute)
				require.Empty(t, m.StatusDetails()["logins"])
				require.NotEmpty(t, m.Must(m.Read("config", nil)).Data["session_until"])
				require.NoError(t, m.Login(m.Issue().Data["token"]))
				m.RequireEvent("ksef/login")
			})
		})
	}
}

func testExternalLoginWarnsBeforeTheSessionEnds(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		signer := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
		m.LogIn(signer)
		require.Empty(t, m.Must(m.Read("config", nil)).Warnings)
		m.Elapse(4*24*time.Hour + 2*time.Hour)
		require.Contains(t, strings.Join(m.Must(m.Read("config", nil)).Warnings, " "), "ends in 70 hours")
		require.Contains(t, strings.Join(m.Must(m.Read("status", nil)).Warnings, " "), "ends in 70 hours")
		require.Equal(t, 1, m.CountEvents("ksef/login-expiring"))
		m.Elapse(24 * time.Hour)
		require.Equal(t, 2, m.CountEvents("ksef/login-expiring"))
		m.LogIn(signer)
		require.Empty(t, m.Must(m.Read("config", nil)).Warnings)
		require.Equal(t, 1, m.OpenSessions(), "the login before has been ended")
	})
}

func testExternalLoginWarnsOfAnotherSigner(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}))
		m.Issue()
		response := m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: "80010112345"}))
		require.Contains(t, strings.Join(response.Warnings, " "), "only if it holds CredentialsManage")
	})
}

// The external login lasts for seven days, in which the certificate is not used.
func testExternalLoginLeavesTheSessionOfTheCertificate(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("config", map[string]any{"allowed_contexts": enginetest.UnitID}))
		stranger := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
		text := m.Refused(m.CompleteLogin(stranger.Sign(t, m.BeginLogin(nil), xadestest.DSS())))
		require.Contains(t, text, "is signed by Pesel:"+enginetest.PESEL+", and config has the certificate of Nip:"+enginetest.NIP)
		require.Equal(t, 1, m.Requests("POST /auth/xades-signature"), "nothing is sent")
		m.Must(m.CompleteLogin(stranger.Sign(t, m.BeginLogin(map[string]any{"internal_id": enginetest.UnitID}), xadestest.DSS())))

		m.Elapse(time.Minute)
		m.LogIn(m.Signer(simulator.CertificateOptions{NIP: enginetest.NIP}))
		m.Must(m.Write("config", map[string]any{"activation_timeout": "10s"}))
		for _, one := range m.StatusDetails()["sessions"].([]map[string]any) {
			require.Equal(t, one["internal_id"] == enginetest.UnitID, one["external"], "a write to config brings the certificate's own login back")
		}
	})
}

func testExternalLoginPendingLoginIsNotRepeated(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{QualifiedLoginDelay: 5 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
		pending := m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}))
		for _, path := range []string{"config", "status"} {
			warnings := strings.Join(m.Must(m.Read(path, nil)).Warnings, " ")
			require.Contains(t, warnings, "still to decide the login "+pending.Data["reference_number"].(string))
			require.NotContains(t, warnings, "login/begin")
		}
	})
}

func testExternalLoginEndedSessionIsNotShown(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}))
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
		m.KSeF.Advance(8 * enginetest.Day)
		require.Contains(t, m.Refused(m.Read("creds/invoices", nil)), "has ended")
		for _, path := range []string{"config", "status"} {
			require.Contains(t, strings.Join(m.Must(m.Read(path, nil)).Warnings, " "), "login/begin")
		}
		require.Empty(t, m.StatusDetails()["sessions"])
	})
}

func testExternalLoginResumesWaitingRevocations(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		signer := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
		m.LogIn(signer)
		issued := m.Issue()
		m.Elapse(8 * enginetest.Day)
		require.ErrorContains(t, m.Revoke(m.Lease(issued)), "has not yet confirmed")
		m.Elapse(time.Hour)
		m.LogIn(signer)
		m.Elapse(5 * time.Second)
		require.NotEqual(t, "Active", m.StatusInKSeF(issued.Data["reference_number"]))
	})
}

func testExternalLoginSettingsChangeDuringASession(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}))
		m.Must(m.Write("config", map[string]any{"subject_identifier_type": "certificateFingerprint"}))
		require.Equal(t, "certificateFingerprint", m.BeginLogin(nil)["subject_identifier_type"])
		m.Issue()
		require.Equal(t, 1, m.OpenSessions())
	})
}

func testExternalLoginACertificateReplacesIt(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.LogIn(m.Signer(simulator.CertificateOptions{NIP: enginetest.NIP}))
		m.Configure()
		require.Equal(t, "certificate", m.Must(m.Read("config", nil)).Data["signing"])
		require.Equal(t, 1, m.OpenSessions(), "what the same subject has signed is no longer needed")
		m.Issue()
	})
}

func testExternalLoginConfigDeletionEndsIt(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}))
		m.BeginLogin(nil)
		m.Must(m.Delete("config"))
		require.Zero(t, m.OpenSessions())
		m.RequireNothingLeftOf("sessions/", "logins/", "config")
	})
}
