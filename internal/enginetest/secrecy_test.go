// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// recordingStorage keeps all entries that were ever written.
type recordingStorage struct {
	logical.Storage

	mu      sync.Mutex
	written []logical.StorageEntry
}

func (n *recordingStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	n.mu.Lock()
	n.written = append(n.written, logical.StorageEntry{Key: entry.Key, Value: slices.Clone(entry.Value)})
	n.mu.Unlock()
	return n.Storage.Put(ctx, entry)
}

// TestSecrecy takes a mount from an external login over two rotations, each of which outlasts its
// request, and checks all responses, events, logs and stored entries.
func TestSecrecy(t *testing.T) {
	options := simulator.Options{QualifiedLoginDelay: 2 * time.Minute, EnrollmentDelay: 2 * time.Minute}
	InEnv(t, options, func(t *testing.T, env *Env) {
		storage := &recordingStorage{Storage: &logical.InmemStorage{}}
		m := env.Mount(storage)
		defer m.Stop()
		m.Must(m.Write("config", map[string]any{"url": URL, "nip": NIP}))
		answers := []*logical.Response{m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: PESEL}))}
		for range 2 {
			m.Elapse(5 * time.Minute)
			answers = append(answers, m.Must(m.Write("config/rotate-root", nil)))
			for _, path := range []string{"config", "status"} {
				answers = append(answers, m.Must(m.Read(path, nil)))
			}
			m.Elapse(10 * time.Minute)
			m.Issue()
		}
		for _, path := range []string{"config", "status"} {
			answers = append(answers, m.Must(m.Read(path, nil)))
		}
		for _, entry := range storage.written {
			m.Remember(secretsIn(entry.Value)...)
		}
		m.requireNothingSecretIn(answers)

		places := map[string]bool{}
		for _, entry := range storage.written {
			m.requireWrappedIfSecret(entry)
			if len(secretsIn(entry.Value)) > 0 {
				places[folderOf(entry.Key)] = true
			}
		}
		require.Equal(t, map[string]bool{"config": true, "sessions/*": true, "logins/*": true, "rotation": true}, places)
	})
}
