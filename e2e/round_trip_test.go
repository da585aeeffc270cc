// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// omitted marks a field that is not in the document.
type omitted struct{}

// configValues are the values of each writable field of config, besides those that unset it.
// Combinations are in the engine's own tests.
func configValues(ksefURL, certificate, key string) map[string][]any {
	return map[string][]any{
		"environment": nil, "internal_id": nil, "ca_certificate": nil,
		"private_key_password": nil, "pkcs12": nil, "pkcs12_password": nil,
		"rotation_period": nil, "rotation_schedule": nil, "rotation_window": nil, // for Vault Enterprise alone

		"url": {ksefURL, ksefURL + "/"}, "nip": {testNIP},
		"certificate": {certificate}, "private_key": {key},
		"allowed_contexts":         {"5265877635-12346,1111111111", []string{"*", testNIP, "*"}, []string{}},
		"allowed_ips":              {"127.0.0.1", []string{"192.0.2.7", "127.0.0.0/8"}},
		"tokens_accepted_until":    {"2999-12-31T23:59:59+01:00", "2999-01-01T00:00:00Z"},
		"subject_identifier_type":  {"certificateSubject"},
		"request_timeout":          {20, "45s"},
		"activation_timeout":       {0, "1m"},
		"certificate_renew_before": {0, 86400, "40d"},
		"certificate_key_type":     {"ec-p256", "rsa-2048"},
		"certificate_name":         {"Vault {{.NIP}}", "Księgowość"},
		"rotation_policy":          {"patient"}, "disable_automated_rotation": {true, false, "true"},
		"verify": {true, false}, "force": {"tokens", []string{"rotation", "certificate"}},
	}
}

func roleValues() map[string][]any {
	return map[string][]any{
		"internal_id": nil, "nip": {testNIP},
		"permissions": {"InvoiceWrite,CredentialsRead,InvoiceRead", []string{"InvoiceRead", "InvoiceWrite", "InvoiceRead"}},
		"description": {"Vault role {{.RoleName}}", "Księgowość"},
		"ttl":         {0, 900, "1h"}, "max_ttl": {0, "24h"},
		"allowed_contexts": {testNIP, "*", []string{testNIP}},
		"credential_type":  {"token", "access_token"}, "login": {"token"}, "full_rights": {true, false}, "leased": {true, false},
		"token_rotation_period": {3600, "720h"}, "allowed_ips": {"192.0.2.7", []string{"192.0.2.0/24"}},
		"max_live": {0, 20}, "max_live_per_entity": {0, "2"}, "max_per_hour": {0, 30},
	}
}

// TestRoundTrip writes documents to the real Vault in JSON, and writes back what is read.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	setUnlessGiven(t, "rapid.checks", "100", "25")
	setUnlessGiven(t, "rapid.seed", "0", "20261127")
	secrets := &secrets{}
	ksef, ksefURL := startKSeF(t, secrets, simulator.Options{})
	vault := startServer(t, secrets)
	vault.enable(t, "ksef", ksefURL, nil)
	certificate, key := testCertificate(t)
	secrets.add(strings.Split(key, "\n")[1])
	for path, values := range map[string]map[string][]any{
		"ksef/config": configValues(ksefURL, certificate, key), "ksef/roles/erp": roleValues(),
	} {
		required := []string{"permissions", "certificate", "private_key"}
		fields := vault.writtenFields(t, path)
		for _, field := range fields {
			require.Contains(t, values, field, "the field has no values")
		}
		rapid.Check(t, func(t *rapid.T) {
			document := map[string]any{}
			for _, field := range fields {
				choice := slices.Clone(values[field])
				if !slices.Contains(required, field) {
					choice = append(choice, omitted{}, nil, "")
				}
				if value := rapid.SampledFrom(choice).Draw(t, field); value != (omitted{}) {
					document[field] = value
				}
			}
			if document["url"] == nil || document["url"] == "" {
				delete(document, "url") // the mount has one, together with its credential
			}
			vault.requireRoundTrip(t, ksef, path, document)
		})
	}
}

// setUnlessGiven changes a flag from its default.
func setUnlessGiven(t *testing.T, name, usual, value string) {
	t.Helper()
	found := flag.Lookup(name)
	require.NotNil(t, found)
	if found.Value.String() == usual {
		require.NoError(t, found.Value.Set(value))
	}
}

func (s *server) requireRoundTrip(t *rapid.T, ksef *simulator.Simulator, path string, document map[string]any) {
	write := func(data map[string]any) []string {
		answer, err := s.Logical().WriteWithContext(t.Context(), path, data)
		require.NoError(t, err)
		if answer == nil {
			return nil
		}
		return answer.Warnings
	}
	write(document)
	first := s.read(t, path)
	write(first.Data) // logs in, unlike the first write
	logins := ksef.State().Requests["POST /auth/xades-signature"]
	require.Subset(t, first.Warnings, write(first.Data), "no warning that a read does not have")
	require.Equal(t, first.Data, s.read(t, path).Data)
	write(document)
	require.Equal(t, first.Data, s.read(t, path).Data, "nor does the document itself, written again")
	require.Equal(t, logins, ksef.State().Requests["POST /auth/xades-signature"], "no login")
}

func (s *server) read(t *rapid.T, path string) *api.Secret {
	answer, err := s.Logical().ReadWithContext(t.Context(), path)
	require.NoError(t, err)
	require.NotNil(t, answer)
	return answer
}

// writtenFields asks Vault for the fields that a write to the path uses.
func (s *server) writtenFields(t *testing.T, path string) []string {
	t.Helper()
	help, err := s.HelpWithContext(t.Context(), path)
	require.NoError(t, err)
	encoded, err := json.Marshal(help.OpenAPI)
	require.NoError(t, err)
	var document struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					Description string `json:"description"`
				} `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	require.NoError(t, json.Unmarshal(encoded, &document))
	fields := map[string]bool{}
	for name, schema := range document.Components.Schemas {
		if !strings.HasSuffix(name, "Request") {
			continue
		}
		for field, property := range schema.Properties {
			if !strings.Contains(property.Description, "Read only") {
				fields[field] = true
			}
		}
	}
	require.NotEmpty(t, fields)
	return slices.Sorted(maps.Keys(fields))
}
