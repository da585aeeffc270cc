// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Journal keeps the state of one limiter across restarts.
type Journal interface {
	// Load returns what was saved last; nil when nothing has been.
	Load(ctx context.Context) ([]byte, error)
	// Save replaces it. It is never called twice at the same time.
	Save(ctx context.Context, data []byte) error
}

const (
	recordVersion = 1
	// maxPending is more than could ever be in flight; it bounds what a damaged journal makes us
	// allocate.
	maxPending = 1 << 16
	// maxMillis is a hundred years: longer times are taken for that, so that sums of them stay
	// within a time.Duration.
	maxMillis = 100 * 365 * 24 * 3600 * 1000
)

// record is what a journal holds. All times but one are in milliseconds before or after that one,
// and rounded so that a request looks younger and a block longer.
type record struct {
	Version   int              `json:"version"`
	Account   string           `json:"account"`
	Saved     int64            `json:"saved"`           // milliseconds since 1970
	Clock     string           `json:"clock,omitempty"` // by whose clock
	Endpoints map[string]entry `json:"endpoints"`
}

type entry struct {
	sent
	Others  map[string]sent `json:"others,omitempty"`  // by the limiters that share the windows
	Blocked int64           `json:"blocked,omitempty"` // for so long
	Limits  *reportedLimits `json:"limits,omitempty"`
}

// sent is what an limiter has sent.
type sent struct {
	Ages    []int64 `json:"ages,omitempty"`    // of the requests that have ended; negative where one may still be on its way
	Pending int     `json:"pending,omitempty"` // requests that may have been sent, or may be before the next write
}

type reportedLimits struct {
	Limits
	Age int64 `json:"age"`
}

func (r record) encode() ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the budget journal: %w", err)
	}
	return data, nil
}

// decode reads a record; nil is an empty one.
func decode(data []byte) (record, error) {
	r := record{Version: recordVersion}
	if data == nil {
		return r, nil
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("decoding the budget journal: %w", err)
	}
	if err := r.check(); err != nil {
		return record{}, fmt.Errorf("the budget journal cannot be used, delete it when no request has been sent for an hour: %w", err)
	}
	return r, nil
}

func (r record) check() error {
	if r.Version != recordVersion {
		return fmt.Errorf("its version is %d, known is %d", r.Version, recordVersion)
	}
	if r.Account == "" || r.Saved < 0 || r.Saved > maxMillis {
		return errors.New("account or saved is missing or out of range")
	}
	for name, e := range r.Endpoints {
		if err := e.check(); err != nil {
			return fmt.Errorf("endpoint %q: %w", name, err)
		}
	}
	return nil
}

func (e entry) check() error {
	for _, s := range e.Others {
		if err := s.check(); err != nil {
			return err
		}
	}
	if err := e.sent.check(); err != nil {
		return err
	}
	if e.Blocked < 0 {
		return fmt.Errorf("blocked is %d, must not be negative", e.Blocked)
	}
	if e.Limits != nil && (e.Limits.Age < 0 || e.Limits.Limits != e.Limits.withoutNegatives()) {
		return errors.New("limits must not be negative")
	}
	return nil
}

func (e sent) check() error {
	if e.Pending < 0 || e.Pending > maxPending {
		return fmt.Errorf("pending is %d, must be 0 to %d", e.Pending, maxPending)
	}
	for _, age := range e.Ages {
		if age < -longestTransit.Milliseconds() {
			return fmt.Errorf("an age is %d, must not be below -%d", age, longestTransit.Milliseconds())
		}
	}
	return nil
}

// snapshot is the state to save: what has ended, and as pending all that is in flight, reserved or
// about to be.
func (a *Limiter) snapshot(now time.Time) record {
	r := record{
		Version:   recordVersion,
		Account:   a.id,
		Saved:     ceilMillis(time.Duration(now.UnixNano())),
		Clock:     a.pool.registry.clock,
		Endpoints: map[string]entry{},
	}
	for name, e := range a.pool.endpoints {
		if n, known := a.entry(e, now); known {
			r.Endpoints[name] = n
		}
	}
	return r
}

func (a *Limiter) entry(e *endpoint, now time.Time) (n entry, known bool) {
	if e.limits.any() {
		b := a.reservation(e)
		n.Pending = b.inFlight + b.reserved
		if b.short > 0 && !a.closed {
			n.Pending += reserveAhead
		}
		e.prune(now)
		for _, s := range e.counting(now) {
			age := floorMillis(now.Sub(s.at))
			if s.limiter == a.id {
				n.Ages = append(n.Ages, age)
			} else {
				n.add(s.limiter, sent{Ages: []int64{age}})
			}
		}
		for id, other := range a.pool.limiters {
			if b := other.reservations[e]; other != a && b != nil && b.inFlight > 0 {
				n.add(id, sent{Pending: b.inFlight})
			}
		}
	}
	if e.blocked.After(now) {
		n.Blocked = ceilMillis(e.blocked.Sub(now))
	}
	if !e.limitsSet.IsZero() {
		n.Limits = &reportedLimits{Limits: e.limits, Age: now.Sub(e.limitsSet).Milliseconds()}
	}
	return n, n.Pending > 0 || len(n.Ages) > 0 || len(n.Others) > 0 || n.Blocked > 0 || n.Limits != nil
}

func (e *entry) add(other string, more sent) {
	if e.Others == nil {
		e.Others = map[string]sent{}
	}
	s := e.Others[other]
	s.Ages, s.Pending = append(s.Ages, more.Ages...), s.Pending+more.Pending
	e.Others[other] = s
}

// longestTransit is how long after a start KSeF may still count a request of a process that has
// died, and after its sending one that was given up: what a request may take, the default request
// timeout. The kernel delivers what was written, KSeF decides when to look.
const longestTransit = 30 * time.Second

// restore puts what the journal knows into the windows. Requests that may or may not have been sent
// leave room for themselves in each second until the last of them has arrived, and count from then
// on.
func (a *Limiter) restore(r record) {
	now := time.Now()
	since := a.pool.registry.elapsed(r, now)
	for name, n := range r.Endpoints {
		a.pool.endpoint(name).merge(n, now, since)
		if n.Pending > 0 {
			a.pool.version++
		}
	}
	for name, e := range a.pool.endpoints {
		n := r.Endpoints[name]
		e.replace(a.id, n.times(a.id, now, since))
		for other, theirs := range n.Others {
			if a.pool.limiters[other] == nil {
				e.learn(other, theirs.times(other, now, since))
			}
		}
		e.settle(now)
	}
}

// merge takes the later of two blocks and the newer of two limits.
func (e *endpoint) merge(n entry, now time.Time, since time.Duration) {
	if n.Blocked > 0 {
		e.blocked = later(e.blocked, now.Add(millis(n.Blocked)-since))
	}
	if n.Limits == nil {
		return
	}
	if told := now.Add(-millis(n.Limits.Age) - since); told.After(e.limitsSet) {
		e.limits, e.limitsSet = n.Limits.Limits, told
	}
}

func (e sent) times(limiter string, now time.Time, since time.Duration) []sentAt {
	var times []sentAt
	for _, age := range e.Ages {
		times = append(times, sentAt{at: now.Add(-millis(age) - since), limiter: limiter})
	}
	for range e.Pending {
		times = append(times, sentAt{at: now.Add(longestTransit), limiter: limiter})
	}
	return times
}

func floorMillis(d time.Duration) int64 {
	return -ceilMillis(-d)
}

func ceilMillis(d time.Duration) int64 {
	ms := d.Milliseconds()
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms
}

func millis(ms int64) time.Duration {
	return time.Duration(min(ms, maxMillis)) * time.Millisecond
}
