// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package simulator is KSeF in a process: logins, sessions, tokens, certificates and permissions as
// KSeF's OpenAPI 2.7.0 describes them.
//
// It is for tests and for people who try the engine. It imports nothing from the rest of the
// module, so that a misreading of the contract shows as a disagreement. Time passes only between
// requests, by the clock of package time plus what Advance has added. There are no goroutines and,
// except for the fault "delay", no timers, so it runs in a testing/synctest bubble. A Simulator is
// safe for concurrent use.
//
// The server is here, with one file per group of endpoints: auth, tokens, certificates,
// permissions, invoicesessions, invoices, limits, security and testdata. Types of requests and
// responses are documented by the name of their schema in the OpenAPI. The packages under internal
// have what KSeF remembers (store), its certificate authority (ca), its rate limits (limits), its
// JWTs (jwt) and the login document (authrequest).
package simulator

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ca"
	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// Simulator is one KSeF environment.
type Simulator struct {
	options   Options
	jwtKey    jwt.Key
	keys      func() (ca.PublicKeys, error)
	authority ca.Authority
	handler   http.Handler
	ahead     atomic.Int64 // how far the clock is ahead of package time, in nanoseconds

	mu           sync.Mutex
	store        *store.Store
	tokenRules   tokenRules
	limitChanges limitChanges
	limiter      *limits.Limiter
	faults       []*Fault
	requests     map[string]map[string]int
}

// New makes a simulator without tokens, certificates or logins. The error names the invalid option.
func New(options Options) (*Simulator, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("simulator options: %w", err)
	}
	s := &Simulator{options: options, jwtKey: jwt.NewKey()}
	s.keys = cmp.Or(options.Keys, newKeys(s.now)).pairs
	s.ahead.Store(int64(options.ClockOffset))
	if s.authority, err = ca.NewAuthority(s.now()); err != nil {
		return nil, err
	}
	s.handler = s.routes()
	s.Reset()
	return s, nil
}

// Handler serves KSeF's API under /v2 and the control of the simulator under /simulator/.
func (s *Simulator) Handler() http.Handler {
	return s.handler
}

// Transport runs requests in the calling goroutine, without sockets. See NewTransport.
func (s *Simulator) Transport() http.RoundTripper {
	return NewTransport(s.handler)
}

// Reset removes all tokens, certificates, logins, grants, test data, counts, faults and blocks, and
// resets the clock and the limits. Access tokens from before are refused afterwards. The public
// keys and the certificate authority remain.
func (s *Simulator) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead.Store(int64(s.options.ClockOffset))
	s.store = store.New()
	s.tokenRules = tokenRules{s.options.Tokens, s.options.TokenValidity}
	s.limitChanges = newLimitChanges()
	s.grantAll(s.options.Grants, s.now())
	s.limiter = limits.New(s.options.Limits)
	s.faults = nil
	s.requests = map[string]map[string]int{}
}

// Advance moves the clock forward. It ignores a negative duration. The clock ends 292 years ahead
// of package time.
func (s *Simulator) Advance(d time.Duration) {
	for {
		ahead := s.ahead.Load()
		further := ahead + int64(max(d, 0))
		if further < ahead { // overflow
			further = math.MaxInt64
		}
		if s.ahead.CompareAndSwap(ahead, further) {
			return
		}
	}
}

// SetClock sets the clock to a time that is not past, and at which the certificate authority is
// still valid.
func (s *Simulator) SetClock(to time.Time) error {
	now, end := s.now(), s.authority.NotAfter()
	switch {
	case to.Before(now):
		return fmt.Errorf("the time %s is past: the clock goes forward only", to.Format(time.RFC3339))
	case to.After(end):
		return fmt.Errorf("the time %s is too far ahead: use one until %s", to.Format(time.RFC3339),
			end.Format(time.RFC3339))
	}
	s.Advance(to.Sub(now))
	return nil
}

// SetLimits replaces the rate limits, also those that POST /testdata/rate-limits has set for a
// context. It ends all blocks and clears the windows.
func (s *Simulator) SetLimits(replacement Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiter = limits.New(replacement)
}

func (s *Simulator) now() time.Time {
	return time.Now().Add(time.Duration(s.ahead.Load())).UTC()
}
