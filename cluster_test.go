// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// unitContext is another context than the default one, of the same company.
const unitContext = "5265877635-12346"

// cluster is KSeF, the network, the plugin with its mounts, and Vault.
type cluster struct {
	*env
	network *network
	engine  *engine
	disks   []*flakyDisk
	vaults  []*vault
	// clerk signs outside of Vault, signed is what he has brought; nil and "" where nobody does.
	clerk  *signer
	signed string
}

// newCluster sets up mounts that are configured and have the roles "invoices", in the default
// context, and "unit", in another.
func newCluster(t tester, options simulator.Options, mounts int) *cluster {
	w := newEnv(t, options)
	s := &cluster{env: w, network: w.throughNetwork()}
	storages := make([]logical.Storage, 0, mounts)
	for range mounts {
		s.disks = append(s.disks, &flakyDisk{Storage: &logical.InmemStorage{}})
		storages = append(storages, s.disks[len(s.disks)-1])
	}
	s.engine = w.engine(storages...)
	s.engine.onEnd = s.network.forget
	for number := range mounts {
		s.vaults = append(s.vaults, s.engine.vault(number))
		s.onMount(number, func(m *mount) {
			m.configure()
			role := map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "max_ttl": "480h"}
			m.must(m.write("roles/invoices", role))
			role["internal_id"] = unitContext
			m.must(m.write("roles/unit", role))
		})
	}
	return s
}

func (s *cluster) onMount(number int, do func(m *mount)) {
	_, mounts := s.engine.current()
	do(mounts[number])
}

// close ends what still runs, as a bubble wants it.
func (s *cluster) close() {
	for _, v := range s.vaults {
		v.close()
	}
	s.engine.close()
}

// vault is that of the first mount.
func (s *cluster) vault() *vault { return s.vaults[0] }

func (s *cluster) leases() []*tokenLease {
	var all []*tokenLease
	for _, v := range s.vaults {
		all = append(all, v.all()...)
	}
	return all
}

// mustIssue is for a token that nothing keeps from being made.
func (s *cluster) mustIssue(ttl time.Duration) *tokenLease {
	lease, err := s.vault().issue(context.Background(), "invoices", ttl)
	require.NoError(s.t, err)
	return lease
}

// aliveTokens are the tokens that can log in to KSeF, now or as soon as they are active.
func (w *env) aliveTokens() []simulator.TokenState {
	return slices.DeleteFunc(w.ksef.State().Tokens, func(token simulator.TokenState) bool {
		return token.Status != "Pending" && token.Status != "Active"
	})
}

func (w *env) isAlive(number string) bool {
	return slices.ContainsFunc(w.aliveTokens(), func(token simulator.TokenState) bool { return token.ReferenceNumber == number })
}

// inCluster runs a test in a bubble, with one mount.
func inCluster(t *testing.T, options simulator.Options, test func(t *testing.T, s *cluster)) {
	t.Helper()
	inClusterOf(t, 1, options, test)
}

func inClusterOf(t *testing.T, mounts int, options simulator.Options, test func(t *testing.T, s *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newCluster(t, options, mounts)
		defer s.close()
		test(t, s)
		s.requireNoSecretInLogs()
	})
}
