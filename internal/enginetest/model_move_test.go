// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/logical"
)

// move moves the mount as Vault does: it taints it, rolls it back, ends its leases, and removes the
// taint. Requests in flight go on. When something fails an operator tries again after a minute.
// before is called when no leases are left.
func (v *Vault) move(before func()) {
	tainted := &v.engine.views[v.mount].tainted
	if !tainted.CompareAndSwap(false, true) {
		return
	}
	for !v.endAll() {
		select {
		case <-time.After(time.Minute):
		case <-v.sealed.Done():
			return
		}
	}
	before()
	tainted.Store(false)
}

// endAll reports whether the mount has rolled back and has no leases left.
func (v *Vault) endAll() bool {
	_, err := v.engine.call(v.sealed, v.mount, func(m *Mount) (*logical.Response, error) {
		return m.Request(logical.RollbackOperation, "", nil)
	})
	if err != nil {
		return false
	}
	leases := v.all()
	v.End(leases...)
	return len(leases) == 0
}

// move records each token of the mount that is active when the leases are gone and whose record
// does not say that it is revoked. After storage failures only the end of the lease revokes it.
func (r *run) move(v *Vault) {
	v.move(func() {
		open := make(map[string]*ledger.Record)
		r.outlived.record(addOpenRecords(open, r.Storages[v.mount].Storage))
		for _, record := range open {
			if record.State == ledger.Live && !r.Network.mayLoseBlocks() && r.isAlive(record.ReferenceNumber) {
				r.outlived.record(fmt.Errorf("the token %s outlives the move of its mount", record.ReferenceNumber))
			}
		}
	})
}
