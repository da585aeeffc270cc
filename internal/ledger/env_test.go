// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

var testTarget = Target{API: client.TestURL, Context: client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}}

const testSecret client.Secret = "20251010-EC-1DCE3E3000-12ECB5B36E-45|secret"

// env is a ledger with its KSeF and its disk.
type env struct {
	*Ledger
	t    *testing.T
	ksef *fakeKSeF
	disk *fakeDisk
	// changed says that records were changed by hand.
	changed bool
	permit  time.Time
	mu      sync.Mutex
	kinds   []string
	// itself is the login with a token itself; nil where there is none.
	itself *itself
}

// events returns the kinds of the events so far.
func (e *env) events() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.kinds)
}

func (e *env) onEvent(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kinds = append(e.kinds, event.Kind)
}

// bubble runs a test with a started ledger in a synctest bubble.
func bubble(t *testing.T, name string, test func(t *testing.T, e *env)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := &env{t: t, ksef: &fakeKSeF{subject: "5265877635", made: client.StatusActive}, disk: &fakeDisk{Storage: &logical.InmemStorage{}}}
			e.start()
			defer func() { e.Stop() }()
			// The mount's id is there before, so that a test counts the writes of its own.
			_, err := e.id(t.Context())
			require.NoError(t, err)
			e.disk.writes = nil
			test(t, e)
			e.requireTrueCounts()
		})
	})
}

func (e *env) start() {
	e.ksef.disk = e.disk
	options := testOptions(e.disk, e.ksef)
	options.NextPermit = func(Target, string, int) time.Time { return e.permit }
	options.OnEvent = e.onEvent
	options.SelfUpstream = e.openItself
	e.Ledger = New(options)
	// From here on the counts follow the writes.
	_, err := e.store.counts.Live(context.Background())
	require.NoError(e.t, err)
	e.Start()
	synctest.Wait()
}

// diskByHand returns the disk for a change that the ledger does not learn of.
func (e *env) diskByHand() *fakeDisk {
	e.changed = true
	return e.disk
}

// requireTrueCounts checks that what is counted is what storage has.
func (e *env) requireTrueCounts() {
	e.t.Helper()
	synctest.Wait()
	if e.changed || e.disk.failure() != nil {
		return
	}
	counted, err := e.store.counts.Live(context.Background())
	require.NoError(e.t, err)
	stored, err := newStore(e.disk.Storage, func(*logical.StorageEntry, error) {}).counts.Live(context.Background())
	require.NoError(e.t, err)
	require.Equal(e.t, stored, counted)
}

// restart has another process take over: with what is stored, and nothing else.
func (e *env) restart() {
	e.Stop()
	e.disk = &fakeDisk{Storage: e.disk.Storage}
	e.start()
}

func (e *env) elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (e *env) request(ttl time.Duration) func() (IssueRequest, error) {
	return func() (IssueRequest, error) {
		return IssueRequest{
			Target: testTarget, Role: "invoices", Permissions: []string{"InvoiceRead"}, Description: "Report", TTL: ttl, ActivationTimeout: time.Minute,
		}, nil
	}
}

func (e *env) issue(ttl time.Duration) (*Issued, error) {
	return e.Issue(e.t.Context(), e.request(ttl))
}

// mustIssue returns the lease and the record of a new token.
func (e *env) mustIssue(ttl time.Duration) (Lease, *Record) {
	e.t.Helper()
	issued, err := e.issue(ttl)
	require.NoError(e.t, err)
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	e.disk.writes = nil
	return issued.Record.Lease(), &issued.Record
}

func (e *env) revoke(lease Lease) error { return e.RevokeLease(e.t.Context(), lease) }

// keys returns the stored keys under a prefix.
func (e *env) keys(prefix string) []string {
	e.t.Helper()
	keys, err := logical.CollectKeysWithPrefix(context.Background(), e.disk.Storage, prefix)
	require.NoError(e.t, err)
	return keys
}

// stored returns a record as it is stored, nil for none.
func (e *env) stored(lease Lease) *Record {
	e.t.Helper()
	record, err := e.store.locate(context.Background(), lease.Nonce, lease.ReferenceNumber)
	require.NoError(e.t, err)
	return record
}

// requirePending checks that a lease stays, and that the reconciler knows of it.
func (e *env) requirePending(err error, lease Lease) {
	e.t.Helper()
	var pending *PendingError
	require.ErrorAs(e.t, err, &pending)
	require.Equal(e.t, lease.ReferenceNumber, pending.ReferenceNumber)
	require.Equal(e.t, Revoking, e.stored(lease).State, "and it is recorded")
}
