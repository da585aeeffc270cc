// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// A limiter has admitted one request: net/http must not send it a second time when a connection
// that it had kept breaks.
func TestRequest_sentOnceThoughItsConnectionBreaks(t *testing.T) {
	var arrived atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if arrived.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte(`{"tokens":[]}`))
	}))
	defer server.Close()
	api, err := New(Config{URL: server.URL})
	require.NoError(t, err)
	defer api.Close()
	_, err = api.QueryTokens(t.Context(), TokenQuery{})
	require.NoError(t, err)
	_, err = api.QueryTokens(t.Context(), TokenQuery{})
	require.Error(t, err)
	require.Equal(t, int32(2), arrived.Load())
}
