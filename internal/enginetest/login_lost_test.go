// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/stretchr/testify/require"
)

func TestExternalLoginLost(t *testing.T) {
	t.Run("redeem_reply_lost", func(t *testing.T) {
		WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			signer := m.Signer(simulator.CertificateOptions{NIP: NIP})
			signed := signer.Sign(t, m.BeginLogin(nil), xadestest.DSS())
			m.Fault(simulator.Fault{Endpoint: "POST /auth/token/redeem", Kind: simulator.FaultDropResponse})
			began := time.Now()
			message := m.Refused(m.CompleteLogin(signed))
			require.Contains(t, message, "begin again with login/begin")
			require.Less(t, time.Since(began), 3*time.Second)
			require.Equal(t, 1, m.Requests("POST /auth/token/redeem"))
			m.LogIn(signer)
			m.Issue()
		})
	})
	for name, offset := range map[string]time.Duration{"ksef_is_an_hour_behind": -time.Hour, "ksef_is_an_hour_ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			options := simulator.Options{ClockOffset: offset, SigningTimeTolerance: 2 * time.Hour, LoginDelay: 10 * time.Second}
			WithoutCredential(t, options, func(t *testing.T, m *Mount) {
				signer := m.Signer(simulator.CertificateOptions{NIP: NIP, NotBefore: time.Now().AddDate(0, 0, -1)})
				answer := m.LogIn(signer).Data
				require.Equal(t, "active", answer["status"])
				until, err := time.Parse(time.RFC3339, answer["session_until"].(string))
				require.NoError(t, err)
				require.WithinDuration(t, time.Now().Add(7*24*time.Hour), until, 2*time.Second)
				for range 5 {
					m.Issue()
				}
				require.Zero(t, m.Requests("POST /auth/token/refresh"))
			})
		})
	}
}
