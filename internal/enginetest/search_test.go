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

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const listEndpoint = "GET /tokens"

// lose loses the replies of so many requests for tokens and returns their nonces. After every
// second one it issues a token, since the engine stops asking when three replies in a row are lost.
func (c *Cluster) lose(count int, kind simulator.FaultKind) (nonces []string) {
	for i := range count {
		c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: kind})
		_, err := c.Vault().Issue(context.Background(), "invoices", 240*time.Hour)
		var lost *ledger.LostReplyError
		require.ErrorAs(c.T, err, &lost)
		nonces = append(nonces, lost.Nonce)
		if i%2 == 1 {
			c.MustIssue(240 * time.Hour)
		}
	}
	return nonces
}

func TestSearch(t *testing.T) {
	t.Run("shared", testSearchShared)
	t.Run("behind_others", testSearchBehindOthers)
	t.Run("reads_no_further_than_needed", testSearchReadsNoFurtherThanNeeded)
}

// testSearchShared finds the tokens of 28 lost replies with one list.
func testSearchShared(t *testing.T) {
	for name, kind := range map[string]simulator.FaultKind{"made": simulator.FaultDropResponse, "never made": simulator.FaultDropRequest} {
		t.Run(name, func(t *testing.T) {
			InCluster(t, simulator.Options{ActivationDelay: -1, Limits: NoLimits()}, func(t *testing.T, c *Cluster) {
				c.OnMount(0, func(m *Mount) { m.Must(m.Write("config", map[string]any{"activation_timeout": 0})) })
				c.lose(28, kind)
				c.Elapse(30 * time.Second)
				require.LessOrEqual(t, c.Requests(listEndpoint), 1)
				require.Len(t, c.AliveTokens(), 14)
				require.NoError(t, c.settle())
				require.LessOrEqual(t, c.Requests(listEndpoint), 4)
			})
		})
	}
}

// testSearchBehindOthers hides a token behind newer ones: some that carry its nonce in their text,
// and more than a page holds.
func testSearchBehindOthers(t *testing.T) {
	InCluster(t, simulator.Options{Limits: NoLimits()}, func(t *testing.T, c *Cluster) {
		c.Fault(simulator.Fault{Endpoint: listEndpoint, Kind: simulator.FaultStatus, Status: 503})
		nonce := c.lose(1, simulator.FaultDropResponse)[0]
		lost := c.AliveTokens()[0].ReferenceNumber
		AtOnce(110, func(i int) {
			_, err := c.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) {
				text := fmt.Sprintf("Number %d after %s", i, nonce)
				return m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": text, "ttl": "1h"})
			})
			require.NoError(t, err)
		})
		require.Len(t, c.AliveTokens(), 111)
		c.Elapse(time.Minute)
		require.Equal(t, "Revoked", c.StatusInKSeF(lost))
		require.Len(t, c.AliveTokens(), 110)
	})
}

// testSearchReadsNoFurtherThanNeeded searches among many older tokens: each search reads one page,
// and only the last one reads a day back.
func testSearchReadsNoFurtherThanNeeded(t *testing.T) {
	InCluster(t, simulator.Options{ActivationDelay: -1, Limits: NoLimits()}, func(t *testing.T, c *Cluster) {
		const older = 300
		AtOnce(older, func(int) { c.MustIssue(240 * time.Hour) })
		c.Elapse(30 * time.Hour)
		before := c.Requests(listEndpoint)
		c.lose(1, simulator.FaultDropRequest)
		require.NoError(t, c.settle())
		require.LessOrEqual(t, c.Requests(listEndpoint)-before, 4)
		require.Len(t, c.AliveTokens(), older)
	})
}
