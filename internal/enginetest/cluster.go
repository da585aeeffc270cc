// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// UnitID is a second context of the same company: an internal unit.
const UnitID = "5265877635-12346"

// Cluster is KSeF, the network, the plugin with its mounts, and Vault with their leases.
type Cluster struct {
	*Env
	Network  *Network
	Engine   *Engine
	Storages []*FlakyStorage
	Vaults   []*Vault
	// externalSigner signs logins outside of Vault, and signed is its last document; nil and ""
	// where the engine signs.
	externalSigner *Signer
	signed         string
	foreign        foreignTokens
	// handmade is the last token that was made by hand.
	handmade string
}

// foreignTokens are the tokens that were made by hand, and what others than the engine have sent.
type foreignTokens struct {
	mu sync.Mutex
	// sent counts requests to KSeF by endpoint. The engine learns of them by a refusal for the
	// limits.
	sent map[string]int
	// offered are the numbers of those that a mount was asked to import.
	offered []string
}

// NewCluster sets up mounts that are configured and have the roles "invoices", in the default
// context, and "unit", in another.
func NewCluster(t TB, options simulator.Options, mounts int) *Cluster {
	env := NewEnv(t, options)
	c := &Cluster{Env: env, Network: env.ThroughNetwork()}
	storages := make([]logical.Storage, 0, mounts)
	for range mounts {
		c.Storages = append(c.Storages, &FlakyStorage{Storage: &logical.InmemStorage{}})
		storages = append(storages, c.Storages[len(c.Storages)-1])
	}
	c.Engine = env.engine(storages...)
	c.Engine.onEnd = c.Network.forget
	for number := range mounts {
		c.Vaults = append(c.Vaults, c.Engine.vault(number))
		c.OnMount(number, func(m *Mount) {
			m.Configure()
			role := map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "max_ttl": "480h"}
			m.Must(m.Write("roles/invoices", role))
			role["internal_id"] = UnitID
			m.Must(m.Write("roles/unit", role))
		})
	}
	return c
}

// OnMount calls do with a mount of the process that runs.
func (c *Cluster) OnMount(number int, do func(m *Mount)) {
	_, mounts := c.Engine.current()
	do(mounts[number])
}

// Close stops Vault and the engine: a bubble ends only when all of its goroutines have.
func (c *Cluster) Close() {
	for _, v := range c.Vaults {
		v.close()
	}
	c.Engine.close()
}

// Vault is the Vault of the first mount.
func (c *Cluster) Vault() *Vault { return c.Vaults[0] }

func (c *Cluster) leases() []*TokenLease {
	var all []*TokenLease
	for _, v := range c.Vaults {
		all = append(all, v.all()...)
	}
	return all
}

// MustIssue issues a token under the role "invoices" of the first mount.
func (c *Cluster) MustIssue(ttl time.Duration) *TokenLease {
	lease, err := c.Vault().Issue(context.Background(), "invoices", ttl)
	require.NoError(c.T, err)
	return lease
}

// AliveTokens are the tokens in KSeF that are active or will be.
func (env *Env) AliveTokens() []simulator.TokenState {
	return slices.DeleteFunc(env.KSeF.State().Tokens, func(token simulator.TokenState) bool {
		return token.Status != "Pending" && token.Status != "Active"
	})
}

func (env *Env) isAlive(number string) bool {
	return slices.ContainsFunc(env.AliveTokens(), func(token simulator.TokenState) bool { return token.ReferenceNumber == number })
}

// InCluster runs a test in a bubble, with a cluster of one mount.
func InCluster(t *testing.T, options simulator.Options, test func(t *testing.T, c *Cluster)) {
	t.Helper()
	InClusterOf(t, 1, options, test)
}

// InClusterOf is InCluster with several mounts.
func InClusterOf(t *testing.T, mounts int, options simulator.Options, test func(t *testing.T, c *Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, options, mounts)
		defer c.Close()
		test(t, c)
		c.RequireNoSecretInLogs()
	})
}
