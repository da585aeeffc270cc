// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestConfigForce(t *testing.T) {
	t.Run("says_what_for", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			before, sent := m.Stored("config"), m.AllRequests()
			for _, given := range []any{true, false, "true", "false", "1", "token", "tokens,all", []any{"rotation", ""}} {
				for _, operation := range []logical.Operation{logical.UpdateOperation, logical.DeleteOperation} {
					text := m.Refused(m.Request(operation, "config", map[string]any{"force": given}))
					require.Regexp(t, "^force: (is (true|false), which does not say what for|has at place [0-9] a word that it does not know); give one or more of tokens ", text)
					for _, meaning := range []string{"tokens (leave open tokens behind", "rotation (give up", "certificate (replace"} {
						require.Contains(t, text, meaning)
					}
				}
			}
			require.Equal(t, before, m.Stored("config"))
			require.Equal(t, sent, m.AllRequests(), "nothing is sent")
			m.Must(m.Write("config", map[string]any{"force": "tokens, rotation,certificate"}))
			m.Must(m.Write("config", map[string]any{"force": nil}))
		})
	})
	t.Run("each_guard_looks_at_its_own_word", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{Grants: enginetest.SecondGrant(), EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
			m.Issue()
			move := func(words string) map[string]any { return map[string]any{"nip": enginetest.SecondNIP, "force": words} }
			require.Contains(t, m.Refused(m.Write("config", move("rotation,certificate"))),
				"nip: would leave behind 1 live token, which could then no longer be revoked; end their leases first (vault lease revoke -prefix ksef/), or give force=tokens")
			require.Equal(t, "pending", m.Rotate(nil)["status"])
			require.Contains(t, m.Refused(m.Write("config", move("tokens,certificate"))), "or give force=rotation, which gives it up")
			require.Contains(t, m.Refused(m.Write("config", move("rotation"))), "give force=tokens")
			require.NotEmpty(t, m.Must(m.Read("status", nil)).Data["rotation_step"], "a write that is refused leaves the rotation alone")
			m.Must(m.Write("config", move("tokens,rotation")))
		})
	})
	t.Run("a_deletion_is_spoken_of_as_such", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
			m.Issue()
			m.Issue()
			require.True(t, strings.HasPrefix(m.Refused(m.Delete("config")),
				"config: cannot be deleted without leaving behind 2 live tokens, which could then no longer be revoked; "))
			require.Equal(t, "pending", m.Rotate(nil)["status"])
			require.Contains(t, m.Refused(m.Delete("config")), "config: cannot be deleted while the rotation to the certificate ")
			response := m.Must(m.Request(logical.DeleteOperation, "config", map[string]any{"force": []any{"rotation", "tokens"}}))
			require.Contains(t, strings.Join(response.Warnings, " "), "Left behind: 2 live tokens.")
		})
	})
	t.Run("to_delete_an_unreadable_config_gives_no_rotation_up", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
			require.Equal(t, "pending", m.Rotate(nil)["status"])
			m.Put("config", []byte("{"))
			m.Stop()
			m.Start()
			remove := func(words string) (*logical.Response, error) {
				return m.Request(logical.DeleteOperation, "config", map[string]any{"force": words})
			}
			rotation := m.Stored("rotation")
			require.Contains(t, m.Refused(remove("rotation")), "or give force=tokens")
			require.Contains(t, m.Refused(remove("tokens")), "or give force=rotation, which gives it up")
			require.Equal(t, rotation, m.Stored("rotation"))
			require.Contains(t, strings.Join(m.Must(remove("tokens,rotation")).Warnings, " "), "The rotation was given up.")
			require.Nil(t, m.Must(m.Read("config", nil)))
		})
	})
}
