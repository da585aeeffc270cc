// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// deleteConfig returns the refusal; nil for success.
func (c *Cluster) deleteConfig() error {
	_, err := c.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) { return m.Delete("config") })
	return err
}

// TestConfigDeletion covers requests for tokens whose replies were lost: they delay the deletion of
// config, as they do a change of url and nip, no longer than needed.
func TestConfigDeletion(t *testing.T) {
	tests := map[string]func(t *testing.T, c *Cluster){
		"settles what KSeF has not made within two minutes": func(t *testing.T, c *Cluster) {
			c.lose(1, simulator.FaultDropRequest)
			c.Elapse(2 * time.Minute)
			require.NoError(t, c.deleteConfig())
			c.Elapse(2 * time.Hour)
			require.NoError(t, c.leftovers())
		},
		"waits for what KSeF may still make": func(t *testing.T, c *Cluster) {
			lost := time.Now()
			c.lose(1, simulator.FaultDropRequest)
			c.Elapse(30 * time.Second)
			err := c.deleteConfig()
			require.ErrorContains(t, err, "config: cannot be deleted without leaving behind 1 request for a token with an unknown outcome")
			require.ErrorContains(t, err, "until "+lost.Add(time.Hour).UTC().Truncate(time.Minute).Format("2006-01-02T15:"))
			require.NotContains(t, err.Error(), "lease")
			require.NotContains(t, err.Error(), "0 live")
			c.Elapse(90 * time.Second)
			require.NoError(t, c.deleteConfig())
		},
		"has what KSeF has made revoked": func(t *testing.T, c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: listEndpoint, Kind: simulator.FaultStatus, Status: 503})
			c.lose(1, simulator.FaultDropResponse)
			c.Elapse(5 * time.Second)
			require.Len(t, c.AliveTokens(), 1)
			require.NoError(t, c.deleteConfig())
			require.Empty(t, c.AliveTokens())
		},
		"waits for a revocation that KSeF does not confirm": func(t *testing.T, c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: listEndpoint, Kind: simulator.FaultStatus, Status: 503})
			c.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultStatus, Status: 503, Times: 2})
			c.lose(1, simulator.FaultDropResponse)
			c.Elapse(5 * time.Second)
			err := c.deleteConfig()
			require.ErrorContains(t, err, "config: cannot be deleted without leaving behind 1 token being revoked")
			require.ErrorContains(t, err, "wait until status shows")
			require.NotContains(t, err.Error(), "lease")
			c.Elapse(10 * time.Minute)
			require.Empty(t, c.AliveTokens())
			require.NoError(t, c.deleteConfig())
		},
		"says that KSeF cannot be searched": func(t *testing.T, c *Cluster) {
			c.lose(1, simulator.FaultDropRequest)
			c.Network.Set(Refusing)
			c.Elapse(5 * time.Minute)
			err := c.deleteConfig()
			require.ErrorContains(t, err, "at this moment it could not")
			_, err = c.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) {
				return m.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"})
			})
			require.NoError(t, err)
		},
		"names the leases of what lives": func(t *testing.T, c *Cluster) {
			c.MustIssue(time.Hour)
			err := c.deleteConfig()
			require.ErrorContains(t, err, "config: cannot be deleted without leaving behind 1 live token, which")
			require.ErrorContains(t, err, "end their leases first")
			require.NotContains(t, err.Error(), "unknown outcome")
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) { test(t, c) })
		})
	}
}
