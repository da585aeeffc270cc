// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// upgradeRotation continues a rotation from each step, with the key that is stored.
func upgradeRotation(t *testing.T) {
	for name, test := range map[string]struct {
		archive        string
		options        simulator.Options
		loseEnrollment bool
	}{
		"enroll_found":     {archive: "rotation-enroll"},
		"enroll_not_found": {archive: "rotation-enroll", loseEnrollment: true},
		"await":            {archive: "rotation-await", options: simulator.Options{EnrollmentDelay: 20 * time.Minute}},
		"prove":            {archive: "rotation-prove", options: simulator.Options{CertificateAcceptanceDelay: time.Hour}},
		"retire":           {archive: "rotation-retire"},
	} {
		t.Run(name, func(t *testing.T) {
			inFormer(t, test.archive, test.options, func(t *testing.T, f *former) {
				f.loseEnrollment = test.loseEnrollment
				m := f.start()
				defer m.Stop()
				m.Elapse(5 * time.Hour)
				m.requireRotated(t, map[bool]int{true: 1}[test.loseEnrollment])
			})
		})
	}
}

// requireRotated fails the test if the rotation of the archive has not led to the certificate in
// force, or needed other requests for a certificate.
func (m *upgraded) requireRotated(t *testing.T, enrollments int) {
	require.Equal(t, enrollments, m.former.sent.count(EnrollEndpoint))
	active := m.Certificates("Active")
	require.Len(t, active, 1)
	asked := m.former.decode("", m.former.text("rotation")).Current
	require.Equal(t, asked.Name, active[0].Name)
	config := m.StoredConfig()
	if asked.PrivateKey != "" {
		require.Equal(t, asked.PrivateKey, config.PrivateKey)
	}
	read := m.Must(m.Read("config", nil)).Data
	require.Equal(t, active[0].SerialNumber, read["certificate_serial_number"])
	require.NotContains(t, m.Stored("rotation"), `"current"`)
	require.Contains(t, m.Stored("rotation"), active[0].SerialNumber)
	m.requireRevokedOnce("live")
}

// upgradeRetire has the session of the certificate before, which is still open.
func upgradeRetire(t *testing.T, m *upgraded) {
	m.Elapse(time.Hour)
	require.Len(t, m.Certificates("Revoked"), 1)
	require.Equal(t, m.former.values["serial 1"], m.Certificates("Revoked")[0].SerialNumber)
	require.False(t, m.isOpen(m.number("session 1")))
	require.True(t, m.isOpen(m.number("session 2")))
	m.Must(m.Read("creds/invoices", nil))
	m.requireNoLogin()
}

// upgradeMadeCertificate has a certificate in force whose key was made by the engine, so that
// another one replaces it only by force.
func upgradeMadeCertificate(t *testing.T, m *upgraded) {
	m.Elapse(time.Hour)
	require.NoError(t, m.Storage.Delete(m.Ctx, "rotation"), "the configuration alone says so")
	require.Contains(t, m.Refused(m.Write("config", m.ConfigFields())), "force")
}

// upgradeOutcomes has the outcome of a rotation, and then that of one that has failed.
func upgradeOutcomes(t *testing.T, m *upgraded) {
	require.JSONEq(t, m.former.text("response rotation"), toJSON(m.T, m.StatusDetails()["rotation"]))
	m.Stop()
	m.Put("rotation", []byte(m.former.text("response failed entry")))
	m.Start()
	require.JSONEq(t, m.former.text("response failed"), toJSON(m.T, m.StatusDetails()["rotation"]))
}
