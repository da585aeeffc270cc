// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// slowKSeF handles the first requests for tokens only after a while, even if their client has gone.
type slowKSeF struct {
	http.RoundTripper

	mu   sync.Mutex
	slow int
}

const slowness = 2400 * time.Millisecond

func (k *slowKSeF) isSlow(request *http.Request) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if endpointOf(request) != IssueEndpoint || k.slow == 0 {
		return false
	}
	k.slow--
	return true
}

func (k *slowKSeF) RoundTrip(request *http.Request) (*http.Response, error) {
	if !k.isSlow(request) {
		return k.RoundTripper.RoundTrip(request)
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	arrived := request.Clone(context.WithoutCancel(request.Context()))
	arrived.Body = io.NopCloser(bytes.NewReader(body))
	answers := make(chan *http.Response, 1)
	time.AfterFunc(slowness, func() {
		response, _ := k.RoundTripper.RoundTrip(arrived) //nolint:bodyclose // it is not read, or its caller closes it
		answers <- response
	})
	select {
	case response := <-answers:
		return response, nil
	case <-request.Context().Done():
		return nil, request.Context().Err()
	}
}

// TestLimitsAbandonedRequests has ten callers leave before KSeF handles their requests, and ten
// others come at that moment.
func TestLimitsAbandonedRequests(t *testing.T) {
	InCluster(t, simulator.Options{ActivationDelay: -1}, func(t *testing.T, c *Cluster) {
		c.MustIssue(time.Hour)
		c.Elapse(2 * time.Minute)
		c.Network.ksef = &slowKSeF{RoundTripper: c.Network.ksef, slow: 10}
		var callers sync.WaitGroup
		ten := func(maxWait time.Duration) {
			for range 10 {
				callers.Go(func() {
					_, _ = c.Vault().Issue(leaving(context.Background(), maxWait), "invoices", time.Hour)
				})
			}
		}
		ten(500 * time.Millisecond)
		c.Elapse(1700 * time.Millisecond)
		ten(time.Minute)
		callers.Wait()
		c.Elapse(time.Minute)
		require.NoError(t, c.limitExceeded())
		require.NoError(t, c.settle())
	})
}
