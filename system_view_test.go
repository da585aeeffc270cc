// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// askedView counts what Vault is asked.
type askedView struct {
	logical.StaticSystemView
	asked int
}

func (v *askedView) ReplicationState() consts.ReplicationState {
	v.asked++
	return v.StaticSystemView.ReplicationState()
}

func (v *askedView) LocalMount() bool {
	v.asked++
	return v.StaticSystemView.LocalMount()
}

func TestSystemView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vault := &askedView{StaticSystemView: logical.StaticSystemView{LocalMountVal: true}}
		view := newSystemView(vault)
		for range 1000 {
			require.True(t, view.LocalMount())
			require.Zero(t, view.ReplicationState())
		}
		require.Equal(t, 2, vault.asked)
		vault.ReplicationStateVal = consts.ReplicationPerformanceStandby
		time.Sleep(replicationLasts)
		require.True(t, view.ReplicationState().HasState(consts.ReplicationPerformanceStandby))
		require.Equal(t, 3, vault.asked)
	})
}
