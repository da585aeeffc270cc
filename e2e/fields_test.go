// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// TestFieldsQuoteNoSecret gives each field of each path a private key in invalid forms. Vault's log
// at TRACE, its audit log and its responses must not show a line of it.
func TestFieldsQuoteNoSecret(t *testing.T) {
	t.Parallel()
	secrets := &secrets{}
	_, ksefURL := startKSeF(t, secrets, simulator.Options{})
	s := startServer(t, secrets)
	s.enable(t, "ksef", ksefURL, nil)
	_, key := testCertificate(t)
	lines := strings.Split(strings.TrimSpace(key), "\n")
	secrets.add(lines[1])

	const token = "tokens/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E"
	for _, path := range []string{
		"config", "config/rotate-root", "login/begin", "login/complete", "roles/invoices", "creds/invoices", "tokens", "tidy",
		"static-roles/erp", "static-roles/erp/import", "rotate-role/erp", "creds/invoices/" + testNIP,
	} {
		for _, field := range s.fieldsOf(t, path) {
			for what, value := range map[string]any{
				"key": key, "list": []string{key, key}, "object": map[string]any{"a": key}, "list of objects": []any{map[string]any{"a": key}},
			} {
				_, err := s.Logical().WriteWithContext(t.Context(), "ksef/"+path, map[string]any{field: value})
				about := path + " " + field + " " + what
				require.Equal(t, http.StatusBadRequest, statusOf(err), "%s: %v", about, err)
				require.NotContains(t, err.Error(), lines[1], about)
			}
		}
	}
	// The fields of a read are in its address, which Vault's client quotes in its errors and Vault
	// in its audit log.
	_, asked := testCertificate(t)
	line := strings.Split(asked, "\n")[1]
	for _, path := range []string{"tokens", token} {
		for _, field := range []string{"nip", "internal_id"} {
			for _, values := range [][]string{{asked}, {asked, asked}} {
				_, err := s.Logical().ReadWithDataWithContext(t.Context(), "ksef/"+path, url.Values{field: values})
				var answer *api.ResponseError
				require.ErrorAs(t, err, &answer)
				require.Equal(t, http.StatusBadRequest, answer.StatusCode, "%s %s: %v", path, field, err)
				require.NotContains(t, strings.Join(answer.Errors, "\n"), line)
			}
		}
	}
	log, err := os.ReadFile(filepath.Join(s.dir, "vault.log"))
	require.NoError(t, err)
	require.NotContains(t, string(log), line)
}

// fieldsOf learns the fields of a path from the refusal of an unknown one.
func (s *server) fieldsOf(t *testing.T, path string) []string {
	t.Helper()
	_, err := s.Logical().WriteWithContext(t.Context(), "ksef/"+path, map[string]any{"zzz": "1"})
	require.ErrorContains(t, err, "zzz: is not a field of this path; use ")
	_, list, _ := strings.Cut(err.Error(), "; use ")
	list, _, _ = strings.Cut(list, "\n")
	return strings.Split(strings.TrimSpace(list), ", ")
}
