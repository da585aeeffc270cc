// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestCertificateLogsInAsItsSubject(t *testing.T) {
	unnamed := newCredential(t, simulator.CertificateOptions{})
	fingerprint := simulator.Fingerprint(unnamed.certificate)
	tests := map[string]struct {
		who     credential
		subject string // SubjectIdentifierType
		want    simulator.Identifier
		written string
	}{
		"seal": {seal(t), "", simulator.Identifier{Type: "Nip", Value: nip},
			"2.5.4.6=PL,2.5.4.97=VATPL-5265877635,2.5.4.10=Testowa Sp. z o.o.," +
				"2.5.4.3=Testowa Sp. z o.o. (uwierzytelnienie)"},
		"person, NIP": {newCredential(t, simulator.CertificateOptions{NIP: nip, Person: true}), "",
			simulator.Identifier{Type: "Nip", Value: nip},
			"2.5.4.6=PL,2.5.4.4=Testowy,2.5.4.42=Jan,2.5.4.5=TINPL-5265877635,2.5.4.3=Jan Testowy (uwierzytelnienie)"},
		"person, PESEL": {newCredential(t, simulator.CertificateOptions{PESEL: pesel}), "",
			simulator.Identifier{Type: "Pesel", Value: pesel},
			"2.5.4.6=PL,2.5.4.4=Testowy,2.5.4.42=Jan,2.5.4.5=PNOPL-44051401359,2.5.4.3=Jan Testowy (uwierzytelnienie)"},
		"fingerprint": {unnamed, "certificateFingerprint", fingerprint,
			"2.5.4.6=PL,2.5.4.4=Testowy,2.5.4.42=Jan,2.5.4.45=" + fingerprint.Value +
				",2.5.4.3=Jan Testowy (uwierzytelnienie)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			grant := simulator.Grant{Identifier: fingerprint, Context: simulator.Identifier{Type: "Nip", Value: nip}}
			a := newAPI(t, simulator.Options{Grants: []simulator.Grant{grant}})
			login := func(c credential, query string) session {
				r := a.request(c, nipXML)
				r.SubjectType = test.subject
				return a.redeem(operationOf(a.want(http.StatusAccepted, "POST", "/auth/xades-signature"+query, "",
					a.sign(r))))
			}
			first := login(test.who, "")
			data := a.want(http.StatusOK, "GET", "/certificates/enrollments/data", first.access, nil).body
			own, _ := a.newCertificate(first, "Authentication")
			require.Equal(t, test.written, subjectOf(own.certificate))
			require.Equal(t, "CN=TEST CCK KSeF,OU=Krajowa Administracja Skarbowa,O=Ministerstwo Finansów,C=PL",
				own.certificate.Issuer.String())
			require.Equal(t, x509.KeyUsageDigitalSignature, own.certificate.KeyUsage)
			require.Equal(t, own.certificate.NotBefore.AddDate(2, 0, 0), own.certificate.NotAfter)

			second := login(own, "?verifyCertificateChain=true")
			sessions := a.sim.State().Sessions
			require.Equal(t, test.want, sessions[len(sessions)-1].Identifier)
			got := a.want(http.StatusOK, "GET", "/auth/sessions", second.access, nil).list("items")
			require.Equal(t, "InternalCertificate", got[0]["authenticationMethod"])
			require.Equal(t, data,
				a.want(http.StatusOK, "GET", "/certificates/enrollments/data", second.access, nil).body)

			third, _ := a.newCertificate(second, "Authentication")
			require.Equal(t, test.written, subjectOf(third.certificate))
			login(third, "")
		})
	}
}

func TestStateShowsCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		key := newECKey(t)
		reference := a.enroll(s, a.enrollment(s, "Offline", key))
		require.Empty(t, a.sim.State().Certificates)
		time.Sleep(time.Second)
		require.Equal(t, []simulator.CertificateState{{
			SerialNumber: a.enrollmentStatus(s, reference).text("certificateSerialNumber"), Status: "Active",
			Name: "Certyfikat testowy", Type: "Offline", SubjectIdentifier: simulator.Identifier{Type: "Nip",
				Value: nip},
			ValidFrom: "2000-01-01T00:00:01.0000000+00:00", ValidTo: "2002-01-01T00:00:01.0000000+00:00",
		}}, a.sim.State().Certificates)
		_, body := a.control("GET", "state", "")
		require.Contains(t, body, `"certificateSerialNumber":`)
	})
}

func TestCertificateQueryPagesNewestFirst(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	key := newECKey(t)
	var serials []string
	for i := range 13 {
		body := a.enrollment(s, map[bool]string{false: "Authentication", true: "Offline"}[i%2 == 1], key)
		body["certificateName"] = fmt.Sprintf("Certyfikat %02d", i)
		_, serial := a.certificate(s, body, key)
		serials = append(serials, serial)
	}
	first := a.query(s, "", nil)
	require.Len(t, first.list("certificates"), 10)
	require.Equal(t, true, first.body["hasMore"])
	require.Equal(t, serials[12], first.list("certificates")[0]["certificateSerialNumber"])
	require.Equal(t, "Testowa Sp. z o.o.", first.list("certificates")[0]["commonName"])
	second := a.query(s, "?pageSize=10&pageOffset=1", map[string]any{})
	require.Len(t, second.list("certificates"), 3)
	require.Equal(t, false, second.body["hasMore"])
	require.Equal(t, serials[0], second.list("certificates")[2]["certificateSerialNumber"])

	a.revoke(s, serials[4])
	a.sim.Advance(time.Second)
	for want, filter := range map[int]map[string]any{
		7:  {"type": "Authentication", "name": nil},
		12: {"status": "Active"},
		3:  {"name": "fikat 1"},
		1:  {"certificateSerialNumber": serials[4], "status": "Revoked"},
		13: {"expiresAfter": time.Now().AddDate(1, 0, 0)},
		0:  {"expiresAfter": time.Now().AddDate(3, 0, 0)},
	} {
		require.Len(t, a.query(s, "?pageSize=50", filter).list("certificates"), want, "%v", filter)
	}
	a.enroll(s, a.enrollment(s, "Offline", key))
	require.Len(t, a.query(s, "?pageSize=50", nil).list("certificates"), 13, "one in progress is not listed")
	other := a.login(newCredential(t, simulator.CertificateOptions{PESEL: pesel}), nipXML)
	require.Empty(t, a.query(other, "", nil).list("certificates"))
	require.Empty(t, a.retrieve(other, serials[0]))
	require.Len(t, a.retrieve(s, serials[:10]...), 10)
}

func TestCertificateQueryInvalid(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	serials := func(count int, serial string) map[string]any {
		list := make([]string, count)
		for i := range list {
			list[i] = serial
		}
		return map[string]any{"certificateSerialNumbers": list}
	}
	for _, test := range []struct {
		path   string
		body   any
		detail string
	}{
		{"query?pageSize=9", nil, "pageSize"},
		{"query?pageSize=51", nil, "pageSize"},
		{"query?pageOffset=-1", nil, "pageOffset"},
		{"query?pageOffset=x", nil, "pageOffset"},
		{"query", map[string]any{"status": "Lost"}, "Lost"},
		{"query", map[string]any{"type": "Seal"}, "Seal"},
		{"query", map[string]any{"certificateSerialNumber": "1"}, "16"},
		{"query", map[string]any{"expiresAfter": "soon"}, "JSON"},
		{"retrieve", serials(0, ""), "od 1 do 10"},
		{"retrieve", serials(11, "0123456789ABCDEF"), "od 1 do 10"},
		{"retrieve", serials(1, "0123456789abcdef"), "16"},
	} {
		a.refused(a.do("POST", "/certificates/"+test.path, s.access, test.body), 21405, test.detail)
	}
}

func TestCertificateRevocation(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	own, serial := a.newCertificate(s, "Authentication")
	session := a.login(own, nipXML)
	require.NotNil(t, a.query(s, "", nil).list("certificates")[0]["lastUseDate"])

	path := "/certificates/" + serial + "/revoke"
	a.refused(a.do("POST", path, s.access, map[string]any{"revocationReason": "Boredom"}), 21405, "Boredom")
	a.refused(a.do("POST", "/certificates/1/revoke", s.access, nil), 21405, "16")
	a.refused(a.do("POST", "/certificates/0123456789ABCDEF/revoke", s.access, nil), 25008, "")
	other := a.login(newCredential(t, simulator.CertificateOptions{PESEL: pesel}), nipXML)
	a.refused(a.do("POST", path, other.access, nil), 25008, "")

	a.want(http.StatusNoContent, "POST", path, session.access, nil)
	require.Equal(t, "Blocked", a.sim.State().Certificates[0].Status)
	a.refused(a.do("POST", path, s.access, nil), 25009, "")
	a.sim.Advance(time.Second)
	require.Equal(t, "Revoked", a.sim.State().Certificates[0].Status)
	a.refused(a.do("POST", path, s.access, nil), 25009, "")

	refreshed := a.want(http.StatusOK, "POST", "/auth/token/refresh", session.refresh, nil).text("accessToken.token")
	a.want(http.StatusOK, "GET", "/tokens", refreshed, nil)
	code, detail := a.status(a.begin(own, nipXML))
	require.Equal(t, 460, code)
	require.Equal(t, "Certyfikat odwołany", detail)
}

func TestCertificateLoginNotValid(t *testing.T) {
	failed := func(a *api, c credential) {
		a.t.Helper()
		code, detail := a.status(a.begin(c, nipXML))
		require.Equal(a.t, 460, code)
		require.Equal(a.t, "Nieważny certyfikat", detail)
	}
	t.Run("not yet accepted", func(t *testing.T) {
		a := newAPI(t, simulator.Options{CertificateAcceptanceDelay: time.Hour})
		own, _ := a.newCertificate(a.login(seal(t), nipXML), "Authentication")
		require.False(t, own.certificate.NotBefore.After(time.Now().Add(time.Second)))
		failed(a, own)
		a.sim.Advance(time.Hour)
		a.login(own, nipXML)
	})
	t.Run("valid later", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s, key := a.login(seal(t), nipXML), newECKey(t)
		from := time.Now().Add(89 * 24 * time.Hour).Truncate(time.Second)
		body := a.enrollment(s, "Authentication", key)
		body["validFrom"] = from.Format("2006-01-02T15:04:05.000-07:00")
		own, _ := a.certificate(s, body, key)
		require.WithinDuration(t, from, own.certificate.NotBefore, 0)
		require.WithinDuration(t, from.UTC().AddDate(2, 0, 0), own.certificate.NotAfter, 0)
		failed(a, own)
		a.sim.Advance(89 * 24 * time.Hour)
		a.login(own, nipXML)
	})
	t.Run("expired", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		own, serial := a.newCertificate(a.login(seal(t), nipXML), "Authentication")
		a.sim.Advance(time.Until(own.certificate.NotAfter) - time.Minute)
		a.login(own, nipXML)
		a.sim.Advance(2 * time.Minute)
		failed(a, own)
		require.Equal(t, "Expired", a.sim.State().Certificates[0].Status)
		s := a.login(newCredential(t, simulator.CertificateOptions{NIP: nip, NotAfter: time.Now().AddDate(9, 0, 0)}),
			nipXML)
		a.refused(a.do("POST", "/certificates/"+serial+"/revoke", s.access, nil), 25009, "")
		require.Equal(t, 100,
			a.want(http.StatusOK, "GET", "/certificates/limits", s.access, nil).number("certificate.remaining"))
	})
}

func TestCertificateLoginOnlyKnownForAuthentication(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	s := a.login(seal(t), nipXML)
	offline, _ := a.newCertificate(s, "Offline")
	require.Equal(t, x509.KeyUsageContentCommitment, offline.certificate.KeyUsage)
	require.Equal(t, "Testowa Sp. z o.o. (offline)", offline.certificate.Subject.CommonName)
	post := func(a *api, c credential) response {
		return a.do("POST", "/auth/xades-signature", "", a.sign(a.request(c, nipXML)))
	}
	a.refused(post(a, offline), 21115, "Offline")

	own, _ := a.newCertificate(s, "Authentication")
	a.refused(post(newAPI(t, simulator.Options{}), own), 21115, "innego środowiska")
	a.sim.Reset()
	a.refused(post(a, own), 21115, "nieznany")
}

func TestLoginQualifiedDelayOnlyForOtherIssuers(t *testing.T) {
	a := newAPI(t, simulator.Options{QualifiedLoginDelay: 5 * time.Minute, LoginDelay: time.Minute})
	o := a.begin(seal(t), nipXML)
	a.sim.Advance(6*time.Minute - time.Second)
	code, _ := a.status(o)
	require.Equal(t, 100, code)
	a.sim.Advance(time.Second)
	s := a.redeem(o)

	own, _ := a.newCertificate(s, "Authentication")
	o = a.begin(own, nipXML)
	a.sim.Advance(time.Minute)
	a.redeem(o)
}

func TestCertificateRSAKey(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	s := a.login(seal(t), nipXML)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	own, _ := a.certificate(s, a.enrollment(s, "Authentication", key), key)
	a.login(own, nipXML)
}

// The state at the due time decides a login, not that at its request.
func TestCertificateRevokedWhileLoginInProgress(t *testing.T) {
	for revoked, want := range map[bool]int{false: 200, true: 460} {
		a := newAPI(t, simulator.Options{Limits: unlimited(), LoginDelay: time.Minute})
		o := a.begin(seal(t), nipXML)
		a.sim.Advance(time.Minute)
		owner := a.redeem(o)
		c, serial := a.newCertificate(owner, "Authentication")
		o = a.begin(c, nipXML)
		if revoked {
			a.revoke(owner, serial)
		}
		a.sim.Advance(time.Minute)
		if !revoked { // too late
			a.revoke(owner, serial)
		}
		code, _ := a.status(o)
		require.Equal(t, want, code)
	}
}
