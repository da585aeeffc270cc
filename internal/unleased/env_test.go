// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

var (
	testTaxpayer = client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}
	testTarget   = ledger.Target{API: client.TestURL, Context: testTaxpayer}
	static       = Key{Kind: ledger.HolderStatic, Role: "erp"}
	access       = Key{Kind: ledger.HolderAccess, Role: "invoices", Taxpayer: testTaxpayer}
)

const (
	day   = 24 * time.Hour
	month = 30 * day
)

// env is the holders of a mount with their ledger, and the loop that advances them.
type env struct {
	*Holders
	t      *testing.T
	disk   *fakeDisk
	ledger *fakeLedger
	// tokens is what the holders use: the fake ledger, or the ledger itself.
	tokens Ledger
	// requestOf is the Specs' Request.
	requestOf func(Key) (ledger.IssueRequest, error)
	loop      *background.Loop

	mu     sync.Mutex
	specs  map[Key]*Spec
	events []Event
	faults int
}

// bubble runs a test in a synctest bubble.
func bubble(t *testing.T, test func(t *testing.T, e *env)) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer func() { e.loop.Stop() }()
		test(t, e)
	})
}

func run(t *testing.T, tests map[string]func(t *testing.T, e *env)) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { bubble(t, test) })
	}
}

func newEnv(t *testing.T) *env {
	e := &env{t: t, specs: make(map[Key]*Spec)}
	e.disk = &fakeDisk{Storage: &logical.InmemStorage{}}
	e.ledger = &fakeLedger{disk: e.disk, made: client.StatusActive, calls: make(map[string]int)}
	e.tokens = e.ledger
	e.requestOf = func(Key) (ledger.IssueRequest, error) {
		return ledger.IssueRequest{Target: testTarget, Permissions: []string{"InvoiceRead"}}, nil
	}
	e.specs[static] = &Spec{Fingerprint: "read", Period: month, Grace: time.Hour, Automatic: true}
	e.specs[access] = &Spec{Fingerprint: "read", Period: month, Spread: true, Automatic: true}
	for key, spec := range e.specs {
		spec.Request = func() (ledger.IssueRequest, error) { return e.requestOf(key) }
	}
	e.start()
	return e
}

func (e *env) start() {
	e.Holders = New(Options{
		Storage: e.disk, Ledger: e.tokens, Logger: hclog.NewNullLogger(),
		Spec:         func(_ context.Context, key Key) (*Spec, error) { return e.spec(key), nil },
		OnEvent:      e.onEvent,
		OnUnreadable: func(*logical.StorageEntry, error) {},
		Wake:         func() { e.loop.Wake() },
	})
	holders := e.Holders
	e.loop = background.NewLoop(background.LoopOptions{
		Name: "maintenance", Logger: hclog.NewNullLogger(), Interval: 12 * time.Hour,
		RunOnce: func(ctx context.Context) time.Time {
			next, err := holders.Advance(ctx)
			if err != nil {
				e.mu.Lock()
				defer e.mu.Unlock()
				e.faults++
			}
			return next
		},
	})
	e.loop.Start()
	synctest.Wait()
}

// restart has another process take over: with what is stored, and nothing else.
func (e *env) restart() {
	e.loop.Stop()
	e.disk = &fakeDisk{Storage: e.disk.Storage}
	e.ledger.set(func() { e.ledger.disk = e.disk })
	e.start()
}

func (e *env) spec(key Key) *Spec {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.specs[key] == nil {
		return nil
	}
	return new(*e.specs[key])
}

// write changes a role; nil deletes it.
func (e *env) write(key Key, change func(*Spec)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if change == nil {
		delete(e.specs, key)
		return
	}
	change(e.specs[key])
}

func (e *env) onEvent(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, event)
}

func (e *env) kinds() (kinds []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.events {
		kinds = append(kinds, event.Kind)
	}
	return kinds
}

func (e *env) elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// number returns that of the token in force.
func (e *env) number(key Key) string {
	e.t.Helper()
	token, err := e.Token(e.t.Context(), key)
	require.NoError(e.t, err)
	require.Equal(e.t, client.Secret("secret of "+token.ReferenceNumber), token.Token)
	synctest.Wait()
	return token.ReferenceNumber
}

func (e *env) mustApply(key Key) *Token {
	e.t.Helper()
	token, err := e.Apply(e.t.Context(), key)
	require.NoError(e.t, err)
	synctest.Wait()
	return token
}

func (e *env) mustRotate(key Key, options RotateOptions) *Token {
	e.t.Helper()
	token, err := e.Rotate(e.t.Context(), key, options)
	require.NoError(e.t, err)
	synctest.Wait()
	return token
}

func (e *env) requireAlive(numbers ...string) {
	e.t.Helper()
	require.Equal(e.t, numbers, e.ledger.alive())
}

// stored returns the state as it is stored; nil for none.
func (e *env) stored(key Key) *state {
	e.t.Helper()
	found, err := e.loadState(context.Background(), key)
	require.NoError(e.t, err)
	return found
}

// named returns the tokens that the states name, in order.
func (e *env) named() (named []string) {
	e.t.Helper()
	keys, err := e.storedKeys(context.Background(), StoragePrefix)
	require.NoError(e.t, err)
	for _, key := range keys {
		named = append(named, e.stored(key).names()...)
	}
	slices.Sort(named)
	return named
}

// requireSettled checks that exactly the tokens are alive that the states name.
func (e *env) requireSettled() {
	e.t.Helper()
	alive := e.ledger.alive()
	slices.Sort(alive)
	require.Equal(e.t, e.named(), alive)
}
