// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestEnrollmentInProgressForDelayKnownThirtyDays(t *testing.T) {
	a := newAPI(t, simulator.Options{EnrollmentDelay: time.Minute, Limits: unlimited()})
	c := seal(t)
	s := a.login(c, nipXML)
	reference := a.enroll(s, a.enrollment(s, "Authentication", newECKey(t)))
	require.Regexp(t, `^\d{8}-EH-`, reference)
	a.sim.Advance(time.Minute - time.Second)
	pending := a.enrollmentStatus(s, reference)
	require.Equal(t, 100, pending.number("status.code"))
	require.NotContains(t, pending.body, "certificateSerialNumber")
	a.sim.Advance(time.Second)
	done := a.enrollmentStatus(s, reference)
	require.Equal(t, 200, done.number("status.code"))
	require.Regexp(t, "^[0-9A-F]{16}$", done.text("certificateSerialNumber"))

	path := "/certificates/enrollments/"
	a.refused(a.do("GET", path+"1", s.access, nil), 21405, "")
	a.refused(a.do("GET", path+"20251010-EH-1B6C9EB000-4B15D3AEB9-89", s.access, nil), 25005, "")
	other := a.login(newCredential(t, simulator.CertificateOptions{PESEL: pesel}), nipXML)
	a.refused(a.do("GET", path+reference, other.access, nil), 25005, "")
	a.sim.Advance(30 * 24 * time.Hour)
	require.Equal(t, "Gone",
		a.want(http.StatusGone, "GET", path+reference, a.login(c, nipXML).access, nil).text("title"))
}

func TestEnrollmentRefusalCodes(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	key := newECKey(t)
	valid := a.enrollment(s, "Authentication", key)
	data := a.want(http.StatusOK, "GET", "/certificates/enrollments/data", s.access, nil).body
	csr := func(key any, edit func(*pkix.Name)) string {
		name := subjectName(data)
		if edit != nil {
			edit(&name)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name}, key)
		require.NoError(t, err)
		return base64.StdEncoding.EncodeToString(der)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	rsa1024, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	patched := func(encoded string, old, replacement []byte) string {
		der, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err)
		require.True(t, bytes.Contains(der, old))
		return base64.StdEncoding.EncodeToString(bytes.ReplaceAll(der, old, replacement))
	}
	tests := map[string]struct {
		field string
		value any
		code  int
	}{
		"name too short":       {"certificateName", "abcd", 21405},
		"name too long":        {"certificateName", strings.Repeat("ą", 101), 21405},
		"name's characters":    {"certificateName", "Certyfikat/1", 21405},
		"type":                 {"certificateType", "Seal", 21405},
		"no base64":            {"csr", "!", 21405},
		"empty":                {"csr", "", 21405},
		"validFrom is no time": {"validFrom", "tomorrow", 21405},
		"validFrom too far":    {"validFrom", time.Now().AddDate(0, 0, 91), 21405},
		"no request":           {"csr", "AAAA", 25004},
		"wrong signature":      {"csr", patched(csr(key, nil), []byte("Testowa"), []byte("testowa")), 25004},
		"P-384":                {"csr", csr(p384, nil), 25010},
		"RSA 1024":             {"csr", csr(rsa1024, nil), 25010},
		"Ed25519":              {"csr", csr(edwards, nil), 25010},
		"MD5": {"csr",
			patched(csr(rsa2048, nil), []byte("\x86\xf7\x0d\x01\x01\x0b"), []byte("\x86\xf7\x0d\x01\x01\x04")), 25011},
		"another name": {"csr", csr(key, func(n *pkix.Name) { n.ExtraNames[0].Value = "Inna Sp. z o.o." }),
			25003},
		"an attribute too few":  {"csr", csr(key, func(n *pkix.Name) { n.ExtraNames = n.ExtraNames[1:] }), 25003},
		"an attribute too many": {"csr", csr(key, func(n *pkix.Name) { n.Locality = []string{"Warszawa"} }), 25003},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			body := maps.Clone(valid)
			body[test.field] = test.value
			a.withT(t).refused(a.do("POST", "/certificates/enrollments", s.access, body), test.code, "")
		})
	}
	require.Equal(t, 300,
		a.want(http.StatusOK, "GET", "/certificates/limits", s.access, nil).number("enrollment.remaining"))
	a.enroll(s, valid)
	a.header.Set("Content-Type", "text/plain")
	a.want(http.StatusUnsupportedMediaType, "POST", "/certificates/enrollments", s.access, valid)
}

func TestEnrollmentReadsContractExample(t *testing.T) {
	contract, err := loadContract()
	require.NoError(t, err)
	if contract == nil {
		return // the checks are off
	}
	a := newAPI(t, simulator.Options{})
	s := a.login(seal(t), nipXML)
	body := contract.Paths.Value("/certificates/enrollments").Post.RequestBody.Value
	example := body.Content.Get("application/json").Example
	a.refused(a.do("POST", "/certificates/enrollments", s.access, example), 25003, "")
}

func TestEnrollmentRefusedAfterTokenLogin(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	_, serial := a.newCertificate(s, "Authentication")
	body := a.enrollment(s, "Authentication", newECKey(t))
	byToken := a.tokenSession(s)
	a.refused(a.do("GET", "/certificates/enrollments/data", byToken.access, nil), 25001, "")
	a.refused(a.do("POST", "/certificates/enrollments", byToken.access, body), 25002, "")
	got := a.want(http.StatusForbidden, "POST", "/certificates/"+serial+"/revoke", byToken.access, nil)
	require.Equal(t, "auth-method-not-allowed", got.text("reasonCode"))
	require.Len(t, a.query(byToken, "", nil).list("certificates"), 1)
}

func TestCertificateQuotaCounts(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	c := newCredential(t, simulator.CertificateOptions{PESEL: pesel})
	s := a.login(c, nipXML)
	limits := func() [4]int {
		got := a.want(http.StatusOK, "GET", "/certificates/limits", s.access, nil)
		return [4]int{got.number("enrollment.remaining"), got.number("enrollment.limit"),
			got.number("certificate.remaining"), got.number("certificate.limit")}
	}
	key := newECKey(t)
	body := a.enrollment(s, "Authentication", key)
	require.Equal(t, [4]int{12, 12, 6, 6}, limits())
	var serials []string
	for range 6 {
		_, serial := a.certificate(s, body, key)
		serials = append(serials, serial)
	}
	require.Equal(t, [4]int{6, 12, 0, 6}, limits())
	a.refused(a.do("POST", "/certificates/enrollments", s.access, body), 25007, "")
	for _, serial := range serials {
		a.revoke(s, serial)
		a.certificate(s, body, key)
	}
	a.revoke(s, a.sim.State().Certificates[11].SerialNumber)
	require.Equal(t, [4]int{0, 12, 1, 6}, limits())
	require.Equal(t, false, a.want(http.StatusOK, "GET", "/certificates/limits", s.access, nil).body["canRequest"])
	a.refused(a.do("POST", "/certificates/enrollments", s.access, body), 25006, "")

	a.sim.Advance(30 * 24 * time.Hour)
	s = a.login(c, nipXML)
	require.Equal(t, [4]int{12, 12, 1, 6}, limits())
	a.enroll(s, body)
}

func TestCertificateQuotaOption(t *testing.T) {
	a := newAPI(t, simulator.Options{CertificateQuota: simulator.CertificateQuota{Requests: 1}})
	s := a.login(seal(t), nipXML)
	body := a.enrollment(s, "Authentication", newECKey(t))
	a.enroll(s, body)
	a.refused(a.do("POST", "/certificates/enrollments", s.access, body), 25006, "")
	require.Equal(t, 100,
		a.want(http.StatusOK, "GET", "/certificates/limits", s.access, nil).number("certificate.limit"))

	none := newAPI(t, simulator.Options{CertificateQuota: simulator.CertificateQuota{Certificates: -1}})
	s = none.login(seal(t), nipXML)
	none.refused(none.do("POST", "/certificates/enrollments", s.access, body), 25007, "")
}

func TestEnrollmentFailureStatus(t *testing.T) {
	details := func(got response) any { return got.body["status"].(map[string]any)["details"] }
	t.Run("faults", func(t *testing.T) {
		a := newAPI(t, withoutRateLimits())
		s := a.login(seal(t), nipXML)
		body := a.enrollment(s, "Authentication", newECKey(t))
		for _, code := range []int{400, 500, 550} {
			require.NoError(t, a.sim.AddFault(simulator.Fault{Endpoint: "POST /certificates/enrollments",
				Kind: simulator.FaultFailEnrollment, Status: code}))
			reference := a.enroll(s, body)
			require.Equal(t, 100, a.enrollmentStatus(s, reference).number("status.code"))
			a.sim.Advance(time.Second)
			got := a.enrollmentStatus(s, reference)
			require.Equal(t, code, got.number("status.code"))
			require.NotContains(t, got.body, "certificateSerialNumber")
		}
		require.Empty(t, a.sim.State().Certificates)
		limits := a.want(http.StatusOK, "GET", "/certificates/limits", s.access, nil)
		require.Equal(t, 297, limits.number("enrollment.remaining"))
		require.Equal(t, 100, limits.number("certificate.remaining"))
	})
	t.Run("more at once than there is room for", func(t *testing.T) {
		a := newAPI(t, simulator.Options{CertificateQuota: simulator.CertificateQuota{Certificates: 1}})
		s := a.login(seal(t), nipXML)
		body := a.enrollment(s, "Authentication", newECKey(t))
		first, second := a.enroll(s, body), a.enroll(s, body)
		a.sim.Advance(time.Second)
		require.Equal(t, 200, a.enrollmentStatus(s, first).number("status.code"))
		got := a.enrollmentStatus(s, second)
		require.Equal(t, 400, got.number("status.code"))
		require.Equal(t, []any{"Osiągnięto dopuszczalny limit posiadanych certyfikatów."}, details(got))
	})
	t.Run("a key that another subject has certified", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		key := newECKey(t)
		s := a.login(seal(t), nipXML)
		a.certificate(s, a.enrollment(s, "Authentication", key), key)
		other := a.login(newCredential(t, simulator.CertificateOptions{PESEL: pesel}), nipXML)
		reference := a.enroll(other, a.enrollment(other, "Authentication", key))
		a.sim.Advance(time.Second)
		got := a.enrollmentStatus(other, reference)
		require.Equal(t, 400, got.number("status.code"))
		require.Equal(t, []any{"Klucz publiczny został już certyfikowany przez inny podmiot."}, details(got))
	})
}
