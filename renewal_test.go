// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/rotation"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const day = 24 * time.Hour

// TestYearsGoByWithoutAHandOnIt lets five years pass over one rotation by hand: the certificate is
// renewed each time before its end, tokens are made and revoked all along, and KSeF's quota is
// never asked for more than it has.
func TestYearsGoByWithoutAHandOnIt(t *testing.T) {
	options := simulator.Options{
		CertificateQuota: simulator.CertificateQuota{Requests: 1, Certificates: 2}, CertificateAcceptanceDelay: 2 * time.Hour,
	}
	withoutKey(t, options, func(t *testing.T, m *mount) {
		m.logIn(m.signer(simulator.CertificateOptions{PESEL: testPESEL}))
		m.rotate(nil)
		m.elapse(day)
		seen := map[string]bool{}
		for range 5 * 365 / 3 {
			m.elapse(3 * day)
			stored, pair := m.force()
			require.Equal(t, signingCertificate, stored.signing())
			require.Greater(t, time.Until(pair.Leaf.NotAfter), 29*day, "renewed before its end")
			require.LessOrEqual(t, len(m.certificates("Active")), 2)
			seen[string(pair.Leaf.Raw)] = true
			issued := m.issue()
			require.Equal(t, "Active", m.statusInKSeF(issued.Data["reference_number"]))
			require.NoError(t, m.revoke(m.lease(issued)))
		}
		require.Len(t, seen, 3)
		enrolled := m.ksef.State().Requests[enrollEndpoint]
		require.Equal(t, map[string]int{"202": 3}, enrolled, "one request for each certificate, and none was refused")
	})
}

func TestARenewalThatFailsIsShownAndTriedAgain(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.rotate(nil)
		m.elapse(690 * day)
		m.fault(simulator.Fault{Endpoint: enrollEndpoint, Kind: simulator.FaultFailEnrollment, Status: 550, Times: -1})
		m.elapse(16 * day)
		warnings := strings.Join(m.must(m.read("config", nil)).Warnings, " ")
		require.Contains(t, warnings, "expires in 25 days")
		require.Contains(t, warnings, "renewal has failed and will be tried again")
		require.Contains(t, warnings, "550")
		require.Contains(t, strings.Join(m.must(m.read("status", nil)).Warnings, " "), "550")
		require.Contains(t, fmt.Sprint(m.statusDetails()["rotation"]), "550")
		require.InDelta(t, 5, m.countEvents("ksef/root-rotate-fail"), 2, "later each time")
		m.ksef.ClearFaults()
		m.elapse(4 * day)
		require.Empty(t, m.must(m.read("config", nil)).Warnings)
	})
}

// Where KSeF does not tell whether it has issued the certificate, that is a failure and no answer.
func TestARenewalThatCannotBeginIsShown(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.rotate(nil)
		m.elapse(690 * day)
		m.fault(simulator.Fault{Endpoint: "POST /certificates/retrieve", Kind: simulator.FaultDropRequest, Times: -1})
		m.elapse(20 * day)
		require.Contains(t, strings.Join(m.must(m.read("config", nil)).Warnings, " "), "renewal has failed and will be tried again")
		m.requireEvent("ksef/root-rotate-fail")
		m.ksef.ClearFaults()
		m.elapse(4 * day)
		require.Empty(t, m.must(m.read("config", nil)).Warnings)
	})
}

func TestACertificateOfAnotherIssuerIsNotRenewed(t *testing.T) {
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		w.cert, w.key = w.certificate(simulator.CertificateOptions{NIP: testNIP, NotAfter: time.Now().Add(40 * day)})
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		m.configure()
		m.elapse(38 * day)
		require.Zero(t, m.requests(enrollEndpoint))
		require.Zero(t, m.countEvents("ksef/root-rotate-fail"))
		warnings := m.must(m.read("config", nil)).Warnings
		require.Equal(t, []string{"The certificate expires in 2 days. If KSeF has issued it, the engine renews it by itself; otherwise write to config/rotate-root, or write a new one to config, before that."}, warnings)
	})
}

func TestACertificateIsNotRenewedWhereThatIsNotWanted(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.must(m.write("config", map[string]any{"certificate_renew_before": 0}))
		m.rotate(nil)
		m.elapse(725 * day)
		require.Equal(t, 1, m.requests(enrollEndpoint))
		require.Contains(t, strings.Join(m.must(m.read("config", nil)).Warnings, " "), "expires in")
	})
}

func TestRenewalsAreSpreadAndComeLaterAfterEachFailure(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	to := from.Add(730 * day)
	of := func(to time.Time, raw byte) *x509.Certificate {
		return &x509.Certificate{NotBefore: from, NotAfter: to, Raw: []byte{raw}}
	}
	dues := map[time.Time]bool{}
	for i := range 100 {
		due := renewalDue(of(to, byte(i)), 30*day, nil)
		require.False(t, due.Before(to.Add(-33*day)))
		require.False(t, due.After(to.Add(-30*day)))
		dues[due] = true
	}
	require.Greater(t, len(dues), 90)
	require.Equal(t, from.Add(15*day), renewalDue(of(from.Add(30*day), 0), 30*day, nil), "not before half its life is over")

	sum := sha256.Sum256([]byte{0})
	failed := func(at time.Time, failures int) *rotation.Outcome {
		return &rotation.Outcome{At: at, Automatic: true, Failures: failures, Previous: hex.EncodeToString(sum[:])}
	}
	late := to.Add(-25 * day)
	var before time.Duration
	for failures := 1; failures < 8; failures++ {
		again := renewalDue(of(to, 0), 30*day, failed(late, failures)).Sub(late)
		require.GreaterOrEqual(t, again, before)
		before = again
	}
	require.Equal(t, 72*time.Hour, before)
	require.Equal(t, to.Add(-45*time.Minute), renewalDue(of(to, 0), 30*day, failed(to.Add(-time.Hour), 7)), "towards the end more often")
	require.True(t, renewalDue(of(to, 1), 30*day, failed(late, 7)).Before(late), "what failed with another certificate does not hold it up")
	byHand := failed(late, 3)
	byHand.Automatic = false
	require.True(t, renewalDue(of(to, 0), 30*day, byHand).Before(late), "nor does what failed by hand")
}
