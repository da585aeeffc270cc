// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// inForgetfulKSeF runs a test on a mount with one leased token, of which a reset KSeF knows
// nothing.
func inForgetfulKSeF(t *testing.T, options simulator.Options, test func(t *testing.T, m *mount, issued *logical.Response)) {
	t.Helper()
	withMount(t, options, func(t *testing.T, m *mount) {
		issued := m.issue()
		m.ksef.Reset()
		test(t, m, issued)
	})
}

func (m *mount) statusWarnings() string {
	m.t.Helper()
	return strings.Join(m.must(m.read("status", nil)).Warnings, "\n")
}

func (m *mount) sayUnknown(issued *logical.Response) (*logical.Response, error) {
	path := "tokens/" + issued.Data["reference_number"].(string)
	return m.request(logical.DeleteOperation, path, map[string]any{"unknown_to_ksef": true})
}

// TestUnknownToken_afterADay ends a lease whose token KSeF has not known for a day, across a
// restart.
func TestUnknownToken_afterADay(t *testing.T) {
	inForgetfulKSeF(t, simulator.Options{}, func(t *testing.T, m *mount, issued *logical.Response) {
		secret, number := m.lease(issued), issued.Data["reference_number"].(string)
		require.ErrorContains(t, m.revoke(secret), "unknown_to_ksef=true")
		require.Contains(t, m.statusWarnings(), number+" unknown_to_ksef=true")
		m.elapse(10 * time.Hour)
		m.stop()
		m.start()
		m.elapse(13 * time.Hour)
		require.Error(t, m.revoke(secret))
		require.Contains(t, m.statusWarnings(), number+" unknown_to_ksef=true")
		m.elapse(3 * time.Hour)
		require.NoError(t, m.revoke(secret))
		m.requireEmptyLedger()
		require.NotContains(t, m.statusWarnings(), "unknown_to_ksef")
		require.Less(t, m.requests(statusEndpoint), 12, "requests in a day")
	})
}

func TestUnknownToken_atOnceByWord(t *testing.T) {
	inForgetfulKSeF(t, simulator.Options{}, func(t *testing.T, m *mount, issued *logical.Response) {
		secret := m.lease(issued)
		require.Error(t, m.revoke(secret))
		m.must(m.sayUnknown(issued))
		require.NoError(t, m.revoke(secret))
		m.requireEmptyLedger()
	})
}

// TestUnknownToken_byWordBeforeItsLeaseEnds is the remedy of whoever knows that TEST was reset.
func TestUnknownToken_byWordBeforeItsLeaseEnds(t *testing.T) {
	inForgetfulKSeF(t, simulator.Options{}, func(t *testing.T, m *mount, issued *logical.Response) {
		m.must(m.sayUnknown(issued))
		require.NoError(t, m.revoke(m.lease(issued)))
		m.requireEmptyLedger()
	})
}

// TestUnknownToken_wordIsChecked takes nobody's word for a token that KSeF knows, or may know.
func TestUnknownToken_wordIsChecked(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issued := m.issue()
		require.Contains(t, m.refused(m.sayUnknown(issued)), "KSeF knows the token")
		m.fault(simulator.Fault{Endpoint: statusEndpoint, Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Times: -1})
		require.Contains(t, m.refused(m.sayUnknown(issued)), "KSeF knows the token")
		m.ksef.ClearFaults()
		m.fault(simulator.Fault{Endpoint: statusEndpoint, Kind: simulator.FaultStatus, Status: http.StatusForbidden, Times: -1})
		require.Contains(t, m.refused(m.sayUnknown(issued)), "status 403")
		require.Zero(t, m.requests(revokeEndpoint))
		m.ksef.ClearFaults()
		require.NoError(t, m.login(issued.Data["token"]))
		foreign := "tokens/20251010-EC-1DCE3E3000-12ECB5B36E-45"
		require.Contains(t, m.refused(m.request(logical.DeleteOperation, foreign, map[string]any{"unknown_to_ksef": true})), "no record")
	})
}

// TestUnknownToken_neverByRefusal holds that a 403 or 401 proves nothing in two days, nor does a
// number that KSeF does not know where its list shows the token.
func TestUnknownToken_neverByRefusal(t *testing.T) {
	for name, status := range map[string]int{"403": http.StatusForbidden, "401": http.StatusUnauthorized, "listed": http.StatusBadRequest} {
		t.Run(name, func(t *testing.T) {
			withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
				issued := m.issue()
				m.fault(simulator.Fault{Endpoint: revokeEndpoint, Kind: simulator.FaultStatus, Status: status, Times: -1})
				m.fault(simulator.Fault{Endpoint: statusEndpoint, Kind: simulator.FaultStatus, Status: status, Times: -1})
				require.Error(t, m.revoke(m.lease(issued)))
				m.elapse(50 * time.Hour)
				require.Error(t, m.revoke(m.lease(issued)))
				require.NotContains(t, m.statusWarnings(), "unknown_to_ksef")
				m.ksef.ClearFaults()
				m.elapse(2 * time.Hour)
				m.requireLoginRefused(issued.Data["token"])
			})
		})
	}
}

// TestUnknownToken_otherSigner decides nothing for a signer who may not see what another has made.
func TestUnknownToken_otherSigner(t *testing.T) {
	inForgetfulKSeF(t, simulator.Options{}, func(t *testing.T, m *mount, issued *logical.Response) {
		secret := m.lease(issued)
		certificate, key := m.certificate(simulator.CertificateOptions{PESEL: testPESEL})
		m.must(m.write("config", map[string]any{"certificate": certificate, "private_key": key}))
		require.Error(t, m.revoke(secret))
		m.elapse(3 * 24 * time.Hour)
		require.ErrorContains(t, m.revoke(secret), "unknown_to_ksef=true")
		m.must(m.sayUnknown(issued))
		require.NoError(t, m.revoke(secret))
	})
}

// TestUnknownToken_withoutRecord has nothing but the lease, which does not say who made the token.
func TestUnknownToken_withoutRecord(t *testing.T) {
	inForgetfulKSeF(t, simulator.Options{}, func(t *testing.T, m *mount, issued *logical.Response) {
		for _, key := range m.keys("ledger/") {
			require.NoError(t, m.storage.Delete(m.ctx, key))
		}
		secret := m.lease(issued)
		err := m.revoke(secret)
		require.ErrorContains(t, err, "nothing tells who made it")
		require.NotContains(t, err.Error(), "did not make it")
		require.ErrorContains(t, err, "KSeF has lost it: vault delete ksef/tokens/")
		m.must(m.sayUnknown(issued))
		require.NoError(t, m.revoke(secret))
	})
}

// TestUnknownToken_begunAnewAfterSilence counts no day in which KSeF was not asked.
func TestUnknownToken_begunAnewAfterSilence(t *testing.T) {
	inForgetfulKSeF(t, simulator.Options{}, func(t *testing.T, m *mount, issued *logical.Response) {
		secret := m.lease(issued)
		require.Error(t, m.revoke(secret))
		m.stop()
		m.elapse(25 * time.Hour)
		m.start()
		m.elapse(20 * time.Hour)
		require.Error(t, m.revoke(secret))
		m.elapse(5 * time.Hour)
		require.NoError(t, m.revoke(secret))
	})
}

// TestUnknownToken_thatComesBack is a KSeF that did not know a token for some hours.
func TestUnknownToken_thatComesBack(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issued := m.issue()
		for _, endpoint := range []string{revokeEndpoint, statusEndpoint, "GET /tokens"} {
			fault := simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Times: -1}
			if endpoint == "GET /tokens" {
				fault = simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultDropRequest, Times: -1}
			}
			m.fault(fault)
		}
		require.Error(t, m.revoke(m.lease(issued)))
		m.elapse(26 * time.Hour)
		require.Error(t, m.revoke(m.lease(issued)), "the list has never been read")
		m.ksef.ClearFaults()
		m.elapse(7 * time.Hour)
		m.requireLoginRefused(issued.Data["token"])
	})
}
