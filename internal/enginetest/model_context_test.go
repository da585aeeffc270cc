// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/logical"
)

// broken records promises that are broken between two checks.
type broken struct {
	mu  sync.Mutex
	err error
}

func (b *broken) get() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *broken) record(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = errors.Join(b.err, err)
}

// strayed records tokens outside of config's context, and changes of config that leave tokens
// behind.
type strayed struct {
	broken
	changed bool           // whether config's context has ever been changed
	forcing map[*Vault]int // changes by force in progress
}

func (c *strayed) force(v *Vault, more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = true
	if c.forcing == nil {
		c.forcing = make(map[*Vault]int)
	}
	c.forcing[v] += more
}

func (c *strayed) isForced(v *Vault) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forcing[v] > 0
}

// changeContext writes another taxpayer to config.
func (r *run) changeContext(ctx context.Context, v *Vault, nip string, force bool) {
	if r.tight || !r.Engine.allLoaded() {
		return
	}
	more, consents := 0, []string{}
	if force {
		more, consents = 1, []string{"tokens"}
	}
	r.strayed.force(v, more)
	defer r.strayed.force(v, -more)
	_, _ = v.Request(ctx, func(m *Mount) (*logical.Response, error) {
		return m.Write("config", map[string]any{"nip": nip, "force": consents})
	})
}

// contexts are those besides config's own in which sessions may remain.
func (r *run) contexts() []map[string]any {
	all := []map[string]any{{"internal_id": UnitID}}
	if r.strayed.changed {
		all = append(all, map[string]any{"nip": NIP}, map[string]any{"nip": SecondNIP})
	}
	return all
}

// watchContexts records each token of another context than that of config, and each change of
// config that leaves tokens behind without force.
func (r *run) watchContexts() {
	for number, flaky := range r.Storages {
		flaky.beforePut = func(entry *logical.StorageEntry) {
			r.strayed.record(r.strays(r.Vaults[number], flaky.Storage, entry))
		}
	}
}

func (r *run) strays(v *Vault, storage logical.Storage, entry *logical.StorageEntry) error {
	current, err := readStoredConfig(context.Background(), storage)
	if err != nil || current == nil {
		return err
	}
	switch {
	case entry.Key == "config":
		return r.strands(v, storage, current, entry)
	case strings.HasPrefix(entry.Key, ledger.StoragePrefix+"issuing/"):
		return isElsewhere(storage, current, entry)
	}
	return nil
}

func (r *run) strands(v *Vault, storage logical.Storage, current *StoredConfig, entry *logical.StorageEntry) error {
	var next StoredConfig
	if err := entry.DecodeJSON(&next); err != nil {
		return err
	}
	if next.Context == current.Context || r.strayed.isForced(v) {
		return nil
	}
	open := make(map[string]*ledger.Record)
	if err := addOpenRecords(open, storage); err != nil {
		return err
	}
	maps.DeleteFunc(open, func(_ string, record *ledger.Record) bool { return record.State == ledger.Released })
	if len(open) > 0 {
		return fmt.Errorf("config moves from %s to %s unforced, and strands %d tokens", current.Context, next.Context, len(open))
	}
	return nil
}

// isElsewhere checks the first record of a token under the role without a context.
func isElsewhere(storage logical.Storage, current *StoredConfig, entry *logical.StorageEntry) error {
	before, err := storage.Get(context.Background(), entry.Key)
	if err != nil || before != nil {
		return err
	}
	var record ledger.Record
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		return err
	}
	if taxpayer := record.Target.Context; record.Role == "invoices" && taxpayer.Type == client.ContextNIP && taxpayer != current.Context {
		return fmt.Errorf("a token is asked for in %s while config names %s", taxpayer, current.Context)
	}
	return nil
}
