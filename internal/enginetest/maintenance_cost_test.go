// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestATokenForOneTaxpayerReadsNoSessionOfOthers has many taxpayers: what the first read for one
// more costs must not grow with them.
func TestATokenForOneTaxpayerReadsNoSessionOfOthers(t *testing.T) {
	const taxpayers = 30
	InEnv(t, simulator.Options{Limits: NoLimits()}, func(t *testing.T, env *Env) {
		storage := &readStorage{Storage: &logical.InmemStorage{}}
		o := newOffice(env, storage, taxpayers)
		defer o.Stop()
		o.readAll(taxpayers - 1)
		o.Elapse(time.Minute)
		own, access := storage.reads("sessions/"), storage.reads("access-sessions/")
		o.read(taxpayers - 1)
		o.Elapse(time.Minute)
		require.LessOrEqual(t, storage.reads("sessions/")-own, 3)
		require.LessOrEqual(t, storage.reads("access-sessions/")-access, 3)
	})
}
