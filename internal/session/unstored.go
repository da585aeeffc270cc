// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
)

// UnstoredPrefix is where the numbers of sessions lie whose tokens are not in storage: those of
// logins in progress, and lost ones. UnstoredAccessPrefix is the same for sessions below
// AccessPrefix. They are no secret.
const (
	UnstoredPrefix       = "unstored-sessions/"
	UnstoredAccessPrefix = "unstored-access-sessions/"
)

const (
	// loginsEndWithin is the age from which an unstored session belongs to no login in progress.
	loginsEndWithin = 5 * time.Minute
	// sessionsLast is more than the 7 days of KSeF's sessions.
	sessionsLast = 8 * 24 * time.Hour
	// endedShown is how long storage keeps a session that has expired.
	endedShown = 24 * time.Hour
	// retryEnding is the pause after a failure to end a session.
	retryEnding = 10 * time.Minute
	// maxUnstored bounds the numbers of one taxpayer.
	maxUnstored = 20
)

// unstored is a session in KSeF whose tokens are not in storage.
type unstored struct {
	Version int       `json:"version"`
	API     string    `json:"api"`
	Subject string    `json:"author,omitempty"`
	Since   time.Time `json:"since"`

	number string
	// kept says that storage has the number.
	kept bool
	// lost says that it is not used, as its login has failed or it has been replaced.
	lost bool
}

func unstoredKey(taxpayer client.ContextIdentifier, number string) string {
	return taxpayer.String() + "/" + number
}

// markUnstored remembers a session until it is stored or ended.
func (m *Manager) markUnstored(ctx context.Context, s *entry, session *Session) {
	for _, dropped := range s.addUnstored(newUnstored(session)) {
		m.forgetUnstored(ctx, s, session.Context, dropped)
	}
	m.saveUnstored(ctx, s, session.Context, newUnstored(session))
}

func newUnstored(session *Session) unstored {
	return unstored{Version: storedVersion, API: session.API, Subject: session.Subject, Since: time.Now().UTC(), number: session.ReferenceNumber}
}

// saveUnstored stores a number.
func (m *Manager) saveUnstored(ctx context.Context, s *entry, taxpayer client.ContextIdentifier, one unstored) {
	entry, err := logical.StorageEntryJSON(unstoredKey(taxpayer, one.number), one)
	if err == nil {
		err = m.numbers.Put(ctx, entry)
	}
	if err != nil {
		m.Logger.Warn("the number of a KSeF session could not be stored; should it be lost, it stays open for 7 days",
			"context", taxpayer, "session", one.number, "error", err)
		return
	}
	s.change(one.number, func(one *unstored) { one.kept = true })
}

// SaveUnstored tries again to store the numbers that could not be stored. It is for a manager that
// is about to be replaced by another of the same storage.
func (m *Manager) SaveUnstored(ctx context.Context) {
	for taxpayer, s := range m.entries() {
		for _, one := range s.listUnstored() {
			if !one.kept {
				m.saveUnstored(ctx, s, taxpayer, one)
			}
		}
	}
}

// TakeUnstored takes over the numbers of a manager of the same storage that is never put in force:
// this manager may have read storage before.
func (m *Manager) TakeUnstored(ctx context.Context, from *Manager) {
	for taxpayer, left := range from.entries() {
		for _, one := range left.listUnstored() {
			if one.API != m.API {
				continue
			}
			s := m.entry(taxpayer)
			for _, dropped := range s.addUnstored(one) {
				m.forgetUnstored(ctx, s, taxpayer, dropped)
			}
		}
	}
}

func (m *Manager) deleteUnstored(ctx context.Context, taxpayer client.ContextIdentifier, number string) {
	if err := m.numbers.Delete(ctx, unstoredKey(taxpayer, number)); err != nil {
		m.Logger.Warn("the number of a KSeF session could not be forgotten", "context", taxpayer, "session", number, "error", err)
	}
}

// Lost marks the session of a login as lost, so that it is ended after the next one. kept says that
// it is the one that is stored, and not lost.
func (m *Manager) Lost(ctx context.Context, session *Session) (kept bool, err error) {
	known, err := m.Known(ctx, session.Context)
	if err != nil || (known != nil && known.ReferenceNumber == session.ReferenceNumber) {
		return err == nil, err
	}
	s := m.entry(session.Context)
	m.markUnstored(ctx, s, session)
	s.markLost(session.ReferenceNumber)
	return false, nil
}

// retire marks a session as no longer used. It may still be open in KSeF, also where KSeF has
// refused its tokens.
func (m *Manager) retire(ctx context.Context, s *entry, before *Session) {
	if before.IsAlive() {
		m.markUnstored(ctx, s, before)
		s.markLost(before.ReferenceNumber)
	}
}

// store stores a session under one of the manager's fingerprints. It marks the one that it
// overwrites as lost, such as an unfinished deletion of config has left, and returns it, nil for
// none.
func (m *Manager) store(ctx context.Context, fingerprint string, session *Session) (before *Session, err error) {
	before, err = load(ctx, m.sessions, fingerprint, session.Context)
	if err != nil {
		return nil, err
	}
	s := m.entry(session.Context)
	if !before.IsAlive() || before.ReferenceNumber == session.ReferenceNumber {
		before = nil
	}
	if before != nil {
		m.markUnstored(ctx, s, before)
	}
	if err := save(ctx, m.sessions, fingerprint, session); err != nil {
		return nil, err
	}
	if before != nil {
		s.markLost(before.ReferenceNumber)
	}
	m.forgetUnstored(ctx, s, session.Context, session.ReferenceNumber)
	return before, nil
}

// forgetUnstored drops the number of a session that is stored or has ended.
func (m *Manager) forgetUnstored(ctx context.Context, s *entry, taxpayer client.ContextIdentifier, number string) {
	if s.dropUnstored(number) {
		m.deleteUnstored(ctx, taxpayer, number)
	}
}

// loadUnstored reads the numbers that another process has left.
func (m *Manager) loadUnstored(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) error {
	numbers, err := m.numbers.List(ctx, unstoredKey(taxpayer, ""))
	if err != nil {
		return fmt.Errorf("listing the sessions of %s that are not stored: %w", taxpayer, err)
	}
	for _, number := range numbers {
		one, err := readUnstored(ctx, m.numbers, unstoredKey(taxpayer, number))
		if err != nil {
			return err
		}
		one.kept = true
		s.addUnstored(one)
	}
	return nil
}

// endUnstored ends the taxpayer's lost sessions under the one that works. Those that cannot be
// ended are tried again later.
func (m *Manager) endUnstored(ctx context.Context, s *entry) {
	session := s.get()
	if session == nil || time.Now().Before(s.endNext) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	for _, one := range s.listUnstored() {
		switch ended, err := m.endOne(ctx, session, one); {
		case err != nil:
			m.Logger.Warn("a KSeF session that is no longer used could not be ended yet", "context", session.Context, "session", one.number, "error", err)
			s.endNext = time.Now().Add(retryEnding)
			return
		case ended:
			m.forgetUnstored(ctx, s, session.Context, one.number)
		}
	}
}

// endOne ends an unstored session if it is lost. ended is false for one that must stay.
func (m *Manager) endOne(ctx context.Context, session *Session, one unstored) (ended bool, err error) {
	age := time.Since(one.Since)
	switch {
	case age > sessionsLast:
		return true, nil
	case one.number == session.ReferenceNumber, one.API != "" && one.API != session.API, !one.lost && age < loginsEndWithin:
		return false, nil
	case one.Subject != "" && one.Subject != session.Subject:
		return false, nil // KSeF lets only its own subject end it
	}
	if stored, err := m.isStored(ctx, session.Context, one.number); err != nil || stored {
		return stored, err // only its number was not forgotten
	}
	err = m.limitedClient(session.Context).WithTokenSource(session.Access.Token).EndSessionByNumber(ctx, one.number)
	if err != nil && (!hasEnded(err) || client.IsUnauthorized(err)) {
		return false, err
	}
	m.Logger.Info("ended a KSeF session that was no longer used", "context", session.Context, "session", one.number)
	return true, nil
}

func (m *Manager) isStored(ctx context.Context, taxpayer client.ContextIdentifier, number string) (bool, error) {
	for _, fingerprint := range []string{m.ConfigFingerprint, m.ExternalFingerprint} {
		session, err := load(ctx, m.sessions, fingerprint, taxpayer)
		if err != nil {
			return false, err
		}
		if session != nil && session.ReferenceNumber == number {
			return true, nil
		}
	}
	return false, nil
}

// DropUnstored deletes the numbers of expired sessions, whose taxpayers may never be used again.
func DropUnstored(ctx context.Context, storage logical.Storage) error {
	return errors.Join(dropUnstored(ctx, storage, UnstoredPrefix), dropUnstored(ctx, storage, UnstoredAccessPrefix))
}

func dropUnstored(ctx context.Context, storage logical.Storage, prefix string) error {
	// Not CollectKeysWithPrefix, which goes through all of the storage.
	view := logical.NewStorageView(storage, prefix)
	keys, err := logical.CollectKeys(ctx, view)
	if err != nil {
		return fmt.Errorf("listing the sessions that are not stored: %w", err)
	}
	failures := make([]error, 0, len(keys))
	for _, key := range keys {
		one, err := readUnstored(ctx, view, key)
		if err == nil && (one.Version != storedVersion || time.Since(one.Since) > sessionsLast) {
			err = view.Delete(ctx, key)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// DropEnded deletes sessions that expired more than a day ago, whose taxpayers may never be used
// again.
func DropEnded(ctx context.Context, storage logical.Storage) error {
	return errors.Join(dropEnded(ctx, storage, StoragePrefix), dropEnded(ctx, storage, AccessPrefix))
}

func dropEnded(ctx context.Context, storage logical.Storage, prefix string) error {
	view := logical.NewStorageView(storage, prefix)
	keys, err := logical.CollectKeys(ctx, view)
	if err != nil {
		return fmt.Errorf("listing sessions: %w", err)
	}
	failures := make([]error, 0, len(keys))
	for _, key := range keys {
		session, err := read(ctx, view, key)
		if err == nil && session != nil && time.Since(session.Refresh.ValidUntil) > endedShown {
			err = view.Delete(ctx, key)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// readUnstored takes an entry that cannot be decoded for one of no login in progress: its key has
// the number.
func readUnstored(ctx context.Context, storage logical.Storage, key string) (unstored, error) {
	entry, err := storage.Get(ctx, key)
	if err != nil {
		return unstored{}, fmt.Errorf("reading the number of a session: %w", err)
	}
	var one unstored
	if entry == nil || entry.DecodeJSON(&one) != nil || one.Version != storedVersion {
		one = unstored{Since: time.Now().Add(-loginsEndWithin)}
	}
	one.number = path.Base(key)
	return one, nil
}
