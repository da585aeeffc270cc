// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

const pesel = "44051401359"

func newECKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// subjectName makes the subject of a request from the response of GET
// /certificates/enrollments/data, in the order of the official C# client.
func subjectName(data map[string]any) pkix.Name {
	var name pkix.Name
	for _, attribute := range []struct {
		key  string
		last int
	}{
		{"commonName", 3}, {"surname", 4}, {"givenName", 42}, {"organizationName", 10}, {"organizationIdentifier", 97},
		{"countryName", 6}, {"serialNumber", 5}, {"uniqueIdentifier", 45},
	} {
		if value, _ := data[attribute.key].(string); value != "" {
			oid := asn1.ObjectIdentifier{2, 5, 4, attribute.last}
			name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: oid, Value: value})
		}
	}
	return name
}

func newCSR(t testing.TB, template x509.CertificateRequest, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(der)
}

// enrollment returns the body of the caller's request for a certificate.
func (a *api) enrollment(s session, kind string, key crypto.Signer) map[string]any {
	a.t.Helper()
	data := a.want(http.StatusOK, "GET", "/certificates/enrollments/data", s.access, nil).body
	csr := newCSR(a.t, x509.CertificateRequest{Subject: subjectName(data)}, key)
	return map[string]any{"certificateName": "Certyfikat testowy", "certificateType": kind, "csr": csr}
}

func (a *api) enroll(s session, body map[string]any) string {
	a.t.Helper()
	return a.want(http.StatusAccepted, "POST", "/certificates/enrollments", s.access, body).text("referenceNumber")
}

func (a *api) enrollmentStatus(s session, reference string) response {
	a.t.Helper()
	return a.want(http.StatusOK, "GET", "/certificates/enrollments/"+reference, s.access, nil)
}

// certificate enrolls, waits, and fetches the certificate.
func (a *api) certificate(s session, body map[string]any, key crypto.Signer) (credential, string) {
	a.t.Helper()
	reference := a.enroll(s, body)
	a.sim.Advance(time.Second)
	serial := a.enrollmentStatus(s, reference).text("certificateSerialNumber")
	require.Regexp(a.t, "^[0-9A-F]{16}$", serial)
	found := a.retrieve(s, serial)
	require.Len(a.t, found, 1)
	return credential{key, parseCertificate(a.t, found[0]["certificate"].(string))}, serial
}

func parseCertificate(t testing.TB, encoded string) *x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}

func (a *api) newCertificate(s session, kind string) (credential, string) {
	a.t.Helper()
	key := newECKey(a.t)
	return a.certificate(s, a.enrollment(s, kind, key), key)
}

func (a *api) retrieve(s session, serials ...string) []map[string]any {
	a.t.Helper()
	body := map[string]any{"certificateSerialNumbers": serials}
	return a.want(http.StatusOK, "POST", "/certificates/retrieve", s.access, body).list("certificates")
}

func (a *api) query(s session, query string, filter any) response {
	a.t.Helper()
	return a.want(http.StatusOK, "POST", "/certificates/query"+query, s.access, filter)
}

func (a *api) revoke(s session, serial string) {
	a.t.Helper()
	body := map[string]any{"revocationReason": "Superseded"}
	a.want(http.StatusNoContent, "POST", "/certificates/"+serial+"/revoke", s.access, body)
}

// list returns the objects of an array in the body.
func (b response) list(key string) []map[string]any {
	items, _ := b.body[key].([]any)
	list := make([]map[string]any, len(items))
	for i, item := range items {
		list[i] = item.(map[string]any)
	}
	return list
}

// tokenSession logs in with a token that the other session issues.
func (a *api) tokenSession(s session) session {
	a.t.Helper()
	_, token := a.issue(s, "InvoiceRead")
	a.sim.Advance(time.Second)
	return a.redeem(a.beginWithToken(token))
}

// withoutRateLimits are options for tests that send many requests.
func withoutRateLimits() simulator.Options {
	return simulator.Options{Limits: unlimited()}
}
