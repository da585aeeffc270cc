// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestNewCertificateKinds(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := map[string]struct {
		options simulator.CertificateOptions
		subject string
	}{
		"seal": {simulator.CertificateOptions{NIP: nip},
			"2.5.4.6=PL,2.5.4.10=Testowa Sp. z o.o.,2.5.4.3=Testowa Sp. z o.o.,2.5.4.97=VATPL-5265877635"},
		"Peppol provider": {simulator.CertificateOptions{PeppolID: "PPL000001"},
			"2.5.4.6=PL,2.5.4.10=Testowa Sp. z o.o.,2.5.4.3=PPL000001,2.5.4.97=PPL000001"},
		"person, PESEL": {simulator.CertificateOptions{PESEL: "44051401359"},
			"2.5.4.6=PL,2.5.4.3=Jan Testowy,2.5.4.5=PNOPL-44051401359,2.5.4.42=Jan,2.5.4.4=Testowy"},
		"person, NIP": {simulator.CertificateOptions{NIP: nip, Person: true},
			"2.5.4.6=PL,2.5.4.3=Jan Testowy,2.5.4.5=TINPL-5265877635,2.5.4.42=Jan,2.5.4.4=Testowy"},
		"person, neither": {simulator.CertificateOptions{},
			"2.5.4.6=PL,2.5.4.3=Jan Testowy,2.5.4.42=Jan,2.5.4.4=Testowy"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.options.NotBefore, test.options.NotAfter = begin, begin.AddDate(1, 0, 0)
			c := newCredential(t, test.options)
			require.Equal(t, elliptic.P256(), c.key.(*ecdsa.PrivateKey).Curve)
			require.NoError(t, c.certificate.CheckSignature(c.certificate.SignatureAlgorithm,
				c.certificate.RawTBSCertificate, c.certificate.Signature))
			require.Equal(t, test.subject, subjectOf(c.certificate))
			require.Equal(t, begin, c.certificate.NotBefore)
			require.Equal(t, begin.AddDate(1, 0, 0), c.certificate.NotAfter)
			require.Equal(t, x509.KeyUsageDigitalSignature, c.certificate.KeyUsage)
		})
	}
}

// subjectOf writes the attributes of a certificate's subject as identifier=value, in the order of
// the certificate.
func subjectOf(certificate *x509.Certificate) string {
	var attributes []string
	for _, attribute := range certificate.Subject.Names {
		attributes = append(attributes, fmt.Sprintf("%v=%v", attribute.Type, attribute.Value))
	}
	return strings.Join(attributes, ",")
}

func TestNewCertificateKeyPKCS8(t *testing.T) {
	_, keyPEM, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: nip, Key: "rsa"})
	require.NoError(t, err)
	block, rest := pem.Decode(keyPEM)
	require.Empty(t, rest)
	require.Equal(t, "PRIVATE KEY", block.Type)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	require.Equal(t, 2048, key.(*rsa.PrivateKey).N.BitLen())
}

func TestNewCertificateInvalidOptions(t *testing.T) {
	tests := map[string]simulator.CertificateOptions{
		"10 digits":               {NIP: "526"},
		"11 digits":               {PESEL: "526"},
		"exclude each":            {NIP: nip, PESEL: "44051401359"},
		"a Subject stands alone":  {NIP: nip, Subject: &pkix.Name{}},
		"a PeppolID stands alone": {NIP: nip, PeppolID: "PPL000001"},
		"six digits":              {PeppolID: "PPL1"},
		"use ec or rsa":           {Key: "dsa"},
	}
	for text, options := range tests {
		_, _, err := simulator.NewCertificate(options)
		require.ErrorContains(t, err, text)
	}
}

func TestRandomNIPValid(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	for range 20 {
		random, err := simulator.RandomNIP()
		require.NoError(t, err)
		a.login(newCredential(t, simulator.CertificateOptions{NIP: random}), "<Nip>"+random+"</Nip>")
	}
}

func TestNewServerCertificateServesHTTPS(t *testing.T) {
	sim, err := simulator.New(simulator.Options{})
	require.NoError(t, err)
	caPEM, certificate, err := simulator.NewServerCertificate("127.0.0.1", "ksef.test")
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(sim.Handler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	defer server.Close()

	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(caPEM))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v2/auth/challenge", nil)
	require.NoError(t, err)
	resp, err := client.Do(request)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, certificate.Leaf.VerifyHostname("ksef.test"))

	_, _, err = simulator.NewServerCertificate()
	require.ErrorContains(t, err, "at least one host")
}
