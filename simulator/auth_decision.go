// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// decideLogins decides the logins that are due. Every request calls it first, so the state at the
// due time decides, not what this request or a later one changes. A decision is final. The caller
// holds the lock.
func (s *Simulator) decideLogins(now time.Time) {
	if len(s.store.Undecided) == 0 || now.Before(s.store.NextDecision) {
		return
	}
	all := s.store.Undecided
	s.store.Undecided = nil
	for _, l := range all {
		at := s.decisionTime(l)
		if now.Before(at) {
			s.store.Undecided = append(s.store.Undecided, l)
			s.store.ScheduleDecision(at)
			continue
		}
		l.Failure, l.Decided = s.outcomeOf(l, at), true
	}
}

// decisionTime returns when a login is decided: after the login delay, and not while its token is
// Pending. The official Java client's KsefTokenIntegrationTest logs in with a token without waiting
// for it to become Active. A token that is revoked while Pending ends the wait.
func (s *Simulator) decisionTime(l *store.Login) time.Time {
	token := s.store.Tokens[l.Token]
	if token == nil || l.Failure != nil {
		return l.Due
	}
	decided := token.Decided
	if !token.Revoked.IsZero() && token.Revoked.Before(decided) {
		decided = token.Revoked
	}
	if decided.After(l.Due) {
		return decided
	}
	return l.Due
}

// outcomeOf returns the failure of a login that is decided at a time, or nil. The caller holds the
// lock.
func (s *Simulator) outcomeOf(l *store.Login, at time.Time) *store.StatusInfo {
	token := s.store.Tokens[l.Token]
	failure := l.Failure
	switch {
	case failure != nil: // known since the request
	case token != nil:
		failure = s.tokenFailure(token, at)
	default:
		failure = signatureFailure(l, at)
	}
	if failure == nil {
		failure = s.rightsFailure(l, at)
	}
	switch {
	case failure != nil:
		return failure
	case token != nil:
		token.LastUse = at
	case l.Issued != nil:
		l.Issued.LastUse = at
	}
	return nil
}
