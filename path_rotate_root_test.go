// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestRotationReplacesACertificate(t *testing.T) {
	for name, test := range map[string]struct {
		signer  simulator.CertificateOptions
		fields  map[string]any
		subject string
		isRSA   bool
	}{
		"a seal":                {simulator.CertificateOptions{NIP: enginetest.NIP}, nil, "Nip:" + enginetest.NIP, false},
		"a seal to an RSA key":  {simulator.CertificateOptions{NIP: enginetest.NIP}, map[string]any{"certificate_key_type": "rsa-2048"}, "Nip:" + enginetest.NIP, true},
		"an RSA key to another": {simulator.CertificateOptions{NIP: enginetest.NIP, Key: "rsa"}, nil, "Nip:" + enginetest.NIP, false},
		"a person":              {simulator.CertificateOptions{PESEL: enginetest.PESEL}, map[string]any{"certificate_name": "Księgowość {{.NIP}}"}, "Pesel:" + enginetest.PESEL, false},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
				env.Cert, env.Key = env.NewCertificate(test.signer)
				m := env.Mount(&logical.InmemStorage{})
				defer m.Stop()
				m.Configure()
				before := m.Issue()
				answer := m.Rotate(test.fields)
				require.Equal(t, "done", answer["status"])

				issued := env.Certificates("Active")
				require.Len(t, issued, 1)
				require.Equal(t, answer["certificate_serial_number"], issued[0].SerialNumber)
				require.Equal(t, answer["certificate_name"], issued[0].Name)
				require.Equal(t, test.subject, answer["signer_identifier_type"].(string)+":"+answer["signer_identifier"].(string))
				require.NotEmpty(t, answer["signer_name"])
				require.Equal(t, "Authentication", issued[0].Type)
				if template, given := test.fields["certificate_name"]; given {
					require.Contains(t, issued[0].Name, strings.ReplaceAll(template.(string), "{{.NIP}}", enginetest.NIP))
				}
				read := m.Must(m.Read("config", nil)).Data
				require.Contains(t, read["certificate_issuer"], "CN=TEST CCK KSeF")
				require.Equal(t, issued[0].SerialNumber, read["certificate_serial_number"])
				require.Equal(t, test.subject, read["signer_identifier_type"].(string)+":"+read["signer_identifier"].(string))
				_, pair := m.ConfigInForce()
				if test.isRSA {
					require.IsType(t, &rsa.PrivateKey{}, pair.PrivateKey)
				} else {
					require.IsType(t, &ecdsa.PrivateKey{}, pair.PrivateKey)
				}
				require.Equal(t, 1, m.OpenSessions(), "the session before has been ended")
				require.NoError(t, m.Revoke(m.Lease(before)))
				require.NoError(t, m.Login(m.Issue().Data["token"]))
				m.RequireEvent("ksef/root-rotate-begin")
				m.RequireEvent("ksef/root-rotate")
			})
		})
	}
}

// KSeF knows a signer without NIP and PESEL by a fingerprint, which a rotation must keep.
func TestRotationKeepsAFingerprint(t *testing.T) {
	certificate, key, err := simulator.NewCertificate(simulator.CertificateOptions{NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(t, err)
	grant := simulator.Grant{
		Identifier: simulator.Fingerprint(pair.Leaf), Context: simulator.Identifier{Type: simulator.TypeNIP, Value: enginetest.NIP},
	}
	enginetest.InEnv(t, simulator.Options{Grants: []simulator.Grant{grant}}, func(t *testing.T, env *enginetest.Env) {
		env.Cert, env.Key = string(certificate), string(key)
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Configure()
		before := m.Issue()
		require.Equal(t, "done", m.Rotate(nil)["status"])
		read := m.Must(m.Read("config", nil)).Data
		require.Equal(t, "certificateFingerprint", read["subject_identifier_type"])
		require.Equal(t, grant.Identifier.Value, read["signer_identifier"])
		require.Contains(t, read["certificate_issuer"], "CN=TEST CCK KSeF")
		require.NoError(t, m.Revoke(m.Lease(before)))
		require.NoError(t, m.Login(m.Issue().Data["token"]))
	})
}

func TestRotationReplacesAnExternalLogin(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		signer := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL})
		m.LogIn(signer)
		before := m.Issue()
		require.Equal(t, "done", m.Rotate(nil)["status"])
		read := m.Must(m.Read("config", nil)).Data
		require.Equal(t, "certificate", read["signing"])
		require.Contains(t, read["certificate_issuer"], "CN=TEST CCK KSeF")
		require.Equal(t, 1, m.OpenSessions(), "the person's session has been ended")
		require.NoError(t, m.Revoke(m.Lease(before)))
		m.Elapse(30 * 24 * time.Hour)
		require.NoError(t, m.Login(m.Issue().Data["token"]), "no signature is needed any more")
	})
}

func TestRotationRevokesTheCertificateBefore(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		first := m.Rotate(nil)["certificate_serial_number"]
		second := m.Rotate(nil)
		require.Equal(t, first, second["retired_serial_number"])
		m.Elapse(time.Minute)
		require.Len(t, m.Certificates("Active"), 1)
		require.Equal(t, first, m.Certificates("Revoked")[0].SerialNumber)
		m.Stop()
		m.Start()
		require.NoError(t, m.Login(m.Issue().Data["token"]))
	})
}

func TestRotationIsFinishedByTheEngine(t *testing.T) {
	for name, options := range map[string]simulator.Options{
		"a request that KSeF takes minutes to decide":     {EnrollmentDelay: 5 * time.Minute},
		"a certificate that KSeF holds for not yet valid": {CertificateAcceptanceDelay: 2 * time.Hour},
	} {
		for how, restart := range map[string]bool{"in the same process": false, "in the next process": true} {
			t.Run(name+" "+how, func(t *testing.T) {
				enginetest.WithMount(t, options, func(t *testing.T, m *enginetest.Mount) {
					asked := time.Now()
					response := m.Must(m.Write("config/rotate-root", nil))
					require.Equal(t, "pending", response.Data["status"])
					require.Equal(t, []any{"Nip", enginetest.NIP}, []any{response.Data["signer_identifier_type"], response.Data["signer_identifier"]})
					require.Contains(t, response.Warnings[0], "finishes it by itself")
					require.Less(t, time.Since(asked), 90*time.Second)
					again := m.Must(m.Write("config/rotate-root", nil))
					require.Equal(t, response.Data["certificate_name"], again.Data["certificate_name"], "the rotation in progress is joined")
					require.NotEmpty(t, m.StatusDetails()["rotation"].(map[string]any)["step"])
					require.NoError(t, m.Login(m.Issue().Data["token"]), "the credential before stays in force")
					if restart {
						m.Stop()
						m.Start()
					}
					m.Elapse(4 * time.Hour)
					require.Contains(t, m.Must(m.Read("config", nil)).Data["certificate_issuer"], "CN=TEST CCK KSeF")
					require.Equal(t, 1, m.Requests(enginetest.EnrollEndpoint))
					require.Equal(t, 1, m.OpenSessions())
					require.NoError(t, m.Login(m.Issue().Data["token"]))
				})
			})
		}
	}
}

func TestRotationIssuesTokensThroughout(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{LoginDelay: 2 * time.Second, EnrollmentDelay: 3 * time.Second}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
		var made sync.WaitGroup
		for i := range 25 {
			made.Go(func() {
				<-time.After(time.Duration(i) * 400 * time.Millisecond)
				issued := m.Must(m.Read("creds/invoices", nil))
				require.NoError(t, m.Revoke(m.Lease(issued)))
			})
		}
		<-time.After(time.Second)
		require.Equal(t, "done", m.Rotate(nil)["status"])
		made.Wait()
		require.Equal(t, 1, m.OpenSessions())
	})
}

func TestRotationRefusedByKSeFChangesNothing(t *testing.T) {
	none := simulator.CertificateQuota{Requests: -1}
	full := simulator.CertificateQuota{Certificates: -1}
	for name, test := range map[string]struct {
		options simulator.Options
		fault   *simulator.Fault
		texts   []string
	}{
		"no request left":     {options: simulator.Options{CertificateQuota: none}, texts: []string{"allows the subject no further one", "0 of 0 requests"}},
		"no certificate left": {options: simulator.Options{CertificateQuota: full}, texts: []string{"allows the subject no further one", "0 of 0 active certificates"}},
		"rejected":            {fault: &simulator.Fault{Kind: simulator.FaultFailEnrollment, Status: 400}, texts: []string{"400 Wniosek odrzucony", "as many certificates as it may have"}},
		"unknown error":       {fault: &simulator.Fault{Kind: simulator.FaultFailEnrollment, Status: 500}, texts: []string{"500 Nieznany błąd"}},
		"cancelled":           {fault: &simulator.Fault{Kind: simulator.FaultFailEnrollment, Status: 550}, texts: []string{"550 Operacja", "rotate again later"}},
		"refused at once":     {fault: &simulator.Fault{Kind: simulator.FaultStatus, Status: 403}, texts: []string{"does not take the request", "403"}},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.WithMount(t, test.options, func(t *testing.T, m *enginetest.Mount) {
				before, _ := m.ConfigInForce()
				if test.fault != nil {
					test.fault.Endpoint = enginetest.EnrollEndpoint
					m.Fault(*test.fault)
				}
				text := m.Refused(m.Write("config/rotate-root", nil))
				for _, part := range test.texts {
					require.Contains(t, text, part)
				}
				after, _ := m.ConfigInForce()
				require.Equal(t, before, after)
				requireEventUnless(m, test.fault == nil, "ksef/root-rotate-fail")
				require.NoError(t, m.Login(m.Issue().Data["token"]))
				if test.fault != nil {
					require.Equal(t, "done", m.Rotate(nil)["status"], "nothing stands in the way of the next one")
				}
			})
		})
	}
}

func requireEventUnless(m *enginetest.Mount, none bool, kind string) {
	m.T.Helper()
	require.Equal(m.T, !none, m.CountEvents(kind) > 0, kind)
}

func TestRotationNotBegunWhileKSeFIsUnreachable(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
		_, err := m.Write("config/rotate-root", nil)
		require.ErrorContains(t, err, "could not be reached")
		m.KSeF.ClearFaults()
		m.RequireNothingLeftOf("rotation")
		require.NoError(t, m.Login(m.Issue().Data["token"]))
	})
}

// falsified changes KSeF's answer at an endpoint on its way.
type falsified struct {
	ksef           http.RoundTripper
	path, old, new string
}

func (f falsified) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := f.ksef.RoundTrip(request)
	if err != nil || !strings.HasSuffix(request.URL.Path, f.path) {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(body, []byte(f.old), []byte(f.new))))
	return response, err
}

func TestRotationWithAWrongSubject(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		env.SetTransport(falsified{env.Transport, "/certificates/enrollments/data", "VATPL-" + enginetest.NIP, "VATPL-1111111111"})
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Configure()
		text := m.Refused(m.Write("config/rotate-root", nil))
		require.Contains(t, text, "25003")
		require.Contains(t, text, "does not name the subject as KSeF wants it")
		require.NoError(t, m.Login(m.Issue().Data["token"]))
	})
}

func TestRotationFindsTheCertificateOfALostReply(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"no reply":      {Kind: simulator.FaultDropResponse},
		"half a reply":  {Kind: simulator.FaultTruncate},
		"another reply": {Kind: simulator.FaultGarbage},
		"no request":    {Kind: simulator.FaultDropRequest},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
				fault.Endpoint = enginetest.EnrollEndpoint
				m.Fault(fault)
				response := m.Must(m.Write("config/rotate-root", nil))
				if fault.Kind == simulator.FaultDropRequest {
					require.Contains(t, strings.Join(response.Warnings, " "), "reply to the request was lost")
					rotation := m.StatusDetails()["rotation"].(map[string]any)
					require.Contains(t, rotation["last_error"], "reply to the request was lost")
					require.NotEmpty(t, rotation["next_attempt"])
				}
				m.Elapse(time.Hour)
				require.Len(t, m.Certificates("Active"), 1, "one certificate for one rotation")
				require.Contains(t, m.Must(m.Read("config", nil)).Data["certificate_issuer"], "CN=TEST CCK KSeF")
				require.NoError(t, m.Login(m.Issue().Data["token"]))
			})
		})
	}
}

func TestRotationRefusesBadInput(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		for field, value := range map[string]string{
			"certificate_key_type": "rsa-1024", "certificate_name": "a/b/c/d/e", "certificate_renew_before": "2h",
		} {
			text := m.Refused(m.Write("config", map[string]any{field: value}))
			require.Contains(t, text, field+": ")
			require.Contains(t, text, "; ")
			if field != "certificate_renew_before" {
				require.Equal(t, text, m.Refused(m.Write("config/rotate-root", map[string]any{field: value})))
			}
		}
		require.Contains(t, m.Refused(m.Write("config", map[string]any{"certificate_name": "{{.Nope}} name"})), "certificate_name: is not a template")
		require.Zero(t, m.Requests("GET /certificates/limits"))
	})
}

func TestRotationIssuesTokensWhileAStartProvesItsCertificate(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{CertificateAcceptanceDelay: time.Hour}, func(t *testing.T, m *enginetest.Mount) {
		m.Issue()
		m.Must(m.Write("config/rotate-root", nil))
		require.Equal(t, "prove", m.Status()["rotation_step"])
		m.Stop()
		m.Fault(simulator.Fault{Endpoint: "POST /auth/challenge", Kind: simulator.FaultDelay, Delay: 25 * time.Second, Times: 1})
		m.Start()
		m.Elapse(time.Second)
		began := time.Now()
		m.Issue()
		require.Less(t, time.Since(began), 5*time.Second)
	})
}

func TestRotationContinuesUnderAnotherCertificateOfTheSubject(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
		require.Equal(t, "pending", m.Rotate(nil)["status"])
		m.Cert, m.Key = m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP, Key: "rsa"})
		m.Configure()
		m.Elapse(time.Hour)
		require.Contains(t, m.Must(m.Read("config", nil)).Data["certificate_issuer"], "KSeF")
		require.Equal(t, 1, m.OpenSessions())
	})
}

// KSeF shows one subject nothing of another's: a rotation must not take that for an answer.
func TestRotationWaitsWhileAnotherSubjectIsLoggedIn(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{EnrollmentDelay: 5 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
		first, second := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}), m.Signer(simulator.CertificateOptions{PESEL: "80010112345"})
		m.LogIn(first)
		require.Equal(t, "pending", m.Rotate(nil)["status"])
		m.LogIn(second)
		m.Elapse(2 * enginetest.Day)
		rotation := m.StatusDetails()["rotation"].(map[string]any)
		require.Contains(t, rotation["last_error"], "login: is that of Pesel:80010112345")
		m.LogIn(first)
		m.Elapse(2 * time.Hour)
		require.Equal(t, enginetest.PESEL, m.Must(m.Read("config", nil)).Data["signer_identifier"])
		require.Equal(t, 1, m.Requests(enginetest.EnrollEndpoint))
		require.Len(t, m.Certificates("Active"), 1)
	})
}

func TestRotationKeepsASettingThatChanges(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
		require.Equal(t, "pending", m.Rotate(nil)["status"])
		m.Must(m.Write("config", map[string]any{"activation_timeout": "7s"}))
		m.Elapse(time.Hour)
		read := m.Must(m.Read("config", nil)).Data
		require.Equal(t, int64(7), read["activation_timeout"])
		require.Contains(t, read["certificate_issuer"], "KSeF")
	})
}
