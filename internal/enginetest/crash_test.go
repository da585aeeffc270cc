// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// flow is work of several steps. The process may crash at each of them.
type flow struct {
	name    string
	options simulator.Options
	mounts  int // 0 is one
	// history comes first, then prepare; then the steps are counted. nil for nothing.
	history func(c *Cluster)
	prepare func(c *Cluster)
	run     func(c *Cluster)
	// kinds are the kinds of points in run, each once.
	kinds []string
	// sequential says that one goroutine comes to the points: just before one is as just after the
	// one before, and is not played.
	sequential bool
	// settling is how long the engine has to finish; 0 is usualSettling.
	settling time.Duration
	// checkSoon is called when the crashed process has been replaced, and check when all has
	// settled; nil for nothing.
	checkSoon, check func(c *Cluster) error
}

// crash is when and where a process crashes; zero for never.
type crash struct {
	when moment
	at   point
}

func (f crash) String() string { return fmt.Sprintf("a crash %s %s", f.when, f.at) }

func TestCrash(t *testing.T) {
	for _, f := range flows() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			points := f.points(t)
			require.ElementsMatch(t, f.kinds, kindsOf(points), "the kinds of points that this flow comes to are not those that it names")
			for i, at := range points {
				if i == 0 || !f.sequential {
					f.crashAt(t, crash{justBefore, at})
				}
				f.crashAt(t, crash{justAfter, at})
			}
			t.Logf("crashed at each of these %d points: %v", len(points), points)
		})
	}
}

// points are those that the flow reaches in each of two processes. Pauses after a failure are of
// random length, so that one process may make one more attempt than another.
func (f flow) points(t *testing.T) []point {
	first, _ := f.play(t, crash{})
	second, _ := f.play(t, crash{})
	return slices.DeleteFunc(first, func(p point) bool { return !slices.Contains(second, p) })
}

// mostPlays bounds how often a flow is played until it reaches a point.
const mostPlays = 20

// crashAt plays the flow until its process has crashed as wanted.
func (f flow) crashAt(t *testing.T, end crash) {
	for range mostPlays {
		if _, met := f.play(t, end); met {
			return
		}
	}
	require.Failf(t, "a point of the first processes did not come up any more", "%s", end)
}

// play runs the flow in a process that crashes at a point, with another to take over, and checks
// the outcome. It returns the points of the flow, and whether it has reached that of the crash.
func (f flow) play(t *testing.T, end crash) (points []point, met bool) {
	InClusterOf(t, max(f.mounts, 1), f.options, func(t *testing.T, c *Cluster) {
		if f.history != nil {
			f.history(c)
		}
		other := c.MustIssue(20 * 24 * time.Hour)
		if f.prepare != nil {
			f.prepare(c)
		}
		first, _ := c.Engine.current()
		first.watch(func(here point) moment {
			if here != end.at {
				return noCrash
			}
			met = true
			return end.when
		})
		f.run(c)
		points = first.reached()
		first.watch(neverCrash)
		c.KSeF.ClearFaults()

		if f.checkSoon != nil {
			c.Elapse(time.Second)
			require.NoError(t, f.checkSoon(c), "after %s", end)
		}
		require.NoError(t, c.settleFor(cmp.Or(f.settling, usualSettling)), "after %s", end)
		require.True(t, c.Vault().isLive(other))
		if f.check != nil {
			require.NoError(t, f.check(c), "after %s", end)
		}
		require.NoError(t, c.endAll(), "after %s", end)
	})
	return points, met
}

// usualSettling is more than the day after which Vault tries again to revoke a lease.
const usualSettling = 26 * time.Hour

// settle lets the engine finish what it has begun.
func (c *Cluster) settle() error { return c.settleFor(usualSettling) }

func (c *Cluster) settleFor(settling time.Duration) error {
	for end := time.Now().Add(settling); time.Now().Before(end); {
		if err := c.broken(); err != nil {
			return err
		}
		c.Elapse(10 * time.Minute)
	}
	return c.unsettled(0)
}

// endAll proves that the engine still works, and that nothing remains when all leases have ended.
func (c *Cluster) endAll() error {
	if err := canIssue(c); err != nil {
		return fmt.Errorf("no token can be made any more: %w", err)
	}
	c.Vault().End(c.Vault().all()...)
	c.deleteHolders()
	c.Elapse(time.Hour)
	if err := errors.Join(c.unsettled(0), c.sessionsPiledUp()); err != nil {
		return err
	}
	c.Elapse(30 * 24 * time.Hour)
	return c.leftovers()
}

func kindsOf(points []point) []string {
	var kinds []string
	for _, p := range points {
		if p.number == 1 {
			kinds = append(kinds, p.kind)
		}
	}
	return kinds
}
