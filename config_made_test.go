// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestConfigMadeCertificate: the certificate that the engine has made gives way to another only
// where the write says so, since its document is written again after each rotation.
func TestConfigMadeCertificate(t *testing.T) {
	failed := func(t *testing.T, m *mount) {
		m.fault(simulator.Fault{Endpoint: enrollEndpoint, Kind: simulator.FaultFailEnrollment, Status: 400, Times: 1})
		require.Contains(t, m.refused(m.write("config/rotate-root", nil)), "400")
	}
	for name, prepare := range map[string]func(t *testing.T, m *mount){
		"at_once":                 func(*testing.T, *mount) {},
		"after_a_restart":         func(_ *testing.T, m *mount) { m.stop(); m.start() },
		"after_a_failed_rotation": failed,
		"after_another_setting": func(_ *testing.T, m *mount) {
			m.must(m.write("config", map[string]any{"request_timeout": "20s"}))
		},
		"stored_by_the_version_before": func(t *testing.T, m *mount) {
			m.forgetsWhoMade(t)
			m.stop()
			m.start()
			failed(t, m)
			failed(t, m)
		},
		"its_rotation_can_no_longer_be_read": func(t *testing.T, m *mount) {
			require.NoError(t, m.storage.Put(t.Context(), &logical.StorageEntry{Key: "rotation", Value: []byte("{")}))
			m.must(m.write("config", map[string]any{"force": "rotation"}))
		},
	} {
		t.Run("keeps/"+name, func(t *testing.T) {
			withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
				serial := m.rotate(nil)["certificate_serial_number"].(string)
				prepare(t, m)
				m.requireKept(serial)
			})
		})
	}
	t.Run("keeps/while_the_one_before_is_retired", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			m.rotate(nil)
			m.elapse(time.Minute)
			m.fault(simulator.Fault{Endpoint: "POST /certificates/{certificateSerialNumber}/revoke", Kind: simulator.FaultDropRequest, Times: -1})
			require.Equal(t, "retire", m.rotate(nil)["step"])
			serial := m.must(m.read("config", nil)).Data["certificate_serial_number"].(string)
			m.forgetsWhoMade(t)
			m.requireKept(serial)
			m.must(m.write("config", map[string]any{"force": "rotation"}))
			m.requireKept(serial)
		})
	})
	t.Run("gives_way_with_consent", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			serial := m.rotate(nil)["certificate_serial_number"].(string)
			fields := m.fields()
			fields["force"] = "certificate"
			response := m.must(m.write("config", fields))
			require.Contains(t, strings.Join(response.Warnings, " "), "The certificate "+serial+", which the engine had made, is no longer used and stays active in KSeF")
			require.NotContains(t, m.must(m.read("config", nil)).Data["certificate_issuer"], "KSeF")
			require.Len(t, m.certificates("Active"), 1)
			m.cert, m.key = m.certificate(simulator.CertificateOptions{NIP: testNIP})
			require.Empty(t, m.must(m.write("config", m.fields())).Warnings, "the engine has not made the one in force")
		})
	})
	t.Run("gives_way_to_the_one_that_is_about_to_be_retired", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			before := m.rotate(nil)["certificate_serial_number"].(string)
			stored, _ := m.force()
			m.elapse(time.Minute)
			m.fault(simulator.Fault{Endpoint: "POST /certificates/{certificateSerialNumber}/revoke", Kind: simulator.FaultDropRequest, Times: -1})
			require.Equal(t, "retire", m.rotate(nil)["step"])
			m.must(m.write("config", map[string]any{"certificate": stored.Certificate, "private_key": stored.PrivateKey, "force": "certificate"}))
			m.ksef.ClearFaults()
			m.elapse(2 * time.Hour)
			require.Equal(t, before, m.must(m.read("config", nil)).Data["certificate_serial_number"])
			require.Len(t, m.certificates("Active"), 2, "that in force is not revoked")
			rotation := m.statusDetails()["rotation"].(map[string]any)
			require.NotContains(t, rotation, "step", "the rotation has ended")
			require.Contains(t, rotation["last"].(map[string]any)["warning"], "the certificate before, "+before+", is in force again and was not revoked")
			m.elapse(8 * day)
			m.issue()
		})
	})
	t.Run("a_deletion_says_what_stays", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			serial := m.rotate(nil)["certificate_serial_number"].(string)
			require.Contains(t, strings.Join(m.must(m.delete("config")).Warnings, " "), "The certificate "+serial)
			m.configure()
			require.Nil(t, m.must(m.delete("config")))
		})
	})
}

// requireKept holds that the certificate of a file does not take the place of the one in force, and
// that what is read can be written back.
func (m *mount) requireKept(serial string) {
	m.t.Helper()
	stored, sent := m.stored("config"), m.allRequests()
	for _, words := range []string{"", "tokens,rotation"} {
		fields := m.fields()
		fields["force"] = words
		text := m.refused(m.write("config", fields))
		require.Contains(m.t, text, "certificate: is not the one in force, "+serial+", which the engine has made")
		require.Contains(m.t, text, "leave certificate, private_key and pkcs12 out, or give force=certificate")
	}
	require.Equal(m.t, sent, m.allRequests(), "nothing is sent")
	require.Equal(m.t, stored, m.stored("config"))
	m.must(m.write("config", m.readJSON("config")))
	require.Equal(m.t, stored, m.stored("config"))
}

// forgetsWhoMade has storage be as the version before has written it.
func (m *mount) forgetsWhoMade(t *testing.T) {
	t.Helper()
	stored, err := readConfig(t.Context(), m.storage)
	require.NoError(t, err)
	require.True(t, stored.CertificateMade)
	stored.CertificateMade = false
	require.NoError(t, stored.store(t.Context(), m.storage))
	m.backend.invalidate(t.Context(), "config")
}
