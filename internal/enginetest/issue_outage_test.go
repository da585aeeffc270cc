// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestIssueInOutage(t *testing.T) {
	t.Run("ends_soon_after", testIssueInOutageEndsSoonAfter)
	t.Run("silence", testIssueInOutageSilence)
	t.Run("one_endpoint", testIssueInOutageOneEndpoint)
	t.Run("responses", testIssueInOutageResponses)
}

// testIssueInOutageEndsSoonAfter reads creds/<role> each second while KSeF is out of reach.
func testIssueInOutageEndsSoonAfter(t *testing.T) {
	faults := map[string]simulator.Fault{
		"connections dropped": {Kind: simulator.FaultDropRequest},
		"status 503":          {Kind: simulator.FaultStatus, Status: http.StatusServiceUnavailable},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
				c.MustIssue(time.Hour)
				before := c.KSeF.State().Requests
				fault.Endpoint, fault.Times = "*", -1
				c.Fault(fault)
				reader := c.readEachSecond()
				defer reader.stop()
				c.Elapse(280 * time.Second)
				spent := hourly(since(before, c.KSeF.State().Requests))
				require.LessOrEqual(t, spent, 6, "requests that hourly limits count, after %v", since(before, c.KSeF.State().Requests))
				require.Empty(t, reader.succeeded())

				c.KSeF.ClearFaults()
				back := time.Now()
				c.Elapse(15 * time.Second)
				require.NotEmpty(t, reader.succeeded())
				require.LessOrEqual(t, reader.succeeded()[0].Sub(back), 15*time.Second)
				reader.stop()
				require.NoError(t, c.settle())
			})
		})
	}
}

// testIssueInOutageSilence has a KSeF that answers nothing, and callers who wait less than a
// request to KSeF may take.
func testIssueInOutageSilence(t *testing.T) {
	for _, maxWait := range []time.Duration{time.Second, 3 * time.Second, 4900 * time.Millisecond, 10 * time.Second, time.Minute} {
		t.Run(maxWait.String(), func(t *testing.T) {
			InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
				c.MustIssue(time.Hour)
				before := c.spentOnIssuing()
				c.Network.Set(Silent)
				var work sync.WaitGroup
				for range 280 {
					work.Go(func() { _, _ = c.Vault().Issue(leaving(context.Background(), maxWait), "invoices", time.Hour) })
					c.Elapse(time.Second)
				}
				require.LessOrEqual(t, c.spentOnIssuing()-before, 10)
				c.Network.Set(Reachable)
				reader := c.readEachSecond()
				defer reader.stop()
				c.Elapse(15 * time.Second)
				require.NotEmpty(t, reader.succeeded())
				reader.stop()
				work.Wait()
				require.NoError(t, c.settle())
			})
		})
	}
}

func (c *Cluster) spentOnIssuing() (used int) {
	c.OnMount(0, func(m *Mount) { used = m.spentOnIssuing() })
	return used
}

// testIssueInOutageOneEndpoint loses requests for tokens alone; KSeF answers challenges.
func testIssueInOutageOneEndpoint(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
		c.MustIssue(time.Hour)
		before := c.KSeF.State().Requests
		c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropResponse, Times: -1})
		reader := c.readEachSecond()
		defer reader.stop()
		c.Elapse(10 * time.Minute)
		reader.stop()
		require.LessOrEqual(t, since(before, c.KSeF.State().Requests)[IssueEndpoint], 10)
		require.NoError(t, c.broken())
		c.KSeF.ClearFaults()
		c.Elapse(5 * time.Minute)
		c.MustIssue(time.Hour)
		require.NoError(t, c.settle())
	})
}

// testIssueInOutageResponses holds what requests get in an outage: 503 with the reason and the time
// of the next try, and no record.
func testIssueInOutageResponses(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
		c.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
		for range 3 {
			_, err := c.Vault().Issue(context.Background(), "invoices", time.Hour)
			var lost *ledger.LostReplyError
			require.ErrorAs(t, err, &lost)
		}
		open, err := c.openRecords()
		require.NoError(t, err)
		require.Len(t, open, 3)
		posts := c.Requests(IssueEndpoint)

		_, err = c.Vault().Issue(context.Background(), "invoices", time.Hour)
		var coded logical.HTTPCodedError
		require.ErrorAs(t, err, &coded)
		require.Equal(t, http.StatusServiceUnavailable, coded.Code())
		require.ErrorContains(t, err, "the last 3 requests for tokens")
		require.ErrorContains(t, err, time.Now().Add(5*time.Second).UTC().Format(time.RFC3339))
		require.Equal(t, posts, c.Requests(IssueEndpoint))
		open, err = c.openRecords()
		require.NoError(t, err)
		require.Len(t, open, 3)

		// All that ask at once share one probe, and after it one request for a token.
		c.Elapse(10 * time.Second)
		probes := c.Requests("POST /auth/challenge")
		c.KSeF.ClearFaults()
		c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDelay, Delay: time.Second})
		var successes sync.WaitGroup
		made := make(chan *TokenLease, 20)
		for range 20 {
			successes.Go(func() {
				if lease, err := c.Vault().Issue(context.Background(), "invoices", time.Hour); err == nil {
					made <- lease
				}
			})
		}
		successes.Wait()
		require.Len(t, made, 1)
		require.Equal(t, probes+1, c.Requests("POST /auth/challenge"))
		c.MustIssue(time.Hour)
		require.NoError(t, c.settle())
	})
}

// hourly counts the requests that KSeF's hourly limits count.
func hourly(requests map[string]int) int {
	sum := 0
	for endpoint, count := range requests {
		if !strings.Contains(endpoint, " /auth/") {
			sum += count
		}
	}
	return sum
}

// reader asks for a token each second, whether or not the request before has ended.
type reader struct {
	end  context.CancelFunc
	work sync.WaitGroup

	mu    sync.Mutex
	times []time.Time
}

func (c *Cluster) readEachSecond() *reader {
	ctx, end := context.WithCancel(context.Background())
	r := &reader{end: end}
	r.work.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				r.work.Go(func() { r.read(c) })
			case <-ctx.Done():
				return
			}
		}
	})
	return r
}

func (r *reader) read(c *Cluster) {
	if _, err := c.Vault().Issue(context.Background(), "invoices", time.Hour); err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times = append(r.times, time.Now())
}

// succeeded returns when tokens were received.
func (r *reader) succeeded() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Time(nil), r.times...)
}

func (r *reader) stop() {
	r.end()
	r.work.Wait()
}
