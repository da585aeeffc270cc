// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestATokenWhoseReplyWasLostIsFoundByItsMarkAndRevoked(t *testing.T) {
	faults := map[string]simulator.Fault{
		"no reply":      {Kind: simulator.FaultDropReply},
		"half a reply":  {Kind: simulator.FaultTruncate},
		"another reply": {Kind: simulator.FaultGarbage},
		"too late":      {Kind: simulator.FaultDelay, Delay: 20 * time.Second},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
				fault.Endpoint = issueEndpoint
				s.fault(fault)
				_, err := s.vault().issue(leaving(context.Background(), 10*time.Second), "invoices", 240*time.Hour)
				var lost *ledger.LostReplyError
				require.ErrorAs(t, err, &lost)
				require.ErrorContains(t, err, "will be found and revoked")
				s.elapse(2 * time.Minute)
				require.NoError(t, s.broken())
				if made := s.ksef.State().Tokens; len(made) > 0 {
					require.Equal(t, lost.Nonce, nonceOf(made[0]))
				}
				require.Empty(t, s.aliveTokens())
				require.NoError(t, s.settle())
				require.Equal(t, 1, s.requests(issueEndpoint))
			})
		})
	}
}

func TestATokenThatIsBeingMadeIsNotTakenForALostOne(t *testing.T) {
	inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
		// The reconciler looks at all that is pending each hour from the start.
		s.elapse(time.Hour - 10*time.Second - time.Duration(time.Now().UnixNano())%time.Hour)
		s.fault(simulator.Fault{Endpoint: issueEndpoint, Kind: simulator.FaultDelay, Delay: 20 * time.Second})
		s.mustIssue(10 * time.Hour)
		s.elapse(5 * time.Hour)
		require.NoError(t, s.broken())
		require.Len(t, s.aliveTokens(), 1)
		require.Zero(t, s.requests("GET /tokens"))
	})
}

func TestAPageInPlaceOfARefusalEndsNoToken(t *testing.T) {
	options := simulator.Options{ActivationDelay: 20 * time.Second, DeletePendingToken: simulator.AnswerBadRequest}
	inCluster(t, options, func(t *testing.T, s *cluster) {
		s.fault(simulator.Fault{Endpoint: revokeEndpoint, Kind: simulator.FaultGarbage})
		_, err := s.vault().issue(leaving(context.Background(), time.Second), "invoices", 240*time.Hour)
		require.Error(t, err)
		s.elapse(time.Second)
		require.Equal(t, map[string]int{"200": 1}, s.ksef.State().Requests[revokeEndpoint])
		require.Len(t, s.aliveTokens(), 1)
		require.NoError(t, s.broken())
		s.elapse(10 * time.Minute)
		require.Empty(t, s.aliveTokens())
	})
}

// TestLeasesThatEndInAnOutageDieWithinMinutesOfItsEnd has fifty leases end while KSeF is away for
// three hours, and Vault gives each of them up.
func TestLeasesThatEndInAnOutageDieWithinMinutesOfItsEnd(t *testing.T) {
	for _, kind := range []outage{refusing, silent} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", kind, restart), func(t *testing.T) {
				t.Parallel()
				inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
					for range 5 {
						for range 10 {
							s.mustIssue(30 * time.Minute)
						}
						s.elapse(time.Minute)
					}
					s.network.set(kind)
					s.elapse(2 * time.Hour)
					require.Len(t, s.vault().all(), 50)
					if restart {
						s.restart()
					}
					s.elapse(time.Hour)
					require.Len(t, s.aliveTokens(), 50)

					s.network.set(reachable)
					s.elapse(8 * time.Minute)
					require.Empty(t, s.aliveTokens())
					require.Equal(t, 50, s.requests(revokeEndpoint))
					require.Len(t, s.vault().all(), 50, "Vault has given them up and does not know yet")

					s.vault().end(s.vault().all()...)
					s.elapse(time.Second)
					require.Empty(t, s.vault().all())
					require.Equal(t, 50, s.requests(revokeEndpoint), "an ended lease costs no second request")
					require.NoError(t, s.settle())
				})
			})
		}
	}
}

// TestAShortLeaseThatVaultLostEndsInTimeBesideRenewedOnes is about a token whose record comes to
// lie among those that are not to be looked at for long.
func TestAShortLeaseThatVaultLostEndsInTimeBesideRenewedOnes(t *testing.T) {
	inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
		renewed := s.mustIssue(30 * time.Minute)
		require.NoError(t, s.vault().renew(renewed, 100*time.Hour))
		s.elapse(52*time.Minute - time.Duration(time.Now().UnixNano())%time.Hour)
		s.restart()
		s.elapse(time.Minute)
		lost := s.mustIssue(2 * time.Minute)
		s.vault().lose(lost)
		s.restart()
		s.elapse(2 * time.Hour)
		require.Equal(t, "Revoked", s.statusInKSeF(lost.number))
		require.Equal(t, "Active", s.statusInKSeF(renewed.number))
	})
}
