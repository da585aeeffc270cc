// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"crypto/x509"
	"maps"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// Bad input is answered with a 400 that names the field, what is wrong and what would be right.
// Nothing is stored or sent.

func TestBadInput(t *testing.T) {
	t.Run("config", testBadInputConfig)
	t.Run("roles", testBadInputRoles)
	t.Run("tokens", testBadInputTokens)
	t.Run("config_missing", testBadInputConfigMissing)
}

func testBadInputConfig(t *testing.T) {
	for name, test := range invalidConfigs() {
		t.Run(name, func(t *testing.T) {
			InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
				m := env.Mount(&logical.InmemStorage{})
				defer m.Stop()
				data := map[string]any{"url": URL, "nip": NIP, "certificate": m.Cert, "private_key": m.Key}
				if test.credential != nil {
					data["certificate"], data["private_key"] = env.NewCertificate(*test.credential)
				}
				maps.Copy(data, test.change)
				maps.DeleteFunc(data, func(_ string, value any) bool { return value == nil })
				text := m.Refused(m.Write("config", data))
				for _, part := range test.text {
					require.Contains(t, text, part)
				}
				require.Contains(t, text, "; ", "the answer names a remedy")
				requireNothingStored(m)
				require.Empty(t, env.KSeF.State().Requests, "nothing is sent")
			})
		})
	}
}

// invalidConfig is a value for a field of config; nil leaves the field out.
type invalidConfig struct {
	credential *simulator.CertificateOptions
	change     map[string]any
	text       []string
}

func invalidConfigs() map[string]invalidConfig {
	_, otherKey, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: NIP, Key: "rsa"})
	if err != nil {
		panic(err)
	}
	expired := &simulator.CertificateOptions{NIP: NIP, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(3600, 0)}
	offline := &simulator.CertificateOptions{NIP: NIP, KeyUsage: x509.KeyUsageContentCommitment}
	anonymous := &simulator.CertificateOptions{}
	return map[string]invalidConfig{
		"NIP with a wrong checksum":         {nil, map[string]any{"nip": "5265877636"}, []string{"nip:", "checksum"}},
		"NIP that is too short":             {nil, map[string]any{"nip": "526587763"}, []string{"nip:", "ten digits"}},
		"internal id with a wrong checksum": {nil, map[string]any{"nip": nil, "internal_id": "5265877635-12345"}, []string{"internal_id:", "checksum"}},
		"internal id of another form":       {nil, map[string]any{"nip": nil, "internal_id": "5265877635"}, []string{"internal_id:", "five digits"}},
		"both contexts":                     {nil, map[string]any{"internal_id": "5265877635-12346"}, []string{"internal_id:", "together with nip"}},
		"no address":                        {nil, map[string]any{"url": nil}, []string{"environment:", "missing"}},
		"unknown environment":               {nil, map[string]any{"url": nil, "environment": "staging"}, []string{"environment:", "not known", "production"}},
		"both addresses":                    {nil, map[string]any{"environment": "test"}, []string{"url:", "environment"}},
		"plain http to another host":        {nil, map[string]any{"url": "http://ksef.example/v2"}, []string{"url:", "http", "https"}},
		"not an address":                    {nil, map[string]any{"url": "ksef"}, []string{"url:", "absolute"}},
		"ca_certificate without one":        {nil, map[string]any{"ca_certificate": "none"}, []string{"ca_certificate:", "PEM"}},
		"key of another certificate":        {nil, map[string]any{"private_key": string(otherKey)}, []string{"private_key:", "does not belong"}},
		"expired certificate":               {expired, nil, []string{"certificate:", "expired"}},
		"certificate that cannot log in":    {offline, nil, []string{"certificate:", "Offline"}},
		"garbage in certificate":            {nil, map[string]any{"certificate": "garbage"}, []string{"certificate:"}},
		"garbage in private_key":            {nil, map[string]any{"private_key": "garbage"}, []string{"private_key:"}},
		"password of a key that has none":   {nil, map[string]any{"private_key_password": "secret"}, []string{"private_key_password:"}},
		"half a credential":                 {nil, map[string]any{"private_key": nil}, []string{"private_key:"}},
		"garbage in pkcs12":                 {nil, map[string]any{"certificate": nil, "private_key": nil, "pkcs12": "Z2FyYmFnZQ=="}, []string{"pkcs12:"}},
		"pkcs12 that is not base64":         {nil, map[string]any{"certificate": nil, "private_key": nil, "pkcs12": "%"}, []string{"pkcs12:", "base64"}},
		"no context at all":                 {anonymous, map[string]any{"nip": nil}, []string{"nip:", "missing"}},
		"subject without identifier":        {anonymous, map[string]any{"subject_identifier_type": "certificateSubject"}, []string{"subject_identifier_type:"}},
		"unknown subject type":              {nil, map[string]any{"subject_identifier_type": "certificate"}, []string{"subject_identifier_type:", "certificateFingerprint"}},
		"request_timeout out of range":      {nil, map[string]any{"request_timeout": "2m"}, []string{"request_timeout:", "60s"}},
		"activation_timeout out of range":   {nil, map[string]any{"activation_timeout": "2m"}, []string{"activation_timeout:", "60s"}},
		"time zone alone as a schedule":     {nil, map[string]any{"rotation_schedule": "TZ=Europe/Warsaw"}, []string{"rotation_schedule:", "time zone", "UTC"}},
		"schedule that is none":             {nil, map[string]any{"rotation_schedule": "daily"}, []string{"rotation_schedule:", "cron"}},
		"a field that is not there":         {nil, map[string]any{"privat_key": "x"}, []string{"privat_key:", "private_key"}},
	}
}

func testBadInputRoles(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		for name, test := range map[string]struct {
			data map[string]any
			text []string
		}{
			"no permissions":                {map[string]any{}, []string{"permissions:", "InvoiceRead"}},
			"empty permissions":             {map[string]any{"permissions": ""}, []string{"permissions:", "empty"}},
			"unknown permission":            {map[string]any{"permissions": "InvoiceRead,Everything"}, []string{"permissions:", "at place 2"}},
			"wrong NIP":                     {map[string]any{"permissions": "InvoiceRead", "nip": "1"}, []string{"nip:"}},
			"description too short":         {map[string]any{"permissions": "InvoiceRead", "description": "abc"}, []string{"description:", "3 characters"}},
			"description too long":          {map[string]any{"permissions": "InvoiceRead", "description": strings.Repeat("ż", 250)}, []string{"description:", "250"}},
			"description that cannot be":    {map[string]any{"permissions": "InvoiceRead", "description": "{{.Unknown}}"}, []string{"description:", "RoleName"}},
			"ttl longer than max_ttl":       {map[string]any{"permissions": "InvoiceRead", "ttl": "2h", "max_ttl": "1h"}, []string{"ttl:", "max_ttl"}},
			"negative ttl":                  {map[string]any{"permissions": "InvoiceRead", "ttl": -1}, []string{"ttl"}},
			"a field that is not there":     {map[string]any{"permission": "InvoiceRead"}, []string{"permission:", "permissions"}},
			"a duration that is not a time": {map[string]any{"permissions": "InvoiceRead", "ttl": "soon"}, []string{"ttl"}},
		} {
			text := m.Refused(m.Write("roles/bad", test.data))
			for _, part := range test.text {
				require.Contains(t, text, part, name)
			}
			require.Nil(t, m.Must(m.Read("roles/bad", nil)), name)
		}
	})
}

func testBadInputTokens(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Issue()
		sent := m.AllRequests()
		for name, test := range map[string]struct {
			response func() (*logical.Response, error)
			text     []string
		}{
			"unknown role":              {func() (*logical.Response, error) { return m.Read("creds/missing", nil) }, []string{"role:", "missing"}},
			"unknown field":             {func() (*logical.Response, error) { return m.Write("creds/invoices", map[string]any{"tll": "1h"}) }, []string{"tll:", "ttl"}},
			"token without permissions": {func() (*logical.Response, error) { return m.Write("tokens", map[string]any{"description": "Report"}) }, []string{"permissions:"}},
			"token without description": {func() (*logical.Response, error) {
				return m.Write("tokens", map[string]any{"permissions": "InvoiceRead"})
			}, []string{"description:"}},
			"token with a filter": {func() (*logical.Response, error) {
				return m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report", "status": "Active"})
			}, []string{"status:"}},
			"page too small":           {func() (*logical.Response, error) { return m.Read("tokens", map[string]any{"page_size": 5}) }, []string{"page_size:", "10 to 100"}},
			"page too large":           {func() (*logical.Response, error) { return m.Read("tokens", map[string]any{"page_size": 101}) }, []string{"page_size:", "10 to 100"}},
			"unknown status":           {func() (*logical.Response, error) { return m.Read("tokens", map[string]any{"status": "Dead"}) }, []string{"status:", "Revoked"}},
			"filter too short":         {func() (*logical.Response, error) { return m.Read("tokens", map[string]any{"description": "ab"}) }, []string{"description:", "3 characters"}},
			"unknown author type":      {func() (*logical.Response, error) { return m.Read("tokens", map[string]any{"author_type": "Regon"}) }, []string{"author_type:", "Pesel"}},
			"malformed number to read": {func() (*logical.Response, error) { return m.Read("tokens/abc", nil) }, []string{"reference_number:", "36 characters"}},
			"malformed number to end":  {func() (*logical.Response, error) { return m.Delete("tokens/abc") }, []string{"reference_number:", "36 characters"}},
		} {
			text := m.Refused(test.response())
			for _, part := range test.text {
				require.Contains(t, text, part, name)
			}
		}
		require.Equal(t, sent, m.AllRequests(), "nothing is sent")
	})
}

func testBadInputConfigMissing(t *testing.T) {
	InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		require.Nil(t, m.Must(m.Read("config", nil)))
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
		for _, response := range []func() (*logical.Response, error){
			func() (*logical.Response, error) { return m.Read("creds/invoices", nil) },
			func() (*logical.Response, error) { return m.Read("tokens", nil) },
			func() (*logical.Response, error) {
				return m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report"})
			},
		} {
			require.Contains(t, m.Refused(response()), "config: has not been written yet")
		}
	})
}

// requireNothingStored requires an empty storage.
func requireNothingStored(m *Mount) {
	m.T.Helper()
	require.Empty(m.T, m.Keys(""))
}
