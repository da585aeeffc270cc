// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/logical"
)

// move is Vault moving the mount: it marks it, has it roll back, ends its leases, and takes the
// mark away. What is in flight goes on meanwhile. Where something fails an operator tries again
// after a minute. before is called when there are no leases any more.
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

// endAll says whether the mount has rolled back and has no leases left.
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

// move looks for a token of the mount that is alive when its leases are gone, and of which storage
// does not say that it must die. Where storage has been in trouble only its own end ends it.
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
