// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// inForgetfulKSeF runs a test on a mount with one leased token, which KSeF has forgotten in a
// reset.
func inForgetfulKSeF(t *testing.T, test func(t *testing.T, m *Mount, issued *logical.Response)) {
	t.Helper()
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		issued := m.Issue()
		m.KSeF.Reset()
		test(t, m, issued)
	})
}

func sayUnknown(m *Mount, issued *logical.Response) (*logical.Response, error) {
	path := "tokens/" + issued.Data["reference_number"].(string)
	return m.Request(logical.DeleteOperation, path, map[string]any{"unknown_to_ksef": true})
}

func TestUnknownToken(t *testing.T) {
	t.Run("after_a_day", testUnknownTokenAfterADay)
	t.Run("confirmed_by_operator", testUnknownTokenConfirmedByOperator)
	t.Run("confirmed_before_its_lease_ends", testUnknownTokenConfirmedBeforeItsLeaseEnds)
	t.Run("confirmation_is_checked", testUnknownTokenConfirmationIsChecked)
	t.Run("never_by_refusal", testUnknownTokenNeverByRefusal)
	t.Run("other_signer", testUnknownTokenOtherSigner)
	t.Run("without_record", testUnknownTokenWithoutRecord)
	t.Run("counted_anew_after_an_outage", testUnknownTokenCountedAnewAfterAnOutage)
	t.Run("comes_back", testUnknownTokenComesBack)
}

// testUnknownTokenAfterADay ends a lease whose token KSeF has not known for a day. A restart lies
// in between.
func testUnknownTokenAfterADay(t *testing.T) {
	inForgetfulKSeF(t, func(t *testing.T, m *Mount, issued *logical.Response) {
		secret, number := m.Lease(issued), issued.Data["reference_number"].(string)
		require.ErrorContains(t, m.Revoke(secret), "unknown_to_ksef=true")
		require.Contains(t, m.StatusWarnings(), number+" unknown_to_ksef=true")
		m.Elapse(10 * time.Hour)
		m.Stop()
		m.Start()
		m.Elapse(13 * time.Hour)
		require.Error(t, m.Revoke(secret))
		require.Contains(t, m.StatusWarnings(), number+" unknown_to_ksef=true")
		m.Elapse(3 * time.Hour)
		require.NoError(t, m.Revoke(secret))
		m.RequireEmptyLedger()
		require.NotContains(t, m.StatusWarnings(), "unknown_to_ksef")
		require.Less(t, m.Requests(StatusEndpoint), 12, "requests in a day")
	})
}

func testUnknownTokenConfirmedByOperator(t *testing.T) {
	inForgetfulKSeF(t, func(t *testing.T, m *Mount, issued *logical.Response) {
		secret := m.Lease(issued)
		require.Error(t, m.Revoke(secret))
		m.Must(sayUnknown(m, issued))
		require.NoError(t, m.Revoke(secret))
		m.RequireEmptyLedger()
	})
}

// testUnknownTokenConfirmedBeforeItsLeaseEnds is the remedy for a reset of TEST.
func testUnknownTokenConfirmedBeforeItsLeaseEnds(t *testing.T) {
	inForgetfulKSeF(t, func(t *testing.T, m *Mount, issued *logical.Response) {
		m.Must(sayUnknown(m, issued))
		require.NoError(t, m.Revoke(m.Lease(issued)))
		m.RequireEmptyLedger()
	})
}

// testUnknownTokenConfirmationIsChecked refuses the confirmation for a token that KSeF knows, or
// may know.
func testUnknownTokenConfirmationIsChecked(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		issued := m.Issue()
		require.Contains(t, m.Refused(sayUnknown(m, issued)), "KSeF knows the token")
		m.Fault(simulator.Fault{Endpoint: StatusEndpoint, Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Times: -1})
		require.Contains(t, m.Refused(sayUnknown(m, issued)), "KSeF knows the token")
		m.KSeF.ClearFaults()
		m.Fault(simulator.Fault{Endpoint: StatusEndpoint, Kind: simulator.FaultStatus, Status: http.StatusForbidden, Times: -1})
		require.Contains(t, m.Refused(sayUnknown(m, issued)), "status 403")
		require.Zero(t, m.Requests(RevokeEndpoint))
		m.KSeF.ClearFaults()
		require.NoError(t, m.Login(issued.Data["token"]))
		foreign := "tokens/20251010-EC-1DCE3E3000-12ECB5B36E-45"
		require.Contains(t, m.Refused(m.Request(logical.DeleteOperation, foreign, map[string]any{"unknown_to_ksef": true})), "no record")
	})
}

// testUnknownTokenNeverByRefusal holds that a 401 or 403 proves nothing, not even after two days,
// and that neither does an unknown number while KSeF's list has the token.
func testUnknownTokenNeverByRefusal(t *testing.T) {
	for name, status := range map[string]int{"403": http.StatusForbidden, "401": http.StatusUnauthorized, "listed": http.StatusBadRequest} {
		t.Run(name, func(t *testing.T) {
			WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
				issued := m.Issue()
				m.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultStatus, Status: status, Times: -1})
				m.Fault(simulator.Fault{Endpoint: StatusEndpoint, Kind: simulator.FaultStatus, Status: status, Times: -1})
				require.Error(t, m.Revoke(m.Lease(issued)))
				m.Elapse(50 * time.Hour)
				require.Error(t, m.Revoke(m.Lease(issued)))
				require.NotContains(t, m.StatusWarnings(), "unknown_to_ksef")
				m.KSeF.ClearFaults()
				m.Elapse(2 * time.Hour)
				m.RequireLoginRefused(issued.Data["token"])
			})
		})
	}
}

// testUnknownTokenOtherSigner ends no lease for a signer who may not see tokens of others.
func testUnknownTokenOtherSigner(t *testing.T) {
	inForgetfulKSeF(t, func(t *testing.T, m *Mount, issued *logical.Response) {
		secret := m.Lease(issued)
		certificate, key := m.NewCertificate(simulator.CertificateOptions{PESEL: PESEL})
		m.Must(m.Write("config", map[string]any{"certificate": certificate, "private_key": key}))
		require.Error(t, m.Revoke(secret))
		m.Elapse(3 * 24 * time.Hour)
		require.ErrorContains(t, m.Revoke(secret), "unknown_to_ksef=true")
		m.Must(sayUnknown(m, issued))
		require.NoError(t, m.Revoke(secret))
	})
}

// testUnknownTokenWithoutRecord has only the lease, which does not say who made the token.
func testUnknownTokenWithoutRecord(t *testing.T) {
	inForgetfulKSeF(t, func(t *testing.T, m *Mount, issued *logical.Response) {
		for _, key := range m.Keys("ledger/") {
			require.NoError(t, m.Storage.Delete(m.Ctx, key))
		}
		secret := m.Lease(issued)
		err := m.Revoke(secret)
		require.ErrorContains(t, err, "its record does not name its maker")
		require.NotContains(t, err.Error(), "did not make it")
		require.ErrorContains(t, err, "KSeF has lost it: vault delete ksef/tokens/")
		m.Must(sayUnknown(m, issued))
		require.NoError(t, m.Revoke(secret))
	})
}

// testUnknownTokenCountedAnewAfterAnOutage does not count a day without answers from KSeF.
func testUnknownTokenCountedAnewAfterAnOutage(t *testing.T) {
	inForgetfulKSeF(t, func(t *testing.T, m *Mount, issued *logical.Response) {
		secret := m.Lease(issued)
		require.Error(t, m.Revoke(secret))
		m.Stop()
		m.Elapse(25 * time.Hour)
		m.Start()
		m.Elapse(20 * time.Hour)
		require.Error(t, m.Revoke(secret))
		m.Elapse(5 * time.Hour)
		require.NoError(t, m.Revoke(secret))
	})
}

// testUnknownTokenComesBack has a KSeF that does not know a token for some hours.
func testUnknownTokenComesBack(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		issued := m.Issue()
		for _, endpoint := range []string{RevokeEndpoint, StatusEndpoint, "GET /tokens"} {
			fault := simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Times: -1}
			if endpoint == "GET /tokens" {
				fault = simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultDropRequest, Times: -1}
			}
			m.Fault(fault)
		}
		require.Error(t, m.Revoke(m.Lease(issued)))
		m.Elapse(26 * time.Hour)
		require.Error(t, m.Revoke(m.Lease(issued)), "the list has never been read")
		m.KSeF.ClearFaults()
		m.Elapse(7 * time.Hour)
		m.RequireLoginRefused(issued.Data["token"])
	})
}
