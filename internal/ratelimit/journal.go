// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Journal stores the state of one limiter across restarts.
type Journal interface {
	// Load returns what was saved last, or nil.
	Load(ctx context.Context) ([]byte, error)
	// Save replaces it. It is never called twice at the same time.
	Save(ctx context.Context, data []byte) error
}

const (
	recordVersion = 1
	// maxPending bounds what a damaged journal makes decode allocate. No limiter has so many
	// requests in flight.
	maxPending = 1 << 16
	// maxMillis is a hundred years. Longer times are cut to it, so that their sums fit a
	// time.Duration.
	maxMillis = 100 * 365 * 24 * 3600 * 1000
)

// record is what a journal stores. All times but Saved are in milliseconds before or after Saved,
// rounded so that a request looks younger and a block longer.
type record struct {
	Version   int                      `json:"version"`
	Limiter   string                   `json:"account"`
	Saved     int64                    `json:"saved"`           // milliseconds since 1970
	Clock     string                   `json:"clock,omitempty"` // the clock that Saved was read from
	Endpoints map[string]endpointEntry `json:"endpoints"`
}

type endpointEntry struct {
	sentRequests
	Others  map[string]sentRequests `json:"others,omitempty"`  // of other limiters of the key
	Blocked int64                   `json:"blocked,omitempty"` // after Saved
	Limits  *reportedLimits         `json:"limits,omitempty"`
}

// sentRequests are the requests of one limiter.
type sentRequests struct {
	Ages    []int64 `json:"ages,omitempty"`    // of ended requests; negative where KSeF may count one later
	Pending int     `json:"pending,omitempty"` // requests that may have been sent, or may be before the next write
}

type reportedLimits struct {
	Limits
	Age int64 `json:"age"`
}

// decode reads a record; nil data is an empty one.
func decode(data []byte) (record, error) {
	r := record{Version: recordVersion}
	if data == nil {
		return r, nil
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("decoding the journal of KSeF's request limits: %w", err)
	}
	if err := r.check(); err != nil {
		return record{}, fmt.Errorf("the journal of KSeF's request limits cannot be used, delete it when no request has been sent for an hour: %w", err)
	}
	return r, nil
}

func (r record) check() error {
	if r.Version != recordVersion {
		return fmt.Errorf("its version is %d, known is %d", r.Version, recordVersion)
	}
	if r.Limiter == "" || r.Saved < 0 || r.Saved > maxMillis {
		return errors.New("account or saved is missing or out of range")
	}
	for name, e := range r.Endpoints {
		if err := e.check(); err != nil {
			return fmt.Errorf("endpoint %q: %w", name, err)
		}
	}
	return nil
}

func (e endpointEntry) check() error {
	for _, s := range append(slices.Collect(maps.Values(e.Others)), e.sentRequests) {
		if err := s.check(); err != nil {
			return err
		}
	}
	if e.Blocked < 0 {
		return fmt.Errorf("blocked is %d, must not be negative", e.Blocked)
	}
	if e.Limits != nil && (e.Limits.Age < 0 || e.Limits.Limits != e.Limits.withoutNegatives()) {
		return errors.New("limits must not be negative")
	}
	return nil
}

func (s sentRequests) check() error {
	if s.Pending < 0 || s.Pending > maxPending {
		return fmt.Errorf("pending is %d, must be 0 to %d", s.Pending, maxPending)
	}
	for _, age := range s.Ages {
		if age < -maxTransit.Milliseconds() {
			return fmt.Errorf("an age is %d, must not be below -%d", age, maxTransit.Milliseconds())
		}
	}
	return nil
}

// snapshot returns the state to save. Requests in flight, reserved, or about to be reserved are
// pending in it.
func (l *Limiter) snapshot(now time.Time) record {
	r := record{
		Version:   recordVersion,
		Limiter:   l.id,
		Saved:     ceilMillis(time.Duration(now.UnixNano())),
		Clock:     l.pool.registry.clock,
		Endpoints: map[string]endpointEntry{},
	}
	for name, e := range l.pool.endpoints {
		if stored, known := l.entry(e, now); known {
			r.Endpoints[name] = stored
		}
	}
	return r
}

func (l *Limiter) entry(e *endpoint, now time.Time) (stored endpointEntry, known bool) {
	if e.limits.any() {
		r := l.reservation(e)
		stored.Pending = r.inFlight + r.reserved
		if r.waiting > 0 && !l.closed {
			stored.Pending += reserveAhead
		}
		e.prune(now)
		for _, s := range e.counted(now) {
			age := floorMillis(now.Sub(s.at))
			if s.limiter == l.id {
				stored.Ages = append(stored.Ages, age)
			} else {
				stored.add(s.limiter, sentRequests{Ages: []int64{age}})
			}
		}
		for id, other := range l.pool.limiters {
			if r := other.reservations[e]; other != l && r != nil && r.inFlight > 0 {
				stored.add(id, sentRequests{Pending: r.inFlight})
			}
		}
	}
	if e.blocked.After(now) {
		stored.Blocked = ceilMillis(e.blocked.Sub(now))
	}
	if !e.limitsSet.IsZero() {
		stored.Limits = &reportedLimits{Limits: e.limits, Age: now.Sub(e.limitsSet).Milliseconds()}
	}
	return stored, stored.Pending > 0 || len(stored.Ages) > 0 || len(stored.Others) > 0 || stored.Blocked > 0 || stored.Limits != nil
}

func (e *endpointEntry) add(other string, more sentRequests) {
	if e.Others == nil {
		e.Others = map[string]sentRequests{}
	}
	s := e.Others[other]
	s.Ages, s.Pending = append(s.Ages, more.Ages...), s.Pending+more.Pending
	e.Others[other] = s
}

// maxTransit is the default request timeout. KSeF may count a request of a crashed process so long
// after the next start, and one that was given up so long after its sending: the kernel delivers
// what was written, and KSeF decides when to read it.
const maxTransit = 30 * time.Second

// restore adds the journal's requests to the windows. Pending ones leave room for themselves in
// each second until the last of them has arrived, and count from then on.
func (l *Limiter) restore(r record) {
	now := time.Now()
	since := l.pool.registry.elapsed(r, now)
	for name, stored := range r.Endpoints {
		l.pool.endpoint(name).merge(stored, now, since)
		if stored.Pending > 0 {
			l.pool.version++
		}
	}
	for name, e := range l.pool.endpoints {
		stored := r.Endpoints[name]
		e.replace(l.id, stored.times(l.id, now, since))
		for other, theirs := range stored.Others {
			if l.pool.limiters[other] == nil {
				e.replaceIfMore(other, theirs.times(other, now, since))
			}
		}
		e.dispatch(now)
	}
}

// merge takes the later block and the newer limits.
func (e *endpoint) merge(stored endpointEntry, now time.Time, since time.Duration) {
	if stored.Blocked > 0 {
		e.blocked = later(e.blocked, now.Add(millis(stored.Blocked)-since))
	}
	if stored.Limits == nil {
		return
	}
	if reported := now.Add(-millis(stored.Limits.Age) - since); reported.After(e.limitsSet) {
		e.limits, e.limitsSet = stored.Limits.Limits, reported
	}
}

func (s sentRequests) times(limiter string, now time.Time, since time.Duration) []sentAt {
	var times []sentAt
	for _, age := range s.Ages {
		times = append(times, sentAt{at: now.Add(-millis(age) - since), limiter: limiter})
	}
	return append(times, slices.Repeat([]sentAt{{at: now.Add(maxTransit), limiter: limiter}}, s.Pending)...)
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

// clockAllowance is how far this clock may be ahead of the clock of the node that wrote a journal,
// without shortening its windows. The price is that windows and blocks last so much longer after
// each change of node.
const clockAllowance = 2 * time.Minute

// clockID identifies the machine's clock: it changes with each boot. It is empty where it is
// unknown.
func clockID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// elapsed is the time since the record was saved, as far as it is certain: 0 where the clock was
// set back.
func (r *Registry) elapsed(rec record, now time.Time) time.Duration {
	elapsed := now.Sub(time.UnixMilli(rec.Saved))
	if rec.Clock == "" || rec.Clock != r.clock {
		elapsed -= clockAllowance
	}
	return max(0, elapsed)
}
