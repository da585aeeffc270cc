// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"testing"

	"vault-plugin-secrets-ksef/client/xades"

	"github.com/stretchr/testify/require"
)

func TestIdentityFollowsKSeFsRules(t *testing.T) {
	key := ecKey(t)
	seal := func(nip string) Identity { return Identity{KindSeal, IdentifierNIP, nip, "Test"} }
	person := func(identifierType, identifier string) Identity {
		return Identity{KindPerson, identifierType, identifier, "Test"}
	}
	fingerprint := Identity{KindFingerprint, IdentifierFingerprint, "", "Test"}

	for name, c := range map[string]struct {
		subject []string
		want    Identity
	}{
		"seal":                      {[]string{"organizationIdentifier", "VATPL-5265877635", "O", "Test"}, seal("5265877635")},
		"seal with text around":     {[]string{"organizationIdentifier", "VATPL-5265877635 BR:PL-0000123456"}, seal("5265877635")},
		"seal with serial number":   {[]string{"organizationIdentifier", "VATPL-5265877635", "serialNumber", "TINPL-1111111111"}, seal("5265877635")},
		"person with PESEL":         {[]string{"GN", "Jan", "SN", "Testowy", "serialNumber", "PNOPL-44051401458"}, person(IdentifierPESEL, "44051401458")},
		"person with old PESEL":     {[]string{"GN", "Jan", "SN", "Testowy", "serialNumber", "PESEL: 44051401458"}, person(IdentifierPESEL, "44051401458")},
		"person with NIP":           {[]string{"GN", "Jan", "SN", "Testowy", "serialNumber", "TINPL-5265877635"}, person(IdentifierNIP, "5265877635")},
		"person with old NIP":       {[]string{"GN", "Jan", "SN", "Testowy", "serialNumber", "NIP-5265877635"}, person(IdentifierNIP, "5265877635")},
		"person with both":          {[]string{"GN", "Jan", "SN", "Testowy", "serialNumber", "TINPL-5265877635", "serialNumber", "PNOPL-44051401458"}, person(IdentifierPESEL, "44051401458")},
		"person at a company":       {[]string{"GN", "Jan", "SN", "Testowy", "serialNumber", "PNOPL-44051401458", "organizationIdentifier", "VATPL-5265877635"}, person(IdentifierPESEL, "44051401458")},
		"person without names":      {[]string{"serialNumber", "PNOPL-44051401458"}, person(IdentifierPESEL, "44051401458")},
		"foreigner at a company":    {[]string{"GN", "Jan", "SN", "Testowy", "serialNumber", "IDCDE-123456789012", "organizationIdentifier", "VATPL-5265877635"}, fingerprint},
		"foreign company":           {[]string{"organizationIdentifier", "VATDE-123456789"}, fingerprint},
		"number that is too short":  {[]string{"organizationIdentifier", "VATPL-526587763"}, fingerprint},
		"number in the wrong place": {[]string{"O", "VATPL-5265877635"}, fingerprint},
		"nothing but a name":        {nil, fingerprint},
	} {
		t.Run(name, func(t *testing.T) {
			certificate := certify(t, key, func(template *x509.Certificate) {
				template.Subject = subject(append(c.subject, "CN", "Test")...)
			})
			want, wantType := c.want, xades.CertificateSubject
			if want.Kind == KindFingerprint {
				want.Identifier = fmt.Sprintf("%X", sha256.Sum256(certificate.Raw))
				wantType = xades.CertificateFingerprint
			}
			got, err := parse(Source{Certificate: certificatePEM(certificate), PrivateKey: keyPEM(t, key)}, noon)
			require.NoError(t, err)
			require.Equal(t, want, got.Identity)
			require.Equal(t, wantType, got.Identity.SubjectIdentifierType())
		})
	}
}
