// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestOutage(t *testing.T) {
	t.Run("lost_reply_is_found_and_revoked", testOutageLostReplyIsFoundAndRevoked)
	t.Run("token_in_flight_is_not_lost", testOutageTokenInFlightIsNotLost)
	t.Run("html_page_is_no_refusal", testOutageHTMLPageIsNoRefusal)
	t.Run("ended_leases_are_revoked_soon_after", testOutageEndedLeasesAreRevokedSoonAfter)
	t.Run("lost_short_lease_beside_renewed_ones", testOutageLostShortLeaseBesideRenewedOnes)
}

func testOutageLostReplyIsFoundAndRevoked(t *testing.T) {
	faults := map[string]simulator.Fault{
		"no reply":      {Kind: simulator.FaultDropResponse},
		"half a reply":  {Kind: simulator.FaultTruncate},
		"another reply": {Kind: simulator.FaultGarbage},
		"too late":      {Kind: simulator.FaultDelay, Delay: 20 * time.Second},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
				fault.Endpoint = IssueEndpoint
				c.Fault(fault)
				_, err := c.Vault().Issue(leaving(context.Background(), 10*time.Second), "invoices", 240*time.Hour)
				var lost *ledger.LostReplyError
				require.ErrorAs(t, err, &lost)
				require.ErrorContains(t, err, "will be found and revoked")
				c.Elapse(2 * time.Minute)
				require.NoError(t, c.broken())
				if made := c.KSeF.State().Tokens; len(made) > 0 {
					require.Equal(t, lost.Nonce, nonceOf(made[0]))
				}
				require.Empty(t, c.AliveTokens())
				require.NoError(t, c.settle())
				require.Equal(t, 1, c.Requests(IssueEndpoint))
			})
		})
	}
}

func testOutageTokenInFlightIsNotLost(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
		// The reconciler checks all pending records each hour from the start.
		c.Elapse(time.Hour - 10*time.Second - time.Duration(time.Now().UnixNano())%time.Hour)
		c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDelay, Delay: 20 * time.Second})
		c.MustIssue(10 * time.Hour)
		c.Elapse(5 * time.Hour)
		require.NoError(t, c.broken())
		require.Len(t, c.AliveTokens(), 1)
		require.Zero(t, c.Requests("GET /tokens"))
	})
}

func testOutageHTMLPageIsNoRefusal(t *testing.T) {
	options := simulator.Options{ActivationDelay: 20 * time.Second, DeletePendingToken: simulator.AnswerBadRequest}
	InCluster(t, options, func(t *testing.T, c *Cluster) {
		c.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultGarbage})
		_, err := c.Vault().Issue(leaving(context.Background(), time.Second), "invoices", 240*time.Hour)
		require.Error(t, err)
		c.Elapse(time.Second)
		require.Equal(t, map[string]int{"200": 1}, c.KSeF.State().Requests[RevokeEndpoint])
		require.Len(t, c.AliveTokens(), 1)
		require.NoError(t, c.broken())
		c.Elapse(10 * time.Minute)
		require.Empty(t, c.AliveTokens())
	})
}

// testOutageEndedLeasesAreRevokedSoonAfter ends fifty leases while KSeF is out of reach for three
// hours. Vault gives each of them up.
func testOutageEndedLeasesAreRevokedSoonAfter(t *testing.T) {
	for _, kind := range []Outage{Refusing, Silent} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", kind, restart), func(t *testing.T) {
				t.Parallel()
				InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
					for range 5 {
						for range 10 {
							c.MustIssue(30 * time.Minute)
						}
						c.Elapse(time.Minute)
					}
					c.Network.Set(kind)
					c.Elapse(2 * time.Hour)
					require.Len(t, c.Vault().all(), 50)
					if restart {
						c.restart()
					}
					c.Elapse(time.Hour)
					require.Len(t, c.AliveTokens(), 50)

					c.Network.Set(Reachable)
					c.Elapse(8 * time.Minute)
					require.Empty(t, c.AliveTokens())
					require.Equal(t, 50, c.Requests(RevokeEndpoint))
					require.Len(t, c.Vault().all(), 50, "Vault has given them up and does not know yet")

					c.Vault().End(c.Vault().all()...)
					c.Elapse(time.Second)
					require.Empty(t, c.Vault().all())
					require.Equal(t, 50, c.Requests(RevokeEndpoint), "an ended lease costs no second request")
					require.NoError(t, c.settle())
				})
			})
		}
	}
}

// testOutageLostShortLeaseBesideRenewedOnes issues a token whose record lies among those whose next
// check is far away.
func testOutageLostShortLeaseBesideRenewedOnes(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
		renewed := c.MustIssue(30 * time.Minute)
		require.NoError(t, c.Vault().Renew(renewed, 100*time.Hour))
		c.Elapse(52*time.Minute - time.Duration(time.Now().UnixNano())%time.Hour)
		c.restart()
		c.Elapse(time.Minute)
		lost := c.MustIssue(2 * time.Minute)
		c.Vault().Lose(lost)
		c.restart()
		c.Elapse(2 * time.Hour)
		require.Equal(t, "Revoked", c.StatusInKSeF(lost.number))
		require.Equal(t, "Active", c.StatusInKSeF(renewed.number))
	})
}
