// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"

	"golang.org/x/sync/semaphore"
)

// How long a failure is also the answer to later requests: a fault of the network for those that
// have waited for it, a refusal for longer, and a lack of permissions until they may have been
// granted.
const (
	failureLasts  = 3 * time.Second
	refusalLasts  = 30 * time.Second
	noRightsLasts = time.Hour
)

// entry is what memory has of one taxpayer. Its lock is for reading, refreshing and logging in.
type entry struct {
	lock *semaphore.Weighted
	// used is when the entry was last asked for; the manager's mutex guards it.
	used time.Time

	mu          sync.Mutex
	current     *Session
	loaded      bool
	refused     string // the number of the session that KSeF refused last
	failure     error
	failureEnds time.Time
	failedAt    time.Time // also where the caller has left

	// unstored are sessions in KSeF that storage does not have. None is ended before endNext.
	unstored []unstored
	endNext  time.Time
}

func (s *entry) get() *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *entry) set(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.loaded, s.failure = session, true, nil
}

func (s *entry) isAlive() bool {
	session := s.get()
	return session != nil && time.Now().Before(session.Refresh.ValidUntil)
}

// refuse marks a session as one that KSeF no longer accepts.
func (s *entry) refuse(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = session.ReferenceNumber
}

func (s *entry) isRefused(session *Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused == session.ReferenceNumber
}

// markReplaced marks the access token as the replacement of one that KSeF has refused.
func (s *entry) markReplaced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		replaced := *s.current
		replaced.replaced = true
		s.current = &replaced
	}
}

func (s *entry) isLoaded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded
}

func (s *entry) finishLoad(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = true
	if s.current == nil {
		s.current = session
	}
}

// fail remembers why there is no session, unless it is because the caller has left.
func (s *entry) fail(ctx context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.failedAt = now
	if ctx.Err() != nil {
		return
	}
	lasts := failureLasts
	var login *client.LoginError
	var input *client.InputError
	var address *AddressError
	switch {
	case errors.As(err, &login) && login.Status.Code == client.LoginWithoutPermission:
		lasts = noRightsLasts
		err = fmt.Errorf("%w This is answered from memory until %s; to have KSeF asked again at once, write config: vault write -f <mount>/config",
			err, now.Add(lasts).UTC().Format(time.RFC3339))
	case errors.As(err, &login) || errors.As(err, &input) || errors.As(err, &address) || client.IsRefusal(err):
		lasts = refusalLasts
	}
	s.failure, s.failureEnds = err, now.Add(lasts)
}

func (s *entry) recentFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.failureEnds) {
		return s.failure
	}
	return nil
}

// addUnstored returns the oldest numbers beyond maxUnstored.
func (s *entry) addUnstored(one unstored) (dropped []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.unstored, func(known unstored) bool { return known.number == one.number }) {
		return nil
	}
	s.unstored = append(s.unstored, one)
	for _, oldest := range s.unstored[:max(0, len(s.unstored)-maxUnstored)] {
		dropped = append(dropped, oldest.number)
	}
	return dropped
}

func (s *entry) keepUnstored(number string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.unstored {
		if s.unstored[i].number == number {
			s.unstored[i].kept = true
		}
	}
}

// dropUnstored returns false where the number is not among the unstored.
func (s *entry) dropUnstored(number string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.unstored)
	s.unstored = slices.DeleteFunc(s.unstored, func(known unstored) bool { return known.number == number })
	return len(s.unstored) < before
}

func (s *entry) listUnstored() []unstored {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.unstored)
}

// markLost marks an unstored session as not used.
func (s *entry) markLost(number string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.unstored {
		if s.unstored[i].number == number {
			s.unstored[i].lost = true
		}
	}
}

func (s *entry) mayEnd() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unstored) > 0 && !time.Now().Before(s.endNext)
}

func (s *entry) pauseEnding() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endNext = time.Now().Add(retryEnding)
}
