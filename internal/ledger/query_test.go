// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// hookedStorage calls afterList once, after the first listing.
type hookedStorage struct {
	logical.Storage
	afterList func()
}

func (s *hookedStorage) List(ctx context.Context, prefix string) ([]string, error) {
	names, err := s.Storage.List(ctx, prefix)
	if hook := s.afterList; hook != nil {
		s.afterList = nil
		hook()
	}
	return names, err
}

func TestCountOpen(t *testing.T) {
	t.Run("misses no token that becomes live during the listing", func(t *testing.T) {
		storage := &hookedStorage{Storage: &logical.InmemStorage{}}
		l := New(testOptions(storage, &fakeKSeF{}))
		record := &Record{Version: recordVersion, State: Issuing, Nonce: newNonce(time.Now()), Target: testTarget, Created: time.Now(), Deadline: time.Now()}
		require.NoError(t, l.store.put(t.Context(), record))
		storage.afterList = func() {
			live := *record
			live.State, live.ReferenceNumber = Live, "1"
			require.NoError(t, l.store.put(t.Context(), &live))
			require.NoError(t, l.store.remove(t.Context(), record.key()))
		}
		open, err := l.CountOpen(t.Context())
		require.NoError(t, err)
		require.True(t, open.Any())
	})
}
