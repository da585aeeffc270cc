// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestIssuerNameFollowsRFC4514(t *testing.T) {
	raw := func(oid asn1.ObjectIdentifier, der ...byte) attribute {
		return attribute{Type: oid, Value: asn1.RawValue{FullBytes: der}}
	}
	for name, c := range map[string]struct {
		name []relativeNameSET
		want string
	}{
		"empty": {nil, ""},
		"KSeF's test authority": {
			pkixName(t, pkix.Name{Country: []string{"PL"}, Organization: []string{"Ministerstwo Finansów"}, OrganizationalUnit: []string{"Krajowa Administracja Skarbowa"}, CommonName: "TEST CCK KSeF"}),
			"CN=TEST CCK KSeF,OU=Krajowa Administracja Skarbowa,O=Ministerstwo Finansów,C=PL",
		},
		"seal": {
			[]relativeNameSET{{value(oidCountry, "PL")}, {value(oidOrganizationID, "VATPL-5265877635")}, {value(oidCommonName, "Testowa Sp. z o.o.")}},
			"CN=Testowa Sp. z o.o.,2.5.4.97=#1310" + hex.EncodeToString([]byte("VATPL-5265877635")) + ",C=PL",
		},
		"person": {
			[]relativeNameSET{{value(oidGivenName, "Łucja")}, {value(oidSurname, "Test")}, {value(oidSerialNumber, "PNOPL-1")}},
			"2.5.4.5=#1307504e4f504c2d31,2.5.4.4=#130454657374,2.5.4.42=#0c06c58175636a61",
		},
		"several values in one level": {
			[]relativeNameSET{{value(oidCountry, "PL")}, {value(oidCommonName, "a"), value(oidOrganization, "b")}},
			"CN=a+O=b,C=PL",
		},
		"reserved characters": {
			[]relativeNameSET{{value(oidCommonName, `#a "b", c+d; <e> \f=g#`)}},
			`CN=\#a \"b\"\, c\+d\; \<e\> \\f=g#`,
		},
		"spaces at the ends": {
			[]relativeNameSET{{value(oidCommonName, "  a  ")}},
			`CN=\  a \ `,
		},
		"one space": {
			[]relativeNameSET{{value(oidCommonName, " ")}},
			`CN=\ `,
		},
		"characters that XML lacks": {
			[]relativeNameSET{{value(oidCommonName, "a\x00b\r\nc\x1bd\u0085e\uFFFEf")}},
			`CN=a\00b\0d\0ac\1bd\c2\85e\ef\bf\bef`,
		},
		"16 bits to the character": {
			[]relativeNameSET{{raw(oidCommonName, 0x1e, 4, 0x01, 0x41, 0, 'a')}},
			"CN=Ła",
		},
		"8 bits to the character": {
			[]relativeNameSET{{raw(oidCommonName, 0x14, 2, 0xd3, 'a')}},
			"CN=Óa",
		},
		"a value that is no text": {
			[]relativeNameSET{{raw(oidCommonName, 0x02, 1, 5)}},
			"CN=#020105",
		},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := asn1.Marshal(c.name)
			require.NoError(t, err)
			got, err := issuerName(der)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestIssuerNameRefusesWhatIsNoName(t *testing.T) {
	for name, der := range map[string][]byte{
		"nothing":       nil,
		"a number":      {0x02, 1, 5},
		"data after it": {0x30, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := issuerName(der)
			require.Error(t, err)
		})
	}
}

// awkward draws text with the special characters of names, XML and their escaping.
func awkward() *rapid.Generator[string] {
	runes := rapid.OneOf(
		rapid.SampledFrom([]rune("ąćęłńóśźżĄĆĘŁŃÓŚŹŻ")),
		rapid.SampledFrom([]rune(`"'&<>\,+;=# -./`)),
		rapid.SampledFrom([]rune{0, 1, '\t', '\n', '\r', 0x1b, 0x7f, 0x85, 0xa0, 0x2028, 0xfeff, 0xfffd, 0xfffe, 0xffff, 0x1f4a9}),
		rapid.RuneFrom([]rune("abcABC019")),
	)
	return rapid.StringOfN(runes, 1, 40, -1)
}

func TestAnyNameIsSignedFaithfully(t *testing.T) {
	key := ecKey(t)
	rapid.Check(t, func(t *rapid.T) {
		want := awkward().Draw(t, "common name")
		organization := awkward().Draw(t, "organization")
		certificate := certify(t, key, []relativeNameSET{
			{value(oidOrganization, organization)}, {value(oidOrganizationID, "VATPL-5265877635"), value(oidCommonName, want)},
		})
		signer, err := NewSigner(certificate, key)
		require.NoError(t, err)
		signed, err := signer.Sign(sampleRequest(), time.Now())
		require.NoError(t, err)
		require.True(t, utf8.Valid(signed))
		requireValid(t, signed, certificate)

		d := parse(t, signed)
		require.Contains(t, string(signed), string(canonical(t, d.info)))
		require.Contains(t, string(signed), string(canonical(t, d.properties)))
		values := valuesOf(t, d.properties.FindElement(".//ds:X509IssuerName").Text())
		require.Equal(t, []string{want, organization}, values)
	})
}

func TestEscapingAgreesWithTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := pkix.Name{CommonName: rapid.StringOfN(rapid.RuneFrom([]rune(`aż "&<>\,+;=#`)), 1, 20, -1).Draw(t, "name")}
		der, err := asn1.Marshal(name.ToRDNSequence())
		require.NoError(t, err)
		got, err := issuerName(der)
		require.NoError(t, err)
		require.Equal(t, name.String(), got)
	})
}

// valuesOf parses the CN and O values of a name in the form of RFC 4514.
func valuesOf(t require.TestingT, name string) []string {
	var values []string
	for _, part := range splitUnescaped(name) {
		keyword, text, found := strings.Cut(part, "=")
		require.True(t, found, name)
		if keyword != "CN" && keyword != "O" {
			continue
		}
		var value []byte
		for i := 0; i < len(text); i++ {
			if text[i] != '\\' {
				value = append(value, text[i])
				continue
			}
			if pair, err := hex.DecodeString(text[i+1 : min(i+3, len(text))]); err == nil && len(pair) == 1 {
				value = append(value, pair[0])
				i += 2
				continue
			}
			i++
			value = append(value, text[i])
		}
		values = append(values, string(value))
	}
	return values
}

// splitUnescaped splits at every comma and plus sign without a backslash before it.
func splitUnescaped(name string) []string {
	var parts []string
	start := 0
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case ',', '+':
			parts = append(parts, name[start:i])
			start = i + 1
		}
	}
	return append(parts, name[start:])
}
