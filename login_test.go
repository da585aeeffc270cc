// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestAPersonSignsOnceAndTokensAreMade(t *testing.T) {
	for name, layout := range map[string]xadestest.Layout{
		"C#": xadestest.CSharp(), "DSS": xadestest.DSS(), "godss": xadestest.GoDSS(), "signxml": xadestest.SignXML(),
		"enveloping": xadestest.Enveloping(), "enveloping base64": xadestest.EnvelopingBase64(),
	} {
		t.Run(name, func(t *testing.T) {
			withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
				clerk := m.signer(simulator.CertificateOptions{PESEL: testPESEL})
				begun := m.begin(nil)
				require.Equal(t, testNIP, begun["nip"])
				require.NotEmpty(t, begun["client_ip"])
				require.Contains(t, begun["auth_token_request"], begun["challenge"])
				until, err := time.Parse(time.RFC3339, begun["valid_until"].(string))
				require.NoError(t, err)
				require.WithinDuration(t, time.Now().Add(10*time.Minute), until, 2*time.Second)

				answer := m.must(m.complete(clerk.sign(t, begun, layout))).Data
				require.Equal(t, "active", answer["status"])
				require.Equal(t, "Pesel", answer["signer_identifier_type"])
				require.Equal(t, testPESEL, answer["signer_identifier"])

				config := m.must(m.read("config", nil))
				require.Equal(t, "external", config.Data["signing"])
				require.Equal(t, answer["session_until"], config.Data["session_until"])
				require.NoError(t, m.login(m.issue().Data["token"]))
			})
		})
	}
}

func TestASignedRequestIsTakenAsBase64(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		clerk := m.signer(simulator.CertificateOptions{NIP: testNIP})
		signed := base64.StdEncoding.EncodeToString([]byte(clerk.sign(t, m.begin(nil), xadestest.DSS())))
		m.must(m.complete(signed[:100] + "\n" + signed[100:] + "\n"))
	})
}

func TestSeveralContextsAreLoggedInSideBySide(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		clerk := m.signer(simulator.CertificateOptions{PESEL: testPESEL})
		m.must(m.write("config", map[string]any{"allowed_contexts": unitContext}))
		first, second := m.begin(nil), m.begin(map[string]any{"internal_id": unitContext})
		m.must(m.complete(clerk.sign(t, second, xadestest.DSS())))
		m.must(m.complete(clerk.sign(t, first, xadestest.DSS())))
		m.must(m.write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "default context"}))
		m.must(m.write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "another one", "internal_id": unitContext}))
		require.Equal(t, 2, m.openSessions())
	})
}

func TestAMountWithoutAnyLoginSaysWhatToDo(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.must(m.write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
		require.Contains(t, m.refused(m.read("creds/invoices", nil)), "login/begin")
		for _, path := range []string{"config", "status"} {
			require.Contains(t, strings.Join(m.must(m.read(path, nil)).Warnings, " "), "login/begin")
		}
		require.Contains(t, m.refused(m.write("config/rotate-root", nil)), "login/begin")
		require.Empty(t, m.ksef.State().Requests)
	})
}

// TestWhatIsNotOursIsNotSent covers each signed request that can be told to be wrong without asking
// KSeF.
func TestWhatIsNotOursIsNotSent(t *testing.T) {
	stranger := "<Nip>1111111111</Nip>"
	for name, test := range map[string]struct {
		make func(t *testing.T, m *mount, p *signer, begun map[string]any) string
		text string
	}{
		"empty":   {func(*testing.T, *mount, *signer, map[string]any) string { return " \n" }, "is empty"},
		"not XML": {func(*testing.T, *mount, *signer, map[string]any) string { return "%PDF-1.7" }, "neither XML nor base64"},
		"not whole": {func(t *testing.T, _ *mount, p *signer, begun map[string]any) string {
			return p.sign(t, begun, xadestest.DSS())[:700]
		}, "not well-formed"},
		"two roots": {func(t *testing.T, _ *mount, p *signer, begun map[string]any) string {
			return p.sign(t, begun, xadestest.DSS()) + "<x>"
		}, "not well-formed"},
		"with a DTD": {func(t *testing.T, _ *mount, p *signer, begun map[string]any) string {
			return "<!DOCTYPE x>" + p.sign(t, begun, xadestest.DSS())
		}, "document type definition"},
		"not UTF-8": {func(*testing.T, *mount, *signer, map[string]any) string {
			return `<?xml version="1.0" encoding="UTF-16"?><x/>`
		}, "UTF-8"},
		"unsigned": {func(_ *testing.T, _ *mount, _ *signer, begun map[string]any) string {
			return begun["auth_token_request"].(string)
		}, "carries no signature"},
		"other XML": {func(t *testing.T, _ *mount, p *signer, begun map[string]any) string {
			return strings.ReplaceAll(p.sign(t, begun, xadestest.DSS()), "AuthTokenRequest", "Faktura")
		}, "no AuthTokenRequest"},
		"signed twice": {func(t *testing.T, _ *mount, p *signer, begun map[string]any) string {
			signed := p.sign(t, begun, xadestest.DSS())
			signature := signed[strings.Index(signed, "<ds:Signature"):strings.Index(signed, "</AuthTokenRequest>")]
			return strings.Replace(signed, "</AuthTokenRequest>", signature+"</AuthTokenRequest>", 1)
		}, "more than one signature"},
		"detached": {func(t *testing.T, _ *mount, p *signer, begun map[string]any) string {
			signed := p.sign(t, begun, xadestest.DSS())
			from, to := strings.Index(signed, "<ds:Signature"), strings.Index(signed, "</AuthTokenRequest>")
			return "<both>" + signed[:from] + signed[to:] + signed[from:to] + "</both>"
		}, "beside the request"},
		"challenge of nobody": {func(t *testing.T, _ *mount, p *signer, _ map[string]any) string {
			return p.signAs(t, xadestest.Request{Challenge: "20260101-CR-0123456789-0123456789-AB", Context: "<Nip>" + testNIP + "</Nip>", Layout: xadestest.DSS()})
		}, "has not given out"},
		"challenge of another mount": {func(t *testing.T, m *mount, p *signer, _ map[string]any) string {
			other := m.mount(&logical.InmemStorage{})
			defer other.stop()
			other.must(other.write("config", map[string]any{"url": testURL, "nip": testNIP}))
			return p.sign(t, other.begin(nil), xadestest.DSS())
		}, "has not given out"},
		"another context": {func(t *testing.T, _ *mount, p *signer, begun map[string]any) string {
			return p.signAs(t, xadestest.Request{Challenge: begun["challenge"].(string), Context: stranger, Layout: xadestest.DSS()})
		}, "was altered: it is for the context Nip:1111111111"},
		"another subject type": {func(t *testing.T, _ *mount, p *signer, begun map[string]any) string {
			return p.signAs(t, xadestest.Request{Challenge: begun["challenge"].(string), Context: contextElement(begun), SubjectType: "certificateFingerprint", Layout: xadestest.DSS()})
		}, "was altered: its SubjectIdentifierType"},
		"a policy that nobody asked for": {func(t *testing.T, _ *mount, p *signer, begun map[string]any) string {
			return p.signAs(t, xadestest.Request{Inner: "<Challenge>" + begun["challenge"].(string) + "</Challenge><ContextIdentifier>" + contextElement(begun) +
				"</ContextIdentifier><SubjectIdentifierType>certificateSubject</SubjectIdentifierType><AuthorizationPolicy></AuthorizationPolicy>", Layout: xadestest.DSS()})
		}, "an element AuthorizationPolicy"},
		"a missing element": {func(t *testing.T, _ *mount, p *signer, begun map[string]any) string {
			return p.signAs(t, xadestest.Request{Inner: "<Challenge>" + begun["challenge"].(string) + "</Challenge>", Layout: xadestest.DSS()})
		}, "an element of the request is missing"},
		"too late": {func(t *testing.T, m *mount, p *signer, begun map[string]any) string {
			signed := p.sign(t, begun, xadestest.DSS())
			m.elapse(11 * time.Minute)
			return signed
		}, "came too late"},
		"begun before another API was configured": {func(t *testing.T, m *mount, p *signer, begun map[string]any) string {
			signed := p.sign(t, begun, xadestest.DSS())
			m.must(m.write("config", map[string]any{"url": "https://other.test/v2"}))
			return signed
		}, "was begun for " + testURL},
	} {
		t.Run(name, func(t *testing.T) {
			withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
				clerk := m.signer(simulator.CertificateOptions{PESEL: testPESEL})
				document := test.make(t, m, clerk, m.begin(nil))
				text := m.refused(m.complete(document))
				require.Contains(t, text, "signed_request: ")
				require.Contains(t, text, test.text)
				require.Zero(t, m.requests("POST /auth/xades-signature"), "nothing is sent")
			})
		})
	}
}

func TestASignedRequestIsTakenOnce(t *testing.T) {
	withoutKey(t, simulator.Options{QualifiedLoginDelay: 5 * time.Minute}, func(t *testing.T, m *mount) {
		clerk := m.signer(simulator.CertificateOptions{PESEL: testPESEL})
		signed := clerk.sign(t, m.begin(nil), xadestest.DSS())
		pending := m.must(m.complete(signed))
		require.Equal(t, "pending", pending.Data["status"])
		require.Contains(t, m.refused(m.complete(signed)), "was already brought, as the login "+pending.Data["reference_number"].(string))
		m.elapse(10 * time.Minute)
		require.Contains(t, m.refused(m.complete(signed)), "whose login is over")
		require.Equal(t, 1, m.requests("POST /auth/xades-signature"))
	})
}

func TestWhatKSeFFindsWrongIsPassedOnAndCanBeMended(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		clerk := m.signer(simulator.CertificateOptions{PESEL: testPESEL})
		begun := m.begin(nil)
		signed := clerk.sign(t, begun, xadestest.DSS())
		text := m.refused(m.complete(strings.Replace(signed, "text/xml", "text/plain", 1)))
		require.Contains(t, text, "9105")
		require.Contains(t, text, "did not verify")
		m.must(m.complete(signed))
	})
}

func TestALoginThatKSeFRefusesIsToldWithItsStatus(t *testing.T) {
	withoutKey(t, simulator.Options{RequireGrants: true}, func(t *testing.T, m *mount) {
		clerk := m.signer(simulator.CertificateOptions{PESEL: testPESEL})
		text := m.refused(m.complete(clerk.sign(t, m.begin(nil), xadestest.DSS())))
		require.Contains(t, text, "415")
		status := m.statusDetails()
		logins := status["logins"].([]map[string]any)
		require.Len(t, logins, 1)
		require.Equal(t, "failed", logins[0]["status"])
		require.Contains(t, logins[0]["error"], "415")
		m.requireEvent("ksef/login-fail")
	})
}

func TestALoginThatTakesMinutesIsFinishedByTheEngine(t *testing.T) {
	for name, restart := range map[string]bool{"in the same process": false, "in the next process": true} {
		t.Run(name, func(t *testing.T) {
			withoutKey(t, simulator.Options{QualifiedLoginDelay: 5 * time.Minute}, func(t *testing.T, m *mount) {
				clerk := m.signer(simulator.CertificateOptions{PESEL: testPESEL})
				asked := time.Now()
				answer := m.must(m.complete(clerk.sign(t, m.begin(nil), xadestest.DSS())))
				require.Equal(t, "pending", answer.Data["status"])
				require.Less(t, time.Since(asked), 90*time.Second)
				require.Equal(t, "pending", m.statusDetails()["logins"].([]map[string]any)[0]["status"])
				if restart {
					m.stop()
					m.start()
				}
				for _, text := range []string{m.refused(m.read("tokens", nil)), m.refused(m.write("config/rotate-root", nil))} {
					require.Contains(t, text, "login: is still to be decided by KSeF in Nip:"+testNIP+", as "+answer.Data["reference_number"].(string))
					require.Contains(t, text, "nothing need be signed again")
				}
				m.elapse(6 * time.Minute)
				require.Empty(t, m.statusDetails()["logins"])
				require.NotEmpty(t, m.must(m.read("config", nil)).Data["session_until"])
				require.NoError(t, m.login(m.issue().Data["token"]))
				m.requireEvent("ksef/login")
			})
		})
	}
}

func TestALoginThatEndsSoonIsToldWellAhead(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		clerk := m.signer(simulator.CertificateOptions{PESEL: testPESEL})
		m.logIn(clerk)
		require.Empty(t, m.must(m.read("config", nil)).Warnings)
		m.elapse(4*24*time.Hour + 2*time.Hour)
		require.Contains(t, strings.Join(m.must(m.read("config", nil)).Warnings, " "), "ends in 70 hours")
		require.Contains(t, strings.Join(m.must(m.read("status", nil)).Warnings, " "), "ends in 70 hours")
		require.Equal(t, 1, m.countEvents("ksef/login-expiring"))
		m.elapse(24 * time.Hour)
		require.Equal(t, 2, m.countEvents("ksef/login-expiring"))
		m.logIn(clerk)
		require.Empty(t, m.must(m.read("config", nil)).Warnings)
		require.Equal(t, 1, m.openSessions(), "the login before has been ended")
	})
}

func TestAnotherSignerIsWarnedOf(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.logIn(m.signer(simulator.CertificateOptions{PESEL: testPESEL}))
		m.issue()
		response := m.logIn(m.signer(simulator.CertificateOptions{PESEL: "80010112345"}))
		require.Contains(t, strings.Join(response.Warnings, " "), "only if it holds CredentialsManage")
	})
}

// A login lasts for seven days, in which the certificate's would not be used.
func TestAnotherSubjectsLoginDoesNotTakeThePlaceOfTheCertificates(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.must(m.write("config", map[string]any{"allowed_contexts": unitContext}))
		stranger := m.signer(simulator.CertificateOptions{PESEL: testPESEL})
		text := m.refused(m.complete(stranger.sign(t, m.begin(nil), xadestest.DSS())))
		require.Contains(t, text, "is signed by Pesel:"+testPESEL+", and config has the certificate of Nip:"+testNIP)
		require.Equal(t, 1, m.requests("POST /auth/xades-signature"), "nothing is sent")
		m.must(m.complete(stranger.sign(t, m.begin(map[string]any{"internal_id": unitContext}), xadestest.DSS())))

		m.elapse(time.Minute)
		m.logIn(m.signer(simulator.CertificateOptions{NIP: testNIP}))
		m.must(m.write("config", map[string]any{"activation_timeout": "10s"}))
		for _, one := range m.statusDetails()["sessions"].([]map[string]any) {
			require.Equal(t, one["internal_id"] == unitContext, one["signed_outside"], "a write to config brings the certificate's own login back")
		}
	})
}

func TestALoginThatIsPendingIsNotAskedForAgain(t *testing.T) {
	withoutKey(t, simulator.Options{QualifiedLoginDelay: 5 * time.Minute}, func(t *testing.T, m *mount) {
		pending := m.logIn(m.signer(simulator.CertificateOptions{PESEL: testPESEL}))
		for _, path := range []string{"config", "status"} {
			warnings := strings.Join(m.must(m.read(path, nil)).Warnings, " ")
			require.Contains(t, warnings, "still to decide the login "+pending.Data["reference_number"].(string))
			require.NotContains(t, warnings, "login/begin")
		}
	})
}

func TestALoginThatKSeFHasEndedIsNotShownAsOneThatWorks(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.logIn(m.signer(simulator.CertificateOptions{PESEL: testPESEL}))
		m.must(m.write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
		m.ksef.Advance(8 * day)
		require.Contains(t, m.refused(m.read("creds/invoices", nil)), "has ended")
		for _, path := range []string{"config", "status"} {
			require.Contains(t, strings.Join(m.must(m.read(path, nil)).Warnings, " "), "login/begin")
		}
		require.Empty(t, m.statusDetails()["sessions"])
	})
}

func TestALoginSetsOffWhatHasWaitedForIt(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		clerk := m.signer(simulator.CertificateOptions{PESEL: testPESEL})
		m.logIn(clerk)
		issued := m.issue()
		m.elapse(8 * day)
		require.ErrorContains(t, m.revoke(m.lease(issued)), "has not yet confirmed")
		m.elapse(time.Hour)
		m.logIn(clerk)
		m.elapse(5 * time.Second)
		require.NotEqual(t, "Active", m.statusInKSeF(issued.Data["reference_number"]))
	})
}

func TestASettingOfExternalSigningChangesUnderALogin(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.logIn(m.signer(simulator.CertificateOptions{PESEL: testPESEL}))
		m.must(m.write("config", map[string]any{"subject_identifier_type": "certificateFingerprint"}))
		require.Equal(t, "certificateFingerprint", m.begin(nil)["subject_identifier_type"])
		m.issue()
		require.Equal(t, 1, m.openSessions())
	})
}

func TestACertificateTakesThePlaceOfAPersonsLoginInConfig(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.logIn(m.signer(simulator.CertificateOptions{NIP: testNIP}))
		m.configure()
		require.Equal(t, "certificate", m.must(m.read("config", nil)).Data["signing"])
		require.Equal(t, 1, m.openSessions(), "what the same subject has signed is no longer needed")
		m.issue()
	})
}

func TestAConfigThatGoesTakesPersonalLoginsWithIt(t *testing.T) {
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.logIn(m.signer(simulator.CertificateOptions{PESEL: testPESEL}))
		m.begin(nil)
		m.must(m.delete("config"))
		require.Zero(t, m.openSessions())
		m.requireNothingLeftOf("sessions/", "logins/", "config")
	})
}
