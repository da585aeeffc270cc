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

// TestConfigMadeCertificate: the certificate that the engine has made gives way to another only
// where the write says so, since its document is written again after each rotation.
func TestConfigMadeCertificate(t *testing.T) {
	failed := func(t *testing.T, m *enginetest.Mount) {
		m.Fault(simulator.Fault{Endpoint: enginetest.EnrollEndpoint, Kind: simulator.FaultFailEnrollment, Status: 400, Times: 1})
		require.Contains(t, m.Refused(m.Write("config/rotate-root", nil)), "400")
	}
	for name, prepare := range map[string]func(t *testing.T, m *enginetest.Mount){
		"at_once":                 func(*testing.T, *enginetest.Mount) {},
		"after_a_restart":         func(_ *testing.T, m *enginetest.Mount) { m.Stop(); m.Start() },
		"after_a_failed_rotation": failed,
		"after_another_setting": func(_ *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("config", map[string]any{"request_timeout": "20s"}))
		},
		"stored_by_the_version_before": func(t *testing.T, m *enginetest.Mount) {
			forgetsWhoMade(t, m)
			m.Stop()
			m.Start()
			failed(t, m)
			failed(t, m)
		},
		"its_rotation_can_no_longer_be_read": func(t *testing.T, m *enginetest.Mount) {
			require.NoError(t, m.Storage.Put(t.Context(), &logical.StorageEntry{Key: "rotation", Value: []byte("{")}))
			m.Must(m.Write("config", map[string]any{"force": "rotation"}))
		},
	} {
		t.Run("keeps/"+name, func(t *testing.T) {
			enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
				serial := m.Rotate(nil)["certificate_serial_number"].(string)
				prepare(t, m)
				requireKept(m, serial)
			})
		})
	}
	t.Run("keeps/while_the_one_before_is_retired", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Rotate(nil)
			m.Elapse(time.Minute)
			m.Fault(simulator.Fault{Endpoint: "POST /certificates/{certificateSerialNumber}/revoke", Kind: simulator.FaultDropRequest, Times: -1})
			require.Equal(t, "retire", m.Rotate(nil)["step"])
			serial := m.Must(m.Read("config", nil)).Data["certificate_serial_number"].(string)
			forgetsWhoMade(t, m)
			requireKept(m, serial)
			m.Must(m.Write("config", map[string]any{"force": "rotation"}))
			requireKept(m, serial)
		})
	})
	t.Run("gives_way_with_consent", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			serial := m.Rotate(nil)["certificate_serial_number"].(string)
			fields := m.ConfigFields()
			fields["force"] = "certificate"
			response := m.Must(m.Write("config", fields))
			require.Contains(t, strings.Join(response.Warnings, " "), "The certificate "+serial+", which the engine had made, is no longer used and stays active in KSeF")
			require.NotContains(t, m.Must(m.Read("config", nil)).Data["certificate_issuer"], "KSeF")
			require.Len(t, m.Certificates("Active"), 1)
			m.Cert, m.Key = m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP})
			require.Empty(t, m.Must(m.Write("config", m.ConfigFields())).Warnings, "the engine has not made the one in force")
		})
	})
	t.Run("gives_way_to_the_one_that_is_about_to_be_retired", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			before := m.Rotate(nil)["certificate_serial_number"].(string)
			stored, _ := m.ConfigInForce()
			m.Elapse(time.Minute)
			m.Fault(simulator.Fault{Endpoint: "POST /certificates/{certificateSerialNumber}/revoke", Kind: simulator.FaultDropRequest, Times: -1})
			require.Equal(t, "retire", m.Rotate(nil)["step"])
			m.Must(m.Write("config", map[string]any{"certificate": stored.Certificate, "private_key": stored.PrivateKey, "force": "certificate"}))
			m.KSeF.ClearFaults()
			m.Elapse(2 * time.Hour)
			require.Equal(t, before, m.Must(m.Read("config", nil)).Data["certificate_serial_number"])
			require.Len(t, m.Certificates("Active"), 2, "that in force is not revoked")
			rotation := m.StatusDetails()["rotation"].(map[string]any)
			require.NotContains(t, rotation, "step", "the rotation has ended")
			require.Contains(t, rotation["last"].(map[string]any)["warning"], "the certificate before, "+before+", is in force again and was not revoked")
			m.Elapse(8 * enginetest.Day)
			m.Issue()
		})
	})
	t.Run("a_deletion_says_what_stays", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			serial := m.Rotate(nil)["certificate_serial_number"].(string)
			require.Contains(t, strings.Join(m.Must(m.Delete("config")).Warnings, " "), "The certificate "+serial)
			m.Configure()
			require.Nil(t, m.Must(m.Delete("config")))
		})
	})
}

// requireKept holds that the certificate of a file does not take the place of the one in force, and
// that what is read can be written back.
func requireKept(m *enginetest.Mount, serial string) {
	m.T.Helper()
	stored, sent := m.Stored("config"), m.AllRequests()
	for _, words := range []string{"", "tokens,rotation"} {
		fields := m.ConfigFields()
		fields["force"] = words
		text := m.Refused(m.Write("config", fields))
		require.Contains(m.T, text, "certificate: is not the one in force, "+serial+", which the engine has made")
		require.Contains(m.T, text, "leave certificate, private_key and pkcs12 out, or give force=certificate")
	}
	require.Equal(m.T, sent, m.AllRequests(), "nothing is sent")
	require.Equal(m.T, stored, m.Stored("config"))
	m.Must(m.Write("config", m.ReadJSON("config")))
	require.Equal(m.T, stored, m.Stored("config"))
}

// forgetsWhoMade has storage be as the version before has written it.
func forgetsWhoMade(t *testing.T, m *enginetest.Mount) {
	t.Helper()
	before := strings.Replace(m.Stored("config"), `"certificate_made":true,`, "", 1)
	require.NotEqual(t, before, m.Stored("config"))
	m.Put("config", []byte(before))
	m.Backend.InvalidateKey(t.Context(), "config")
}

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

func TestConfigGuardedByOpenTokens(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		issued := m.Issue()
		text := m.Refused(m.Write("config", map[string]any{"environment": "demo", "verify": false, "certificate": m.Cert, "private_key": m.Key}))
		require.Contains(t, text, "1 live token")
		require.Contains(t, text, "force=tokens")
		require.Contains(t, m.Refused(m.Delete("config")), "1 live token")

		response := m.Must(m.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
		require.Contains(t, strings.Join(response.Warnings, " "), "Left behind: 1 live token")
		require.Error(t, m.Revoke(m.Lease(issued)), "a lease never ends while its token lives")
		m.Configure()
		require.Eventually(t, func() bool { m.Elapse(time.Minute); return m.Revoke(m.Lease(issued)) == nil }, time.Hour, time.Second)
		m.RequireLoginRefused(issued.Data["token"])
	})
}

func TestConfigChangeThatBreaksARotationIsRefused(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
		require.Equal(t, "pending", m.Rotate(nil)["status"])
		certificate, key := m.NewCertificate(simulator.CertificateOptions{PESEL: enginetest.PESEL})
		other := map[string]any{"certificate": certificate, "private_key": key}
		require.Contains(t, m.Refused(m.Write("config", other)), "rotation to the certificate Vault "+enginetest.NIP)
		require.Contains(t, m.Refused(m.Delete("config")), "is in progress")

		// A forced write that comes to nothing leaves the rotation alone.
		stranger, strangersKey := m.NewCertificate(simulator.CertificateOptions{NIP: "1111111111"})
		m.Refused(m.Write("config", map[string]any{"certificate": stranger, "private_key": strangersKey, "force": "rotation"}))
		require.NotEmpty(t, m.StatusDetails()["rotation"].(map[string]any)["step"])

		other["force"] = "rotation"
		m.Must(m.Write("config", other))
		requireAbandoned(m)
	})
}

func requireAbandoned(m *enginetest.Mount) {
	m.T.Helper()
	m.Elapse(time.Hour)
	require.NotContains(m.T, m.Must(m.Read("config", nil)).Data["certificate_issuer"], "KSeF")
	rotation := m.StatusDetails()["rotation"].(map[string]any)
	require.NotContains(m.T, rotation, "step")
	require.Contains(m.T, rotation["last"].(map[string]any)["error"], "changed by force")
}

func TestRotationAbandoned(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
		require.Equal(t, "pending", m.Rotate(nil)["status"])
		m.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
		response := m.Must(m.Write("config", map[string]any{"force": "rotation"}))
		require.Contains(t, strings.Join(response.Warnings, " "), "The rotation was given up. If KSeF still issues the certificate")
		m.KSeF.ClearFaults()
		requireAbandoned(m)
	})
}

func TestRotationAbandonedNamesWhatStaysInKSeF(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		first := m.Rotate(nil)["certificate_serial_number"].(string)
		m.Elapse(time.Minute)
		m.Fault(simulator.Fault{Endpoint: "POST /certificates/{certificateSerialNumber}/revoke", Kind: simulator.FaultDropRequest, Times: -1})
		response := m.Must(m.Write("config/rotate-root", nil))
		require.Contains(t, strings.Join(response.Warnings, " "), "the new certificate is in force")
		response = m.Must(m.Write("config", map[string]any{"force": "rotation"}))
		require.Contains(t, strings.Join(response.Warnings, " "), "The certificate before, "+first+", has not been revoked")
	})
}
