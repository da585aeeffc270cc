// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// opaque is a KSeF whose bearer tokens are no JWTs, that does not say how the subject has logged
// in, and that gives the same access token with each refresh.
type opaque struct {
	t        *testing.T
	refusals int // requests that are answered with 401
	requests map[string]int
}

func (k *opaque) RoundTrip(request *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	recorder.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	k.serve(recorder, request)
	return recorder.Result(), nil
}

func (k *opaque) serve(w http.ResponseWriter, r *http.Request) {
	endpoint := r.Method + " " + r.URL.Path
	k.requests[endpoint]++
	bearer := func(token string, life time.Duration) map[string]any {
		return map[string]any{"token": token, "validUntil": time.Now().Add(life)}
	}
	status, body := http.StatusOK, map[string]any{}
	switch endpoint {
	case "POST /v2/auth/challenge":
		body = map[string]any{"challenge": "c", "timestamp": time.Now(), "timestampMs": time.Now().UnixMilli()}
	case "POST /v2/auth/xades-signature":
		status, body = http.StatusAccepted, map[string]any{"referenceNumber": "login", "authenticationToken": bearer("begun", time.Hour)}
	case "GET /v2/auth/login":
		assert.Equal(k.t, "Bearer begun", r.Header.Get("Authorization"))
		body = map[string]any{"status": map[string]any{"code": 200}}
	case "POST /v2/auth/token/redeem":
		body = map[string]any{"accessToken": bearer("same", 15*time.Minute), "refreshToken": bearer("again", 7*24*time.Hour)}
	case "POST /v2/auth/token/refresh":
		assert.Equal(k.t, "Bearer again", r.Header.Get("Authorization"))
		body = map[string]any{"accessToken": bearer("same", 15*time.Minute)}
	case "GET /v2/tokens":
		assert.Equal(k.t, "Bearer same", r.Header.Get("Authorization"))
		body = map[string]any{"tokens": []any{}}
		if k.refusals > 0 {
			k.refusals--
			status = http.StatusUnauthorized
		}
	default:
		k.t.Errorf("unexpected %s", endpoint)
	}
	w.WriteHeader(status)
	assert.NoError(k.t, json.NewEncoder(w).Encode(body))
}

// made is how many requests, logins and refreshes KSeF has had.
func (k *opaque) made() []int {
	return []int{k.requests["GET /v2/tokens"], k.requests["POST /v2/auth/xades-signature"], k.requests["POST /v2/auth/token/refresh"]}
}

type anySignature struct{}

func (anySignature) SignLogin(*client.Challenge, client.ContextIdentifier, time.Time) ([]byte, error) {
	return []byte("<a/>"), nil
}

func TestSameAccessToken(t *testing.T) {
	inOpaque := func(t *testing.T, test func(t *testing.T, k *opaque, m *session.Manager)) {
		synctest.Test(t, func(t *testing.T) {
			ksef := &opaque{t: t, requests: map[string]int{}}
			api, err := client.New(client.Config{URL: "https://ksef.test/v2", Transport: ksef})
			require.NoError(t, err)
			test(t, ksef, session.NewManager(session.Options{
				Client: api, Begin: session.BySignature(anySignature{}), Storage: &logical.InmemStorage{}, ConfigFingerprint: "first",
				API: api.URL(), Logger: hclog.NewNullLogger(), OnLogin: func(client.ContextIdentifier, error) {},
				Learn: func(context.Context, client.ContextIdentifier, client.Secret) {},
			}))
		})
	}
	query := func(t *testing.T, m *session.Manager) error {
		_, err := apiOf(m).QueryTokens(t.Context(), client.TokenQuery{})
		return err
	}

	t.Run("is_refreshed_once_for_its_life", func(t *testing.T) {
		inOpaque(t, func(t *testing.T, k *opaque, m *session.Manager) {
			for range 3 {
				for range 5 {
					require.NoError(t, query(t, m))
				}
				elapse(14 * time.Minute)
			}
			require.Equal(t, []int{15, 1, 2}, k.made())
		})
	})
	for refusals, want := range map[int][]int{1: {2, 1, 1}, 2: {3, 2, 1}, 9: {3, 2, 1}} {
		t.Run("is_refused", func(t *testing.T) {
			inOpaque(t, func(t *testing.T, k *opaque, m *session.Manager) {
				k.refusals = refusals
				err := query(t, m)
				require.Equal(t, refusals == 9, client.IsUnauthorized(err), err)
				require.Equal(t, want, k.made())
			})
		})
	}
	t.Run("is_refused_to_two_and_refreshed_for_one", func(t *testing.T) {
		inOpaque(t, func(t *testing.T, k *opaque, m *session.Manager) {
			require.NoError(t, query(t, m))
			refused := m.Sessions()[0]
			first, err := m.Replace(t.Context(), taxpayer, &refused)
			require.NoError(t, err)
			second, err := m.Replace(t.Context(), taxpayer, &refused)
			require.NoError(t, err)
			require.Equal(t, first.Access.Token, second.Access.Token)
			require.Equal(t, []int{1, 1, 1}, k.made(), "KSeF has given the token anew since the other was refused")

			_, err = m.Replace(t.Context(), taxpayer, second)
			require.NoError(t, err)
			require.Equal(t, []int{1, 2, 1}, k.made(), "what a refresh gave has been refused too")
		})
	})
	t.Run("is_refused_as_it_was_stored", func(t *testing.T) {
		inOpaque(t, func(t *testing.T, k *opaque, m *session.Manager) {
			require.NoError(t, query(t, m))
			refused := m.Sessions()[0]
			m.Forget(taxpayer.String())
			_, err := m.Replace(t.Context(), taxpayer, &refused)
			require.NoError(t, err)
			require.Equal(t, []int{1, 1, 1}, k.made(), "KSeF has not given it anew")
		})
	})
}
