// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestAConfigThatWouldPullTheGroundFromARotationIsRefused(t *testing.T) {
	withMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *mount) {
		require.Equal(t, "pending", m.rotate(nil)["status"])
		certificate, key := m.certificate(simulator.CertificateOptions{PESEL: testPESEL})
		other := map[string]any{"certificate": certificate, "private_key": key}
		require.Contains(t, m.refused(m.write("config", other)), "rotation to the certificate Vault "+testNIP)
		require.Contains(t, m.refused(m.delete("config")), "is in progress")

		// A forced write that comes to nothing leaves the rotation alone.
		stranger, strangersKey := m.certificate(simulator.CertificateOptions{NIP: "1111111111"})
		m.refused(m.write("config", map[string]any{"certificate": stranger, "private_key": strangersKey, "force": "rotation"}))
		require.NotEmpty(t, m.statusDetails()["rotation"].(map[string]any)["step"])

		other["force"] = "rotation"
		m.must(m.write("config", other))
		m.requireAbandoned()
	})
}

func (m *mount) requireAbandoned() {
	m.t.Helper()
	m.elapse(time.Hour)
	require.NotContains(m.t, m.must(m.read("config", nil)).Data["certificate_issuer"], "KSeF")
	rotation := m.statusDetails()["rotation"].(map[string]any)
	require.NotContains(m.t, rotation, "step")
	require.Contains(m.t, rotation["last"].(map[string]any)["error"], "changed by force")
}

func TestARotationCanBeGivenUp(t *testing.T) {
	withMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *mount) {
		require.Equal(t, "pending", m.rotate(nil)["status"])
		m.fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
		response := m.must(m.write("config", map[string]any{"force": "rotation"}))
		require.Contains(t, strings.Join(response.Warnings, " "), "The rotation was given up. If KSeF still issues the certificate")
		m.ksef.ClearFaults()
		m.requireAbandoned()
	})
}

func TestWhatAGivenUpRotationHasLeftIsTold(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		first := m.rotate(nil)["certificate_serial_number"].(string)
		m.elapse(time.Minute)
		m.fault(simulator.Fault{Endpoint: "POST /certificates/{certificateSerialNumber}/revoke", Kind: simulator.FaultDropRequest, Times: -1})
		response := m.must(m.write("config/rotate-root", nil))
		require.Contains(t, strings.Join(response.Warnings, " "), "the new certificate is in force")
		response = m.must(m.write("config", map[string]any{"force": "rotation"}))
		require.Contains(t, strings.Join(response.Warnings, " "), "The certificate before, "+first+", has not been revoked")
	})
}

func TestARotationGoesOnUnderAnotherCertificateOfTheSameSubject(t *testing.T) {
	withMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *mount) {
		require.Equal(t, "pending", m.rotate(nil)["status"])
		m.cert, m.key = m.certificate(simulator.CertificateOptions{NIP: testNIP, Key: "rsa"})
		m.configure()
		m.elapse(time.Hour)
		require.Contains(t, m.must(m.read("config", nil)).Data["certificate_issuer"], "KSeF")
		require.Equal(t, 1, m.openSessions())
	})
}

// KSeF shows one subject nothing of another's: a rotation must not take that for an answer.
func TestARotationWaitsWhileAnotherIsLoggedIn(t *testing.T) {
	withoutKey(t, simulator.Options{EnrollmentDelay: 5 * time.Minute}, func(t *testing.T, m *mount) {
		first, second := m.signer(simulator.CertificateOptions{PESEL: testPESEL}), m.signer(simulator.CertificateOptions{PESEL: "80010112345"})
		m.logIn(first)
		require.Equal(t, "pending", m.rotate(nil)["status"])
		m.logIn(second)
		m.elapse(2 * day)
		rotation := m.statusDetails()["rotation"].(map[string]any)
		require.Contains(t, rotation["last_error"], "login: is that of Pesel:80010112345")
		m.logIn(first)
		m.elapse(2 * time.Hour)
		require.Equal(t, testPESEL, m.must(m.read("config", nil)).Data["signer_identifier"])
		require.Equal(t, 1, m.requests(enrollEndpoint))
		require.Len(t, m.certificates("Active"), 1)
	})
}

func TestASettingThatChangesDuringARotationIsKept(t *testing.T) {
	withMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *mount) {
		require.Equal(t, "pending", m.rotate(nil)["status"])
		m.must(m.write("config", map[string]any{"activation_timeout": "7s"}))
		m.elapse(time.Hour)
		read := m.must(m.read("config", nil)).Data
		require.Equal(t, int64(7), read["activation_timeout"])
		require.Contains(t, read["certificate_issuer"], "KSeF")
	})
}
