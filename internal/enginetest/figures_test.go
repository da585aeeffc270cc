// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// The figures of docs/benchmarks.md that are counts, or spans of a bubble's time, are the same on
// every machine. Their goals are promises that tests hold. The attributes are for the table of make
// bench.

func TestFigureAHundredTokensAtOnceTakeAHundredAndTenRequests(t *testing.T) {
	WithMount(t, simulator.Options{ActivationDelay: 2 * time.Second, Limits: NoLimits()}, func(t *testing.T, m *Mount) {
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
		before := m.KSeF.State().Requests
		const tokens = 100
		AtOnce(tokens, func(int) {
			response := m.Must(m.Read("creds/invoices", nil))
			require.Equal(t, "Active", response.Data["status"])
		})
		posts, gets, others := 0, 0, 0
		for endpoint, count := range since(before, m.KSeF.State().Requests) {
			switch {
			case endpoint == "POST /tokens":
				posts += count
			case strings.HasPrefix(endpoint, "GET /tokens"):
				gets += count
			default:
				others += count
			}
		}
		attribute(t, "POST", posts)
		attribute(t, "GET", gets)
		attribute(t, "logins-and-others", others)
		require.Equal(t, tokens, posts)
		require.LessOrEqual(t, gets, 10)
		require.Zero(t, others)
	})
}

// since subtracts counts of requests.
func since(before, after map[string]map[string]int) map[string]int {
	difference := make(map[string]int)
	for endpoint, statuses := range after {
		for status, count := range statuses {
			if more := count - before[endpoint][status]; more > 0 {
				difference[endpoint] += more
			}
		}
	}
	return difference
}

func TestFigureARestartReadsWhatIsDueAndNotWhatIsAlive(t *testing.T) {
	few, many := readsOfARestart(t, fewRecords), readsOfARestart(t, manyRecords)
	ratio := float64(many.start) / float64(few.start)
	attribute(t, "reads/reads", ratio)
	attribute(t, "reads-of-1000", few.start)
	attribute(t, "reads-of-100000", many.start)
	attribute(t, "hour-of-1000", few.hour)
	attribute(t, "hour-of-100000", many.hour)
	require.LessOrEqual(t, ratio, 1.2)
}

// restartReads is what a mount reads of its storage from its load until it has nothing more to do,
// and in the hour after that.
type restartReads struct{ start, hour int }

// readsOfARestart restarts a mount with so many live records and has Vault call it each minute.
func readsOfARestart(t *testing.T, records int) (reads restartReads) {
	InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
		storage := &readCounter{Storage: &logical.InmemStorage{}}
		m := env.Mount(storage)
		m.Configure()
		m.Stop()
		addLiveRecords(t, storage, URL, records)
		m.Start()
		m.Elapse(time.Minute)
		m.Stop()
		storage.reset()
		m.Start()
		synctest.Wait()
		reads.start = storage.reset()
		for range 60 {
			m.Elapse(time.Minute)
			_, err := m.Request(logical.RollbackOperation, "", nil)
			require.NoError(t, err)
		}
		reads.hour = storage.reset()
		m.Stop()
	})
	return reads
}

// readCounter counts the reads of a storage.
type readCounter struct {
	logical.Storage
	mu    sync.Mutex
	reads int
}

// Get implements logical.Storage.
func (c *readCounter) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	c.count()
	return c.Storage.Get(ctx, key)
}

// List implements logical.Storage.
func (c *readCounter) List(ctx context.Context, prefix string) ([]string, error) {
	c.count()
	return c.Storage.List(ctx, prefix)
}

func (c *readCounter) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
}

// reset returns the count and sets it to 0.
func (c *readCounter) reset() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	reads := c.reads
	c.reads = 0
	return reads
}

// AtOnce runs do so many times at once and waits for all.
func AtOnce(count int, do func(int)) {
	var all sync.WaitGroup
	for i := range count {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// attribute reports a number of a figure in the test's output.
func attribute(t *testing.T, name string, value any) { t.Attr(name, fmt.Sprint(value)) }
