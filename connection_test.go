// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"testing"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestConfigFingerprint holds that configurations without later fields still find their stored
// sessions.
func TestConfigFingerprint(t *testing.T) {
	const url = "https://ksef.test/v2"
	t.Run("without_allowed_ips", func(t *testing.T) {
		stored := &config{URL: url, SubjectIdentifierType: "certificateSubject", Certificate: "PEM"}
		require.Equal(t, "50e80f0b596fa93c20ee28fcda35fb9b34befdbdf7c25aeb4ed049d8f0e0f4ee", stored.fingerprint(), "sessions of a version without the field are found by this")
	})
	t.Run("without_ca_certificate", func(t *testing.T) {
		authority, _, err := simulator.NewCertificate(simulator.CertificateOptions{})
		require.NoError(t, err)
		plain := config{URL: url, SubjectIdentifierType: "certificateSubject", Certificate: "certificate"}
		require.Equal(t, url, plain.api())
		require.Equal(t, "d6983024343f", plain.fingerprint()[:12])
		bound := plain
		bound.CACertificate = string(authority)
		require.NotEqual(t, plain.fingerprint(), bound.fingerprint())
	})
}
