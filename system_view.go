// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// replicationLasts is how long the state of replication is answered from memory. A mount is loaded
// anew where a node becomes active or ceases to be.
const replicationLasts = time.Second

// systemView keeps in memory what the SDK asks of Vault before each request: a question crosses to
// Vault's process and back, which costs as much as all else that a read of creds does.
type systemView struct {
	logical.SystemView
	localMount func() bool

	mu      sync.Mutex
	state   consts.ReplicationState
	askedAt time.Time
}

func newSystemView(of logical.SystemView) *systemView {
	return &systemView{SystemView: of, localMount: sync.OnceValue(func() bool { return of.LocalMount() })}
}

// LocalMount implements logical.SystemView. It never changes.
func (v *systemView) LocalMount() bool { return v.localMount() }

// ReplicationState implements logical.SystemView.
func (v *systemView) ReplicationState() consts.ReplicationState {
	v.mu.Lock()
	state, askedAt := v.state, v.askedAt
	v.mu.Unlock()
	now := time.Now()
	if !askedAt.IsZero() && now.Sub(askedAt) < replicationLasts {
		return state
	}
	state = v.SystemView.ReplicationState()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state, v.askedAt = state, now
	return state
}
