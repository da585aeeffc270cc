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
	lock    *semaphore.Weighted // guards the three fields below
	loaded  bool                // from storage
	refused string              // the number of the session that KSeF refused last
	endNext time.Time           // when unstored sessions may be ended again

	// used is when the entry was last asked for; the manager's mutex guards it.
	used time.Time

	mu          sync.Mutex // guards the fields below
	current     *Session
	failure     error
	failureEnds time.Time
	failedAt    time.Time  // also where the caller has left
	unstored    []unstored // sessions in KSeF that storage does not have
}

func (s *entry) get() *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *entry) set(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.failure = session, nil
}

// fail remembers why there is no session, unless it is because the caller has left. It returns err.
func (s *entry) fail(ctx context.Context, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.failedAt = now
	if ctx.Err() != nil {
		return err
	}
	lasts, remembered := failureLasts, err
	login, decided := errors.AsType[*client.LoginError](err)
	switch {
	case decided && login.Status.Code == client.LoginWithoutPermission:
		lasts = noRightsLasts
		remembered = fmt.Errorf("%w This is answered from memory until %s; to have KSeF asked again at once, write config: vault write -f <mount>/config",
			err, now.Add(lasts).UTC().Format(time.RFC3339))
	case decided || errors.As(err, new(*client.InputError)) || errors.As(err, new(*AddressError)) || client.IsRefusal(err):
		lasts = refusalLasts
	}
	s.failure, s.failureEnds = remembered, now.Add(lasts)
	return err
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

// change changes what is known of an unstored session.
func (s *entry) change(number string, change func(*unstored)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.unstored {
		if s.unstored[i].number == number {
			change(&s.unstored[i])
		}
	}
}

// markLost marks an unstored session as not used.
func (s *entry) markLost(number string) {
	s.change(number, func(one *unstored) { one.lost = true })
}
