// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const revoke = "DELETE /tokens/{referenceNumber}"

var (
	ctx  = context.Background
	now  = ratelimit.Wait{}
	hour = ratelimit.Wait{AtMost: time.Hour}
	key  = ratelimit.Key{API: "https://ksef.example/v2", Context: "Nip:5265877635"}
)

var errStorage = errors.New("storage fails")

// memory is a journal that can be slow, can fail, and can be copied for the next process.
type memory struct {
	mu          sync.Mutex
	data        []byte
	saves       int
	err         error
	delay       time.Duration
	savesAtOnce bool // a write is stored at its beginning, not at its end
}

func (m *memory) Load(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.data), m.err
}

func (m *memory) Save(ctx context.Context, data []byte) error {
	delay, savesAtOnce, err := m.begin()
	if savesAtOnce && err == nil {
		m.store(data)
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err == nil {
		m.store(data)
	}
	return err
}

func (m *memory) begin() (delay time.Duration, savesAtOnce bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saves++
	return m.delay, m.savesAtOnce, m.err
}

func (m *memory) store(data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = data
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) set(delay time.Duration, savesAtOnce, failing bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delay, m.savesAtOnce, m.err = delay, savesAtOnce, nil
	if failing {
		m.err = errStorage
	}
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.saves
}

// afterCrash returns what the next process finds.
func (m *memory) afterCrash() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memory{data: slices.Clone(m.data)}
}

func open(t testing.TB, r *ratelimit.Registry, j ratelimit.Journal) *ratelimit.Limiter {
	t.Helper()
	l, err := r.Open(ctx(), key, j)
	require.NoError(t, err)
	return l
}

func acquire(t testing.TB, l *ratelimit.Limiter, w ratelimit.Wait) *ratelimit.Permit {
	t.Helper()
	p, err := l.Acquire(ctx(), revoke, w)
	require.NoError(t, err)
	return p
}

// send sends n requests that are answered at once.
func send(t testing.TB, l *ratelimit.Limiter, n int) {
	t.Helper()
	for range n {
		acquire(t, l, hour).Done()
	}
}

func refused(t testing.TB, err error) *ratelimit.ExhaustedError {
	t.Helper()
	var e *ratelimit.ExhaustedError
	require.ErrorAs(t, err, &e)
	return e
}

func usage(t testing.TB, l *ratelimit.Limiter, endpoint string) ratelimit.Usage {
	t.Helper()
	for _, u := range l.Usage() {
		if u.Endpoint == endpoint {
			return u
		}
	}
	require.Fail(t, "no usage", endpoint)
	return ratelimit.Usage{}
}

// result is what Acquire returned, and when.
type result struct {
	permit *ratelimit.Permit
	err    error
	at     time.Time
}

// waiting calls Acquire in a goroutine and returns once that waits or has a result.
func waiting(c context.Context, l *ratelimit.Limiter, w ratelimit.Wait, settled func()) <-chan result {
	got := make(chan result, 1)
	go func() {
		p, err := l.Acquire(c, revoke, w)
		got <- result{p, err, time.Now()}
	}()
	settled()
	return got
}

// request is a request that KSeF may have counted at any moment from sent to done.
type request struct {
	sent, done time.Time
}

// fullest returns the highest number of requests that KSeF can have counted in any window of that
// length.
func fullest(all []request, length time.Duration) int {
	most := 0
	for _, first := range all {
		n := 0
		for _, r := range all {
			if !r.done.Before(first.done) && r.sent.Before(first.done.Add(length)) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// How long a request counts, margin included.
const (
	keptSecond = 1011 * time.Millisecond
	keptMinute = time.Minute + 310*time.Millisecond
	keptHour   = time.Hour + 5600*time.Millisecond
)

// clockAllowance is how far the clock of another node may be ahead without shortening a window or
// block.
const clockAllowance = 2 * time.Minute

type span struct {
	name   string
	length time.Duration // KSeF's
	kept   time.Duration // ours
	limit  int
}

func spans(l ratelimit.Limits) []span {
	all := []span{
		{"second", time.Second, keptSecond, l.PerSecond},
		{"minute", time.Minute, keptMinute, l.PerMinute},
		{"hour", time.Hour, keptHour, l.PerHour},
	}
	return slices.DeleteFunc(all, func(s span) bool { return s.limit == 0 })
}

// earliest returns when the next request can be sent, trying every moment at which an earlier one
// leaves a window.
func earliest(l ratelimit.Limits, earlier []request, from time.Time) time.Time {
	candidates := []time.Time{from}
	for _, r := range earlier {
		for _, s := range spans(l) {
			if at := r.done.Add(s.kept); at.After(from) {
				candidates = append(candidates, at)
			}
		}
	}
	slices.SortFunc(candidates, time.Time.Compare)
	for _, at := range candidates {
		if allowed(l, earlier, at) {
			return at
		}
	}
	panic("no moment is free")
}

func allowed(l ratelimit.Limits, earlier []request, at time.Time) bool {
	for _, s := range spans(l) {
		n := 0
		for _, r := range earlier {
			if r.done.Add(s.kept).After(at) {
				n++
			}
		}
		if n >= s.limit {
			return false
		}
	}
	return true
}
