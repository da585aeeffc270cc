// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/externallogin"
	"vault-plugin-secrets-ksef/internal/rotation"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// panickingStorage panics where external logins are listed, and counts the other listings.
type panickingStorage struct {
	logical.Storage
	lists int
}

func (s *panickingStorage) List(ctx context.Context, prefix string) ([]string, error) {
	if prefix == externallogin.StoragePrefix {
		panic("external logins")
	}
	s.lists++
	return s.Storage.List(ctx, prefix)
}

func TestMaintenance(t *testing.T) {
	t.Run("a task that panics keeps no other from running", func(t *testing.T) {
		storage := &panickingStorage{Storage: &logical.InmemStorage{}}
		mount, err := NewFactory("test")(t.Context(), &logical.BackendConfig{StorageView: storage, System: logical.TestSystemView()})
		require.NoError(t, err)
		mount.(*backend).maintain(t.Context(), hclog.NewNullLogger())
		require.Positive(t, storage.lists, "ended sessions are looked for")
	})
}

func TestRenewalDue(t *testing.T) {
	const day = 24 * time.Hour
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	to := from.Add(730 * day)
	of := func(to time.Time, raw byte) *x509.Certificate {
		return &x509.Certificate{NotBefore: from, NotAfter: to, Raw: []byte{raw}}
	}
	dues := map[time.Time]bool{}
	for i := range 100 {
		due := renewalDue(of(to, byte(i)), 30*day, nil)
		require.False(t, due.Before(to.Add(-33*day)))
		require.False(t, due.After(to.Add(-30*day)))
		dues[due] = true
	}
	require.Greater(t, len(dues), 90)
	require.Equal(t, from.Add(15*day), renewalDue(of(from.Add(30*day), 0), 30*day, nil), "not before half its life is over")

	sum := sha256.Sum256([]byte{0})
	failed := func(at time.Time, failures int) *rotation.Outcome {
		return &rotation.Outcome{At: at, Automatic: true, Failures: failures, Previous: hex.EncodeToString(sum[:])}
	}
	late := to.Add(-25 * day)
	var before time.Duration
	for failures := 1; failures < 8; failures++ {
		again := renewalDue(of(to, 0), 30*day, failed(late, failures)).Sub(late)
		require.GreaterOrEqual(t, again, before)
		before = again
	}
	require.Equal(t, 72*time.Hour, before)
	require.Equal(t, to.Add(-45*time.Minute), renewalDue(of(to, 0), 30*day, failed(to.Add(-time.Hour), 7)), "towards the end more often")
	require.True(t, renewalDue(of(to, 1), 30*day, failed(late, 7)).Before(late), "what failed with another certificate does not hold it up")
	byHand := failed(late, 3)
	byHand.Automatic = false
	require.True(t, renewalDue(of(to, 0), 30*day, byHand).Before(late), "nor does what failed by hand")
}
