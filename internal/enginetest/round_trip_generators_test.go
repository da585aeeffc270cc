// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
	"github.com/youmark/pkcs8"
	"pgregory.net/rapid"
	"software.sslmate.com/src/go-pkcs12"
)

// generator draws the value of a field of a document: nil, "" or absent where it is to be unset.
type generator func(d *drawing) any

// absent is the value of a field that a document does not have.
type absent struct{}

// drawing is what the fields of one document have in common.
type drawing struct {
	t                                     *rapid.T
	address, taxpayer, signer, renewal    string
	certificate, key, encrypted, password string
	pkcs12, authority                     string
}

// one draws one of the values, or none.
func one(values ...any) generator {
	return func(d *drawing) any {
		return rapid.SampledFrom(append(values, absent{}, nil, "")).Draw(d.t, "value")
	}
}

// only gives the value where it goes with the rest of the document, and none elsewhere.
func only(goes func(d *drawing) bool, value func(d *drawing) any) generator {
	return func(d *drawing) any {
		if goes(d) {
			return value(d)
		}
		return one()(d)
	}
}

// list draws some of the values in some order, some of them twice, in the forms that a list can
// have.
func list(atLeast int, values ...string) generator {
	return func(d *drawing) any {
		drawn := rapid.SliceOfN(rapid.SampledFrom(values), atLeast, 5).Draw(d.t, "values")
		if rapid.Bool().Draw(d.t, "as one text") {
			return strings.Join(drawn, ",")
		}
		return drawn
	}
}

func fixed(value any) func(*drawing) any { return func(*drawing) any { return value } }

func taxpayerIs(field string) func(*drawing) bool {
	return func(d *drawing) bool { return d.taxpayer == field }
}

// configGenerators has a generator for each field of config that can be written.
func configGenerators() map[string]generator {
	named := func(d *drawing) bool { return d.address != "url" }
	addressed := func(d *drawing) bool { return d.address != "environment" }
	pem := func(d *drawing) bool { return d.signer == "pem" || d.signer == "encrypted pem" }
	encrypted := func(d *drawing) bool { return d.signer == "encrypted pem" }
	packed := func(d *drawing) bool { return d.signer == "pkcs12" }
	scheduled := func(d *drawing) bool { return d.renewal == "schedule" }
	return map[string]generator{
		"environment":                only(named, fixed("test")),
		"url":                        only(addressed, func(d *drawing) any { return d.url() }),
		"ca_certificate":             func(d *drawing) any { return one(d.authority, "\n# ours\n"+d.authority)(d) },
		"nip":                        only(taxpayerIs("nip"), fixed(SecondNIP)),
		"internal_id":                only(taxpayerIs("internal_id"), fixed(UnitID)),
		"allowed_contexts":           list(0, NIP, SecondNIP, UnitID, "*"),
		"allowed_ips":                list(0, "127.0.0.1", "127.0.0.0/8", "127.0.0.1-127.0.0.9", "0.0.0.0/0"),
		"certificate":                only(pem, func(d *drawing) any { return d.certificate }),
		"private_key":                only(pem, func(d *drawing) any { return d.privateKey() }),
		"private_key_password":       only(encrypted, func(d *drawing) any { return d.password }),
		"pkcs12":                     only(packed, func(d *drawing) any { return d.pkcs12 }),
		"pkcs12_password":            only(packed, func(d *drawing) any { return d.password }),
		"subject_identifier_type":    one("certificateSubject", "certificateFingerprint"),
		"request_timeout":            one(1, 20, "45s", "1m"),
		"activation_timeout":         one(0, 20, "45s", "1m"),
		"tokens_accepted_until":      one("2026-12-31T23:59:59+01:00", "2999-01-01T00:00:00Z"),
		"certificate_renew_before":   one(0, "24h", 86400, "40d"),
		"certificate_key_type":       one("ec-p256", "rsa-2048"),
		"certificate_name":           one("Vault {{.NIP}}", "Księgowość", "{{.NIP | truncate 5}} main"),
		"rotation_period":            only(func(d *drawing) bool { return d.renewal == "period" }, fixed("720h")),
		"rotation_schedule":          only(scheduled, fixed("0 3 1 * *")),
		"rotation_window":            only(scheduled, fixed(3600)),
		"rotation_policy":            one("default", "patient"),
		"disable_automated_rotation": one(true, false, "true"),
		"verify":                     one(true, false, "true"),
		"force":                      one("tokens", "rotation,certificate", []any{"tokens", "rotation"}, []any{}),
	}
}

// roleGenerators has a generator for each field of a role that can be written.
func roleGenerators() map[string]generator {
	return map[string]generator{
		"permissions": list(1, client.Permissions()...),
		"nip":         only(taxpayerIs("nip"), fixed(SecondNIP)),
		"internal_id": only(taxpayerIs("internal_id"), fixed(UnitID)),
		"description": one("Vault role {{.RoleName}}", "Księgowość {{.EntityID | truncate 8}}", "Report of the day"),
		"ttl":         one(0, 900, "15m", "1h"),
		"max_ttl":     one(0, 3600, "24h", "1000h"),
		"max_live":    one(0, 20, "7"), "max_live_per_entity": one(0, 2), "max_per_hour": one(0, 30),

		"allowed_contexts": one([]string{}, NIP, "*"),

		"credential_type":       one("token", "access_token"),
		"login":                 fixed("token"), // certificate needs full_rights beside it
		"full_rights":           one(true, false),
		"leased":                one(true, false),
		"token_rotation_period": one(3600, "720h"),
		"allowed_ips":           one([]string{}, "192.0.2.7", "192.0.2.0/24,192.0.2.7-192.0.2.20"),
	}
}

// staticRoleGenerators has a generator for each field of a static role that can be written.
func staticRoleGenerators() map[string]generator {
	return map[string]generator{
		"permissions":                list(1, client.Permissions()...),
		"nip":                        only(taxpayerIs("nip"), fixed(NIP)),
		"internal_id":                only(func(*drawing) bool { return false }, fixed(UnitID)),
		"description":                one("Token of the ERP", "Księgowość"),
		"rotation_period":            one(0, 3600, "720h"),
		"rotation_schedule":          only(func(*drawing) bool { return false }, fixed("0 3 * * *")),
		"rotation_window":            only(func(*drawing) bool { return false }, fixed("1h")),
		"disable_automated_rotation": one(true, false),
		"grace_period":               one(0, 3600, "2h"),
		"allowed_ips":                one([]string{}, "192.0.2.7"),
		"keep":                       only(func(*drawing) bool { return false }, fixed(true)),
	}
}

// url is the address of the simulator's KSeF, which in these tests answers at every address.
func (d *drawing) url() string {
	if d.address == "both" {
		return client.TestURL
	}
	return rapid.SampledFrom([]string{URL, URL + "/", "https://KSEF.test:443/v2"}).Draw(d.t, "url")
}

func (d *drawing) privateKey() string {
	if d.signer == "encrypted pem" {
		return d.encrypted
	}
	return d.key
}

// document draws the fields that a schema has and that are not computed.
func (d *drawing) document(fields []string, generators map[string]generator) map[string]any {
	drawn := make(map[string]any)
	for _, field := range fields {
		generate, known := generators[field]
		require.True(d.t, known, "the field %s has no generator", field)
		if value := generate(d); value != (absent{}) {
			drawn[field] = value
		}
	}
	return drawn
}

// draw decides what the fields of a document have in common. The certificate is one that KSeF also
// lets in by its fingerprint, by the grants.
func draw(t *rapid.T) (*drawing, []simulator.Grant) {
	d := &drawing{
		t:        t,
		address:  rapid.SampledFrom([]string{"environment", "url", "both"}).Draw(t, "address"),
		taxpayer: rapid.SampledFrom([]string{"nip", "internal_id", ""}).Draw(t, "taxpayer"),
		signer:   rapid.SampledFrom([]string{"pem", "encrypted pem", "pkcs12", ""}).Draw(t, "signer"),
		renewal:  rapid.SampledFrom([]string{"period", "schedule", ""}).Draw(t, "renewal"),
		password: "sekret-0123456789",
	}
	if d.signer == "" && d.taxpayer == "" {
		d.taxpayer = "nip" // which no certificate names
	}
	options := simulator.CertificateOptions{NIP: NIP, NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	certificate, key, err := simulator.NewCertificate(options)
	require.NoError(t, err)
	issuer, _, err := simulator.NewCertificate(options)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(t, err)
	d.authority = string(issuer)
	d.key = string(key)
	d.certificate = rapid.SampledFrom([]string{string(certificate), "one\n" + string(issuer) + "\n" + string(certificate)}).Draw(t, "certificate")
	encrypted, err := pkcs8.MarshalPrivateKey(pair.PrivateKey, []byte(d.password), nil)
	require.NoError(t, err)
	d.encrypted = string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: encrypted}))
	other, _ := pem.Decode(issuer)
	chain, err := x509.ParseCertificate(other.Bytes)
	require.NoError(t, err)
	packed, err := pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, []*x509.Certificate{chain}, d.password)
	require.NoError(t, err)
	d.pkcs12 = base64.StdEncoding.EncodeToString(packed)
	grants := SecondGrant()
	for _, taxpayer := range []string{NIP, SecondNIP} {
		grants = append(grants, simulator.Grant{
			Identifier: simulator.Fingerprint(pair.Leaf), Context: simulator.Identifier{Type: simulator.TypeNIP, Value: taxpayer},
		})
	}
	return d, append(grants, simulator.Grant{
		Identifier: simulator.Fingerprint(pair.Leaf), Context: simulator.Identifier{Type: simulator.TypeInternalID, Value: UnitID},
	})
}
