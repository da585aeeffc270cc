// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestFailuresInStatus(t *testing.T) {
	resolved := func(m *enginetest.Mount) any { return m.Status()["last_error_resolved_at"] }
	t.Run("issue", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{OwnerPermissions: []string{"InvoiceRead"}}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/reader", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceWrite", "ttl": "1h"}))
			m.Refused(m.Read("creds/writer", nil))
			failedAt := utc(time.Now())
			m.Must(m.Read("creds/reader", nil))
			require.Nil(t, resolved(m), "another role says nothing of this one")
			m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceRead"}))
			m.Elapse(time.Minute)
			m.Must(m.Read("creds/writer", nil))
			require.Equal(t, utc(time.Now()), resolved(m))
			require.Equal(t, failedAt, m.Status()["last_error_at"])
			require.Contains(t, m.Status()["last_error"], "26001")
			require.Contains(t, m.StatusSummary(), "All is well.")
		})
		enginetest.WithMount(t, simulator.Options{OwnerPermissions: []string{"InvoiceRead"}}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceWrite", "ttl": "1h"}))
			m.Refused(m.Read("creds/writer", nil))
			require.Nil(t, resolved(m))
			m.Must(m.Delete("roles/writer"))
			require.Equal(t, utc(time.Now()), resolved(m), "it cannot be tried again")
		})
	})
	t.Run("revoke", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			issued := m.Issue()
			m.Fault(simulator.Fault{Endpoint: enginetest.RevokeEndpoint, Kind: simulator.FaultStatus, Status: http.StatusForbidden, Times: 1})
			require.Error(t, m.Revoke(m.Lease(issued)))
			require.Nil(t, resolved(m))
			m.Issue()
			require.Nil(t, resolved(m))
			m.Elapse(2 * time.Minute)
			require.NotNil(t, resolved(m))
		})
	})
	t.Run("login", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "nip": "1111111111"}))
			m.Refused(m.Read("creds/other", nil))
			m.Issue()
			require.Nil(t, resolved(m), "it concerns another taxpayer")
		})
		enginetest.WithMount(t, simulator.Options{RequireGrants: true}, func(t *testing.T, m *enginetest.Mount) {
			certificate, key := m.NewCertificate(simulator.CertificateOptions{PESEL: enginetest.PESEL})
			m.Refused(m.Write("config", map[string]any{"certificate": certificate, "private_key": key}))
			require.Nil(t, m.Status()["last_error"], "a configuration that is not stored is no trouble of the mount")
			m.Must(m.Write("config", map[string]any{"certificate": certificate, "private_key": key, "verify": false}))
			m.Refused(m.Read("tokens", nil))
			require.Contains(t, m.Status()["last_error"], "415")
			require.Nil(t, resolved(m))
			certificate, key = m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP})
			m.Must(m.Write("config", map[string]any{"certificate": certificate, "private_key": key}))
			require.Equal(t, utc(time.Now()), resolved(m), "the login that is configured has been proven")
		})
	})
	t.Run("login of a taxpayer whom config no longer names", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("config", map[string]any{"nip": "1111111111", "verify": false}))
			m.Refused(m.Read("tokens", nil))
			require.Nil(t, resolved(m))
			m.Must(m.Write("config", map[string]any{"nip": enginetest.NIP}))
			require.NotNil(t, resolved(m))
		})
	})
	t.Run("rotation that was given up", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *enginetest.Mount) {
			require.Equal(t, "pending", m.Rotate(nil)["status"])
			m.Must(m.Write("config", map[string]any{"force": "rotation"}))
			require.Nil(t, m.Status()["last_error"])
			require.Contains(t, m.StatusSummary(), "All is well.")
		})
	})
	t.Run("rotation", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Fault(simulator.Fault{Endpoint: "POST /certificates/enrollments", Kind: simulator.FaultFailEnrollment, Status: 550, Times: 1})
			m.Refused(m.Write("config/rotate-root", nil))
			require.Contains(t, m.Status()["last_error"], "550")
			m.Issue()
			require.Nil(t, resolved(m))
			m.Must(m.Write("config/rotate-root", nil))
			require.NotNil(t, resolved(m))
		})
	})
}
