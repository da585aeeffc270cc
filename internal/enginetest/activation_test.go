// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// activationReads is what successive reads of creds/<role> cost beyond KSeF's own time.
type activationReads struct {
	// latest is the longest time between the activation of a token and the end of its read.
	latest time.Duration
	// polls is the number of requests for a status per read.
	polls float64
}

// readAlone makes reads one after the other, while KSeF activates each token after the delay.
func (c *Cluster) readAlone(delay time.Duration, reads int) activationReads {
	var all activationReads
	before := c.KSeF.State().Requests
	for range reads {
		began := time.Now()
		c.MustIssue(time.Hour)
		all.latest = max(all.latest, time.Since(began)-delay)
	}
	requests := since(before, c.KSeF.State().Requests)
	all.polls = float64(requests[StatusEndpoint]+requests[listEndpoint]) / float64(reads)
	return all
}

func TestActivation(t *testing.T) {
	t.Run("noticed_at_once", testActivationNoticedAtOnce)
	t.Run("noticed_by_the_first_read", testActivationNoticedByTheFirstRead)
	t.Run("many_share_lists", testActivationManyShareLists)
	t.Run("slow_poll_is_no_measure", testActivationSlowPollIsNoMeasure)
	t.Run("outage", testActivationOutage)
	t.Run("timeout_is_used", testActivationTimeoutIsUsed)
}

func testActivationNoticedAtOnce(t *testing.T) {
	for _, delay := range []time.Duration{300 * time.Millisecond, time.Second, 2 * time.Second, 3300 * time.Millisecond, 5 * time.Second} {
		t.Run(delay.String(), func(t *testing.T) {
			InCluster(t, simulator.Options{ActivationDelay: delay, Limits: NoLimits()}, func(t *testing.T, c *Cluster) {
				c.readAlone(delay, 10)
				learned := c.readAlone(delay, 20)
				require.LessOrEqual(t, learned.latest, 500*time.Millisecond)
				require.LessOrEqual(t, learned.polls, 1.5)
			})
		})
	}
}

func testActivationNoticedByTheFirstRead(t *testing.T) {
	for _, delay := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} {
		t.Run(delay.String(), func(t *testing.T) {
			InCluster(t, simulator.Options{ActivationDelay: delay}, func(t *testing.T, c *Cluster) {
				require.LessOrEqual(t, c.readAlone(delay, 1).latest, 500*time.Millisecond)
			})
		})
	}
}

// testActivationManyShareLists makes a hundred reads at once, which cost two lists, whatever the
// mount has learned before.
func testActivationManyShareLists(t *testing.T) {
	for _, before := range []int{0, 20} {
		t.Run(fmt.Sprintf("after %d", before), func(t *testing.T) {
			const delay = 2 * time.Second
			InCluster(t, simulator.Options{ActivationDelay: delay, Limits: NoLimits()}, func(t *testing.T, c *Cluster) {
				c.readAlone(delay, before)
				lists := c.Requests(listEndpoint)
				AtOnce(100, func(int) { c.MustIssue(time.Hour) })
				require.LessOrEqual(t, c.Requests(listEndpoint)-lists, 2)
			})
		})
	}
}

// testActivationSlowPollIsNoMeasure makes one poll in ten take 20 s: the other reads must not wait
// for that.
func testActivationSlowPollIsNoMeasure(t *testing.T) {
	InCluster(t, simulator.Options{ActivationDelay: -1, Limits: NoLimits()}, func(t *testing.T, c *Cluster) {
		c.readAlone(0, 20)
		for range 10 {
			c.Fault(simulator.Fault{Endpoint: StatusEndpoint, Kind: simulator.FaultDelay, Delay: 20 * time.Second})
			c.MustIssue(time.Hour)
			for range 9 {
				began := time.Now()
				c.MustIssue(time.Hour)
				require.LessOrEqual(t, time.Since(began), time.Second)
			}
		}
	})
}

// testActivationOutage has KSeF issue tokens for five minutes and lose each request for a status.
func testActivationOutage(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
		c.MustIssue(time.Hour)
		before := c.KSeF.State().Requests
		for _, endpoint := range []string{StatusEndpoint, listEndpoint} {
			c.Fault(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultDropRequest, Times: -1})
		}
		for range 10 {
			c.MustIssue(time.Hour) // still Pending after 30 s
		}
		lost := since(before, c.KSeF.State().Requests)
		require.LessOrEqual(t, lost[StatusEndpoint]+lost[listEndpoint], 20)
		c.KSeF.ClearFaults()
		c.MustIssue(time.Hour)
		began := time.Now()
		c.MustIssue(time.Hour)
		require.LessOrEqual(t, time.Since(began), 2*time.Second)
	})
}

// testActivationTimeoutIsUsed shortens activation_timeout below the time that activation has taken:
// the engine still polls before the timeout.
func testActivationTimeoutIsUsed(t *testing.T) {
	InCluster(t, simulator.Options{ActivationDelay: 5 * time.Second, Limits: NoLimits()}, func(t *testing.T, c *Cluster) {
		c.readAlone(5*time.Second, 10)
		c.OnMount(0, func(m *Mount) { m.Must(m.Write("config", map[string]any{"activation_timeout": "2s"})) })
		polls := c.Requests(StatusEndpoint)
		_, err := c.Vault().Issue(context.Background(), "invoices", time.Hour)
		require.NoError(t, err)
		require.Greater(t, c.Requests(StatusEndpoint), polls)
	})
}
