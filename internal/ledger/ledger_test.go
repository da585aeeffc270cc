// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// confirmingUpstream is a KSeF that revokes whatever it is asked to.
type confirmingUpstream struct{ Upstream }

func (confirmingUpstream) RevokeToken(context.Context, string) error { return nil }

// testOptions returns options over a KSeF that always has permits and replies.
func testOptions(storage logical.Storage, ksef Upstream) Options {
	return Options{
		Storage:      storage,
		Upstream:     func(context.Context, Target, ratelimit.Wait) (Upstream, error) { return ksef, nil },
		NextPermit:   func(Target, string, int) time.Time { return time.Now() },
		Probe:        func(context.Context, string) error { return nil },
		OnEvent:      func(Event) {},
		OnUnreadable: func(*logical.StorageEntry, error) {},
		Logger:       hclog.NewNullLogger(),
	}
}

func newTestLedger(storage logical.Storage) *Ledger {
	return New(testOptions(storage, confirmingUpstream{}))
}

// putLive stores a live record whose lease has ended.
func putLive(t *testing.T, l *Ledger, deadline time.Time) *Record {
	t.Helper()
	nonce := newNonce(deadline)
	record := &Record{
		Version: recordVersion, State: Live, Nonce: nonce, ReferenceNumber: "20251010-EC-1DCE3E3000-12ECB5B36E-45",
		Target:  testTarget,
		Created: deadline.Add(-time.Hour), Deadline: deadline,
	}
	require.NoError(t, l.store.put(t.Context(), record))
	return record
}

func (l *Ledger) overdueTokens() int {
	l.reconciler.mu.Lock()
	defer l.reconciler.mu.Unlock()
	return len(l.reconciler.overdue)
}

// TestOverdue_forgotten has a lease revoke a token that was already seen to be overdue.
func TestOverdue_forgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLedger(&logical.InmemStorage{})
		defer l.Stop()
		record := putLive(t, l, time.Now().Add(-overdueNotice-time.Minute))
		l.Start()
		synctest.Wait()
		require.Equal(t, 1, l.overdueTokens())
		require.NoError(t, l.RevokeLease(t.Context(), record.Lease()))
		require.Zero(t, l.overdueTokens())
	})
}

// TestPanic_inEvent has the receiver of events panic: the token is revoked all the same, and the
// process of all mounts goes on.
func TestPanic_inEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		options := testOptions(&logical.InmemStorage{}, confirmingUpstream{})
		options.OnEvent = func(Event) { panic("a secret") }
		l := New(options)
		defer l.Stop()
		record := putLive(t, l, time.Now())
		l.Start()
		require.NoError(t, l.RevokeToken(t.Context(), record))
		dead, err := l.Find(t.Context(), record.ReferenceNumber)
		require.NoError(t, err)
		require.Equal(t, Dead, dead.State)
	})
}

// TestPanic_inGoroutine has the ledger's own work panic twice: it is done all the same.
func TestPanic_inGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLedger(&logical.InmemStorage{})
		defer l.Stop()
		var runs atomic.Int32
		l.keepRunning(func() {
			if runs.Add(1) < 3 {
				panic("again")
			}
		})
		time.Sleep(time.Minute)
		require.EqualValues(t, 3, runs.Load())
	})
}

// blockedStorage keeps the first reader until its context ends.
type blockedStorage struct {
	logical.Storage
	asked atomic.Int32
}

func (s *blockedStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if s.asked.Add(1) == 1 {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return s.Storage.Get(ctx, key)
}

// TestMountID_firstCallerGone keeps the end of one caller from the others.
func TestMountID_firstCallerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLedger(&blockedStorage{Storage: &logical.InmemStorage{}})
		gone := errors.New("the caller has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := l.id(ctx)
			first <- err
		}()
		synctest.Wait()
		second := make(chan error, 1)
		go func() {
			_, err := l.id(t.Context())
			second <- err
		}()
		synctest.Wait()
		cancel(gone)
		require.ErrorIs(t, <-first, gone)
		require.NoError(t, <-second)
	})
}
