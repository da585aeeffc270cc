// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keyring is a KSeF that publishes its keys and accepts logins with one of them.
type keyring struct {
	t      *testing.T
	signer *rsa.PrivateKey
	delay  time.Duration // of the answer with the keys

	mu        sync.Mutex
	keys      []publishedKey
	accepted  string // the only key that is not refused; "" accepts all
	published int
	submitted []string // the keys
}

func newKeyring(t *testing.T, keys ...publishedKey) *keyring {
	t.Helper()
	signer := newRSAKey(t)
	ring := &keyring{t: t, signer: signer}
	ring.publish("", keys...)
	return ring
}

// publish replaces the keys; those without a public key of their own have that of the signer.
func (k *keyring) publish(accepted string, keys ...publishedKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys, k.accepted = nil, accepted
	for _, one := range keys {
		one.usage, one.public = publicKeyUsageTokens, k.signer.Public()
		k.keys = append(k.keys, one)
	}
}

func (k *keyring) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET /v2/security/public-key-certificates":
		<-time.After(k.delay)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.published++
		var out []any
		for _, one := range k.keys {
			out = append(out, one.encode(k.t, k.signer))
		}
		assert.NoError(k.t, json.NewEncoder(w).Encode(out))
	case "POST /v2/auth/challenge":
		_, _ = fmt.Fprint(w, `{"challenge":"c","timestamp":"2026-01-01T00:00:00Z","timestampMs":1}`)
	case "POST /v2/auth/ksef-token":
		var body struct{ PublicKeyID string }
		assert.NoError(k.t, json.NewDecoder(r.Body).Decode(&body))
		k.mu.Lock()
		defer k.mu.Unlock()
		k.submitted = append(k.submitted, body.PublicKeyID)
		if k.accepted != "" && body.PublicKeyID != k.accepted {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprint(w, `{"errors":[{"code":21470,"description":"d"}]}`)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprint(w, `{"referenceNumber":"n","authenticationToken":{"token":"opaque","validUntil":"2026-01-01T00:00:00Z"}}`)
	}
}

func (k *keyring) counts() (published, submitted int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.published, len(k.submitted)
}

func TestTokenKey_fetchedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := newKeyring(t, publishedKey{id: "first", from: -1, to: 999})
		ring.delay = time.Second
		api := newClient(t, handled{ring})
		login := func(n int) {
			var logins sync.WaitGroup
			for range n {
				logins.Go(func() {
					_, _, err := api.WithLimiter(unlimited{}).BeginTokenLogin(t.Context(), TokenLogin{Token: "t"})
					assert.NoError(t, err)
				})
			}
			logins.Wait()
		}
		began := time.Now()
		login(300)
		published, submitted := ring.counts()
		require.Equal(t, []int{1, 300}, []int{published, submitted})
		require.Equal(t, time.Second, time.Since(began))

		ring.publish("second", publishedKey{id: "second", from: -1, to: 999})
		login(300)
		published, submitted = ring.counts()
		require.Equal(t, 2, published, "withdrawn for all at once, fetched again once")
		require.Equal(t, 300+600, submitted)
		login(1)
		published, submitted = ring.counts()
		require.Equal(t, []int{2, 901}, []int{published, submitted}, "the new key is kept")
	})
}

func TestTokenKey_waitEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := newKeyring(t, publishedKey{id: "first", from: -1, to: 999})
		ring.delay = 10 * time.Second
		api := newClient(t, handled{ring})
		var first sync.WaitGroup
		first.Go(func() {
			_, err := api.TokenKey(t.Context())
			assert.NoError(t, err)
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := api.TokenKey(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		first.Wait()
		published, _ := ring.counts()
		require.Equal(t, 1, published)
	})
}

func TestTokenKey_keptForADayWithinItsValidity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := newKeyring(t,
			publishedKey{id: "old", from: -9, to: 99}, publishedKey{id: "soon", from: 2, to: 5}, publishedKey{id: "never yet", from: 99, to: 999})
		api := newClient(t, handled{ring})
		requireKey := func(id string, published int) {
			t.Helper()
			key, err := api.TokenKey(t.Context())
			require.NoError(t, err)
			count, _ := ring.counts()
			require.Equal(t, []any{id, published}, []any{key.ID, count})
		}
		requireKey("old", 1)
		<-time.After(2 * time.Hour)
		requireKey("soon", 1)
		<-time.After(3*time.Hour + time.Nanosecond)
		requireKey("old", 1)

		ring.publish("", publishedKey{id: "short", from: -1, to: 1})
		<-time.After(19*time.Hour - 2*time.Nanosecond)
		requireKey("old", 1)
		<-time.After(time.Nanosecond)
		requireKey("short", 2)
		<-time.After(time.Hour)
		requireKey("short", 2)
		ring.publish("", publishedKey{id: "next", from: -1, to: 1})
		<-time.After(time.Nanosecond)
		requireKey("next", 3)
	})
}

// A failure concerns its caller only: the next one fetches the keys anew.
func TestTokenKey_failureIsNotKept(t *testing.T) {
	ring := newKeyring(t)
	api := newClient(t, handled{ring})
	_, err := api.TokenKey(t.Context())
	require.ErrorIs(t, err, errNoTokenKey)
	ring.publish("", publishedKey{id: "first", from: -1, to: 1})
	key, err := api.TokenKey(t.Context())
	require.NoError(t, err)
	require.Equal(t, "first", key.ID)
}
