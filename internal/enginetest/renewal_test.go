// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestRenewal(t *testing.T) {
	t.Run("years_unattended", testRenewalYearsUnattended)
	t.Run("failure_is_shown_and_retried", testRenewalFailureIsShownAndRetried)
	t.Run("cannot_begin", testRenewalCannotBegin)
	t.Run("not_of_another_issuer", testRenewalNotOfAnotherIssuer)
	t.Run("switched_off", testRenewalSwitchedOff)
}

// testRenewalYearsUnattended lets five years pass after one rotation: each certificate is renewed
// before its end, tokens are issued and revoked all along, and KSeF's quota suffices.
func testRenewalYearsUnattended(t *testing.T) {
	options := simulator.Options{
		CertificateQuota: simulator.CertificateQuota{Requests: 1, Certificates: 2}, CertificateAcceptanceDelay: 2 * time.Hour,
	}
	WithoutCredential(t, options, func(t *testing.T, m *Mount) {
		m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: PESEL}))
		m.Rotate(nil)
		m.Elapse(Day)
		seen := map[string]bool{}
		for range 5 * 365 / 3 {
			m.Elapse(3 * Day)
			stored, pair := m.ConfigInForce()
			require.NotEmpty(t, stored.Certificate)
			require.Greater(t, time.Until(pair.Leaf.NotAfter), 29*Day, "renewed before its end")
			require.LessOrEqual(t, len(m.Certificates("Active")), 2)
			seen[string(pair.Leaf.Raw)] = true
			issued := m.Issue()
			require.Equal(t, "Active", m.StatusInKSeF(issued.Data["reference_number"]))
			require.NoError(t, m.Revoke(m.Lease(issued)))
		}
		require.Len(t, seen, 3)
		enrolled := m.KSeF.State().Requests[EnrollEndpoint]
		require.Equal(t, map[string]int{"202": 3}, enrolled, "one request for each certificate, and none was refused")
	})
}

func testRenewalFailureIsShownAndRetried(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Rotate(nil)
		m.Elapse(690 * Day)
		m.Fault(simulator.Fault{Endpoint: EnrollEndpoint, Kind: simulator.FaultFailEnrollment, Status: 550, Times: -1})
		m.Elapse(16 * Day)
		warnings := strings.Join(m.Must(m.Read("config", nil)).Warnings, " ")
		require.Contains(t, warnings, "expires in 25 days")
		require.Contains(t, warnings, "renewal has failed and will be tried again")
		require.Contains(t, warnings, "550")
		require.Contains(t, strings.Join(m.Must(m.Read("status", nil)).Warnings, " "), "550")
		require.Contains(t, fmt.Sprint(m.StatusDetails()["rotation"]), "550")
		require.InDelta(t, 5, m.CountEvents("ksef/root-rotate-fail"), 2, "later each time")
		m.KSeF.ClearFaults()
		m.Elapse(4 * Day)
		require.Empty(t, m.Must(m.Read("config", nil)).Warnings)
	})
}

// An unknown outcome of the enrollment is a failure.
func testRenewalCannotBegin(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Rotate(nil)
		m.Elapse(690 * Day)
		m.Fault(simulator.Fault{Endpoint: "POST /certificates/retrieve", Kind: simulator.FaultDropRequest, Times: -1})
		m.Elapse(20 * Day)
		require.Contains(t, strings.Join(m.Must(m.Read("config", nil)).Warnings, " "), "renewal has failed and will be tried again")
		m.RequireEvent("ksef/root-rotate-fail")
		m.KSeF.ClearFaults()
		m.Elapse(4 * Day)
		require.Empty(t, m.Must(m.Read("config", nil)).Warnings)
	})
}

func testRenewalNotOfAnotherIssuer(t *testing.T) {
	InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
		env.Cert, env.Key = env.NewCertificate(simulator.CertificateOptions{NIP: NIP, NotAfter: time.Now().Add(40 * Day)})
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Configure()
		m.Elapse(38 * Day)
		require.Zero(t, m.Requests(EnrollEndpoint))
		require.Zero(t, m.CountEvents("ksef/root-rotate-fail"))
		warnings := m.Must(m.Read("config", nil)).Warnings
		require.Equal(t, []string{"The certificate expires in 2 days. If KSeF has issued it, the engine renews it by itself; otherwise write to config/rotate-root, or write a new one to config, before that."}, warnings)
	})
}

func testRenewalSwitchedOff(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Must(m.Write("config", map[string]any{"certificate_renew_before": 0}))
		m.Rotate(nil)
		m.Elapse(725 * Day)
		require.Equal(t, 1, m.Requests(EnrollEndpoint))
		require.Contains(t, strings.Join(m.Must(m.Read("config", nil)).Warnings, " "), "expires in")
	})
}
