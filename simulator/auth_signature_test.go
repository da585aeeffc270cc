// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"
)

func TestLoginRedeemedOnce(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	o := a.begin(seal(t), nipXML)
	require.Len(t, o.reference, 36)
	code, _ := a.status(o)
	require.Equal(t, 200, code)
	s := a.redeem(o)
	a.refused(a.do("POST", "/auth/token/redeem", o.token, nil), 21301, "zostały już pobrane")

	a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
	a.want(http.StatusUnauthorized, "GET", "/tokens", s.refresh, nil)
	a.want(http.StatusUnauthorized, "GET", "/tokens", o.token, nil)
	a.want(http.StatusUnauthorized, "GET", "/tokens", s.access+"A", nil)
	a.want(http.StatusUnauthorized, "GET", "/tokens", "", nil)
	require.Len(t, a.sim.SignedRequests(), 1)
}

// The signature does not cover comments, so a comment must not cut a value.
func TestLoginIgnoresCommentInsideValue(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	document := bytes.Replace(a.sign(a.request(seal(t), nipXML)), []byte(nip), []byte(nip[:3]+"<!-- -->"+nip[3:]), 1)
	a.want(http.StatusAccepted, "POST", "/auth/xades-signature", "", document)
	require.Equal(t, simulator.Identifier{Type: "Nip", Value: nip}, a.sim.State().Sessions[0].ContextIdentifier)
}

func TestLoginInProgressForDelay(t *testing.T) {
	a := newAPI(t, simulator.Options{LoginDelay: time.Minute})
	o := a.begin(seal(t), nipXML)
	code, _ := a.status(o)
	require.Equal(t, 100, code)
	a.refused(a.do("POST", "/auth/token/redeem", o.token, nil), 21301, "(100) nie pozwala na pobranie")
	a.sim.Advance(time.Minute)
	a.redeem(o)
}

func TestLoginTokenLifetimes(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	o := a.begin(seal(t), nipXML)
	a.sim.Advance(44 * time.Minute)
	s := a.redeem(o)
	a.sim.Advance(2 * time.Minute)
	a.want(http.StatusUnauthorized, "GET", "/auth/"+o.reference, o.token, nil)

	a.sim.Advance(12 * time.Minute)
	a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
	a.sim.Advance(time.Minute)
	a.want(http.StatusUnauthorized, "GET", "/tokens", s.access, nil)

	a.sim.Advance(6 * 24 * time.Hour)
	refreshed := a.want(http.StatusOK, "POST", "/auth/token/refresh", s.refresh, nil).text("accessToken.token")
	a.want(http.StatusOK, "GET", "/tokens", refreshed, nil)
	a.sim.Advance(24 * time.Hour)
	a.refused(a.do("POST", "/auth/token/refresh", s.refresh, nil), 21304, s.reference)
	a.want(http.StatusUnauthorized, "POST", "/auth/token/refresh", s.access, nil)
}

func TestChallengeValidOnceForTenMinutes(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	c := seal(t)
	document := a.sign(a.request(c, nipXML))
	a.sim.Advance(10*time.Minute - time.Second)
	a.want(http.StatusAccepted, "POST", "/auth/xades-signature", "", document)
	a.refused(a.do("POST", "/auth/xades-signature", "", document), 21111, "")

	expired := a.sign(a.request(c, nipXML))
	a.sim.Advance(10 * time.Minute)
	a.refused(a.do("POST", "/auth/xades-signature", "", expired), 21111, "")

	unknown := a.request(c, nipXML)
	unknown.Challenge = "20250625-CR-20F5EE4000-DA48AE4124-46"
	a.refused(a.do("POST", "/auth/xades-signature", "", a.sign(unknown)), 21111, "")
}

func TestChallengeNotUsedByRefusedDocument(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	r := a.request(seal(t), "<Nip>5265877636</Nip>")
	a.refused(a.do("POST", "/auth/xades-signature", "", a.sign(r)), 21117, "5265877636")
	r.Context = nipXML
	a.want(http.StatusAccepted, "POST", "/auth/xades-signature", "", a.sign(r))
}

func TestLoginRefusalCodes(t *testing.T) {
	const (
		head = "<ContextIdentifier>" + nipXML + "</ContextIdentifier>"
		tail = "<SubjectIdentifierType>certificateSubject</SubjectIdentifierType>"
	)
	a := newAPI(t, simulator.Options{})
	challenge := "<Challenge>" + a.challenge() + "</Challenge>"
	policy := func(entries string) string {
		return "<AuthorizationPolicy><AllowedIps>" + entries + "</AllowedIps></AuthorizationPolicy>"
	}
	tests := map[string]struct {
		edit func(*xadestest.Request)
		code int
	}{
		"order of elements": {func(r *xadestest.Request) { r.Inner = head + challenge + tail }, 21401},
		"an element too many": {func(r *xadestest.Request) { r.Inner = challenge + head + tail + "<More></More>" },
			21401},
		"text between elements": {func(r *xadestest.Request) { r.Inner = challenge + "text" + head + tail }, 21401},
		"challenge's pattern": {func(r *xadestest.Request) { r.Challenge = "20250625-CR-20f5ee4000-da48ae4124-46" },
			21401},
		"two contexts": {func(r *xadestest.Request) { r.Context = nipXML + "<PeppolId>PPL000001</PeppolId>" },
			21401},
		"NIP's pattern": {func(r *xadestest.Request) { r.Context = "<Nip>526-587-76-35</Nip>" }, 21401},
		"subject type":  {func(r *xadestest.Request) { r.SubjectType = "person" }, 21401},
		"namespace": {func(r *xadestest.Request) { r.Namespace = "http://ksef.mf.gov.pl/auth/token/3.0" },
			21401},
		"an attribute": {func(r *xadestest.Request) {
			r.Inner = challenge + head + "<SubjectIdentifierType a=\"b\">certificateSubject</SubjectIdentifierType>"
		}, 21401},
		"an address": {func(r *xadestest.Request) {
			r.Inner = challenge + head + tail + policy("<Ip4Address>256.0.0.1</Ip4Address>")
		}, 21401},
		"NIP's checksum": {func(r *xadestest.Request) { r.Context = "<Nip>5265877636</Nip>" }, 21117},
		"InternalId's checksum": {func(r *xadestest.Request) {
			r.Context = "<InternalId>5265877635-12345</InternalId>"
		}, 21117},
	}
	c := seal(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := xadestest.Request{
				Challenge: "20250625-CR-20F5EE4000-DA48AE4124-46", Context: nipXML, Layout: xadestest.DSS(),
				Key: c.key, Certificate: c.certificate, SigningTime: time.Now(),
			}
			test.edit(&r)
			a.withT(t).refused(a.do("POST", "/auth/xades-signature", "", a.sign(r)), test.code, "")
		})
	}
	a.refused(a.do("POST", "/auth/xades-signature", "", []byte(" ")), 21001, "")
	a.refused(a.do("POST", "/auth/xades-signature", "", []byte("<a>\xff</a>")), 21217, "")
	a.refused(a.do("POST", "/auth/xades-signature", "", []byte("<a")), 9101, "")
	a.refused(a.do("POST", "/auth/xades-signature", "", []byte("<a/>")), 9102, "")
	a.refused(a.do("POST", "/auth/xades-signature?verifyCertificateChain=maybe", "", []byte("<a/>")), 21405,
		"verifyCertificateChain")
	a.header.Set("Content-Type", "text/xml")
	a.want(http.StatusUnsupportedMediaType, "POST", "/auth/xades-signature", "", []byte("<a/>"))
}

func TestLoginSubjectFromCertificate(t *testing.T) {
	person := func(serial string) *pkix.Name {
		name := pkix.Name{Country: []string{"PL"}, CommonName: "Jan Testowy", SerialNumber: serial}
		for _, attribute := range []struct {
			last  int
			value string
		}{{42, "Jan"}, {4, "Testowy"}} {
			name.ExtraNames = append(name.ExtraNames,
				pkix.AttributeTypeAndValue{Type: []int{2, 5, 4, attribute.last}, Value: attribute.value})
		}
		return &name
	}
	bare := &pkix.Name{CommonName: "Testowa Sp. z o.o."}
	organization := &pkix.Name{Country: []string{"PL"}, CommonName: "Testowa", Organization: []string{"Testowa"},
		ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 97},
			Value: "VATPL-" + nip + " BR:PL-1234567890"}}}
	tests := map[string]struct {
		options simulator.CertificateOptions
		refused int
		want    simulator.Identifier
	}{
		"seal": {simulator.CertificateOptions{NIP: nip}, 0,
			simulator.Identifier{Type: "Nip", Value: nip}},
		"seal with more text": {simulator.CertificateOptions{Subject: organization}, 0,
			simulator.Identifier{Type: "Nip", Value: nip}},
		"person with NIP": {simulator.CertificateOptions{NIP: nip, Person: true}, 0,
			simulator.Identifier{Type: "Nip", Value: nip}},
		"person with PESEL": {simulator.CertificateOptions{PESEL: "44051401359"}, 0,
			simulator.Identifier{Type: "Pesel", Value: "44051401359"}},
		"older prefix": {simulator.CertificateOptions{Subject: person("PESEL-44051401359")}, 0,
			simulator.Identifier{Type: "Pesel", Value: "44051401359"}},
		"attributes missing": {simulator.CertificateOptions{Subject: bare}, 21115, simulator.Identifier{}},
		"unknown prefix": {simulator.CertificateOptions{Subject: person("IDCPL-44051401359")}, 21115,
			simulator.Identifier{}},
		"number too short": {simulator.CertificateOptions{Subject: person("PESEL-9876543210")}, 21406,
			simulator.Identifier{}},
		"person without identifiers": {simulator.CertificateOptions{}, 21406, simulator.Identifier{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, simulator.Options{})
			got := a.do("POST", "/auth/xades-signature", "", a.sign(a.request(newCredential(t, test.options), nipXML)))
			if test.refused != 0 {
				a.refused(got, test.refused, "")
				return
			}
			require.Equal(t, http.StatusAccepted, got.status, "%v", got.body)
			require.Equal(t, test.want, a.sim.State().Sessions[0].Identifier)
		})
	}
}

func TestLoginInvalidCertificate460(t *testing.T) {
	tests := map[string]struct {
		options simulator.CertificateOptions
		query   string
		detail  string
	}{
		"expired": {simulator.CertificateOptions{NIP: nip, NotBefore: time.Now().Add(-2 * time.Hour),
			NotAfter: time.Now().Add(-time.Hour)}, "", "Nieważny certyfikat"},
		"not yet valid": {simulator.CertificateOptions{NIP: nip, NotBefore: time.Now().Add(time.Hour)}, "",
			"Nieważny certyfikat"},
		"key usage": {simulator.CertificateOptions{NIP: nip, KeyUsage: x509.KeyUsageKeyEncipherment}, "",
			"Niepoprawny certyfikat"},
		"no chain": {simulator.CertificateOptions{NIP: nip}, "?verifyCertificateChain=true",
			"Niezaufany łańcuch certyfikatów"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, simulator.Options{})
			document := a.sign(a.request(newCredential(t, test.options), nipXML))
			o := operationOf(a.want(http.StatusAccepted, "POST", "/auth/xades-signature"+test.query, "", document))
			code, detail := a.status(o)
			require.Equal(t, 460, code)
			require.Equal(t, test.detail, detail)
			a.refused(a.do("POST", "/auth/token/redeem", o.token, nil), 21301, "(460)")
		})
	}
}

func TestLoginNeedsOwnershipOrGrant(t *testing.T) {
	owner, other := seal(t), newCredential(t, simulator.CertificateOptions{NIP: otherNIP})
	pesel := newCredential(t, simulator.CertificateOptions{PESEL: "44051401359"})
	unnamed := newCredential(t, simulator.CertificateOptions{})
	grantTo := func(identifier simulator.Identifier) simulator.Options {
		context := simulator.Identifier{Type: "Nip", Value: nip}
		return simulator.Options{RequireGrants: true,
			Grants: []simulator.Grant{{Identifier: identifier, Context: context}}}
	}
	tests := map[string]struct {
		options simulator.Options
		who     credential
		context string
		subject string
		want    int
	}{
		"owner": {simulator.Options{RequireGrants: true}, seal(t), nipXML,
			"", 200},
		"owner of the unit": {simulator.Options{RequireGrants: true}, seal(t),
			"<InternalId>5265877635-12346</InternalId>", "", 200},
		"another company": {simulator.Options{}, other, nipXML, "", 415},
		"another company with a grant": {grantTo(simulator.Identifier{Type: "Nip",
			Value: otherNIP}), other, nipXML, "", 200},
		"grant for another context": {grantTo(simulator.Identifier{Type: "Nip",
			Value: otherNIP}), other, "<InternalId>5265877635-12346</InternalId>", "", 415},
		"any person": {simulator.Options{}, pesel, nipXML, "", 200},
		"a person where grants decide": {simulator.Options{RequireGrants: true}, pesel, nipXML, "",
			415},
		"a person with a grant": {grantTo(simulator.Identifier{Type: "Pesel",
			Value: "44051401359"}), pesel, nipXML, "", 200},
		"a fingerprint": {simulator.Options{}, unnamed, nipXML,
			"certificateFingerprint", 415},
		"a fingerprint with a grant": {grantTo(simulator.Fingerprint(unnamed.certificate)),
			unnamed, nipXML, "certificateFingerprint", 200},
		"a seal by its fingerprint": {simulator.Options{}, owner, nipXML,
			"certificateFingerprint", 415},
		"a seal by its fingerprint with a grant": {grantTo(simulator.Fingerprint(owner.certificate)), owner,
			nipXML, "certificateFingerprint", 200},
		"a person by fingerprint with a grant": {grantTo(simulator.Fingerprint(pesel.certificate)), pesel,
			nipXML, "certificateFingerprint", 200},
		"a person by fingerprint with a grant to the PESEL": {grantTo(simulator.Identifier{Type: "Pesel",
			Value: "44051401359"}), pesel, nipXML, "certificateFingerprint", 415},
		"an owner without permissions": {simulator.Options{OwnerPermissions: []string{}}, seal(t),
			nipXML, "", 415},
		"the owner in a VAT-UE context": {simulator.Options{}, seal(t),
			"<NipVatUe>5265877635-DE123456789</NipVatUe>", "", 200},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, test.options)
			r := a.request(test.who, test.context)
			r.SubjectType = test.subject
			o := operationOf(a.want(http.StatusAccepted, "POST", "/auth/xades-signature", "", a.sign(r)))
			code, _ := a.status(o)
			require.Equal(t, test.want, code)
			if test.subject != "" {
				require.Equal(t, simulator.Fingerprint(test.who.certificate), a.sim.State().Sessions[0].Identifier)
			}
		})
	}
}

func TestLoginIPPolicyBindsAccessToken(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	c := seal(t)
	withPolicy := func(entries string) session {
		r := a.request(c, nipXML)
		r.Inner = "<Challenge>" + r.Challenge + "</Challenge><ContextIdentifier>" + nipXML + "</ContextIdentifier>" +
			"<SubjectIdentifierType>certificateSubject</SubjectIdentifierType>" +
			"<AuthorizationPolicy><AllowedIps>" + entries + "</AllowedIps></AuthorizationPolicy>"
		return a.redeem(operationOf(a.want(http.StatusAccepted, "POST", "/auth/xades-signature", "", a.sign(r))))
	}
	for _, allowed := range []string{"<Ip4Address>127.0.0.1</Ip4Address>", "<Ip4Range>127.0.0.0-127.0.0.9</Ip4Range>",
		"<Ip4Mask>127.0.0.0/8</Ip4Mask>", ""} {
		a.want(http.StatusOK, "GET", "/rate-limits", withPolicy(allowed).access, nil)
	}
	got := a.want(http.StatusForbidden, "GET", "/rate-limits", withPolicy("<Ip4Mask>10.0.0.0/8</Ip4Mask>").access, nil)
	require.Equal(t, "ip-not-allowed", got.text("reasonCode"))
	require.Equal(t, "127.0.0.1", got.text("security.clientIp"))
}

func TestLoginKnownByOwnReferenceNumber(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	o := a.begin(seal(t), nipXML)
	other := a.begin(seal(t), nipXML)
	a.refused(a.do("GET", "/auth/"+other.reference, o.token, nil), 21304, other.reference)
	a.sim.Reset()
	a.refused(a.do("GET", "/auth/"+o.reference, o.token, nil), 21304, o.reference)
	a.refused(a.do("POST", "/auth/token/redeem", o.token, nil), 21304, o.reference)
}
