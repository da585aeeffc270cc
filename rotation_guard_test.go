// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

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

func TestRotationContinuesUnderAnotherCertificateOfTheSubject(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
		require.Equal(t, "pending", m.Rotate(nil)["status"])
		m.Cert, m.Key = m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP, Key: "rsa"})
		m.Configure()
		m.Elapse(time.Hour)
		require.Contains(t, m.Must(m.Read("config", nil)).Data["certificate_issuer"], "KSeF")
		require.Equal(t, 1, m.OpenSessions())
	})
}

// KSeF shows one subject nothing of another's: a rotation must not take that for an answer.
func TestRotationWaitsWhileAnotherSubjectIsLoggedIn(t *testing.T) {
	enginetest.WithoutCredential(t, simulator.Options{EnrollmentDelay: 5 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
		first, second := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}), m.Signer(simulator.CertificateOptions{PESEL: "80010112345"})
		m.LogIn(first)
		require.Equal(t, "pending", m.Rotate(nil)["status"])
		m.LogIn(second)
		m.Elapse(2 * enginetest.Day)
		rotation := m.StatusDetails()["rotation"].(map[string]any)
		require.Contains(t, rotation["last_error"], "login: is that of Pesel:80010112345")
		m.LogIn(first)
		m.Elapse(2 * time.Hour)
		require.Equal(t, enginetest.PESEL, m.Must(m.Read("config", nil)).Data["signer_identifier"])
		require.Equal(t, 1, m.Requests(enginetest.EnrollEndpoint))
		require.Len(t, m.Certificates("Active"), 1)
	})
}

func TestRotationKeepsASettingThatChanges(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
		require.Equal(t, "pending", m.Rotate(nil)["status"])
		m.Must(m.Write("config", map[string]any{"activation_timeout": "7s"}))
		m.Elapse(time.Hour)
		read := m.Must(m.Read("config", nil)).Data
		require.Equal(t, int64(7), read["activation_timeout"])
		require.Contains(t, read["certificate_issuer"], "KSeF")
	})
}
