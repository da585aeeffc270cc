// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import "time"

// settle decides the logins whose time has come. Every request does so before anything else: so a
// login is decided by how things stood then, whatever the request and later ones change, and stays
// as it was decided. The caller holds the lock.
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
		l.failure, l.decided = s.outcomeOf(l, at), true
	}
}

// decisionTime is when a login is decided: after the login delay, and not while its token is still
// Pending. The official Java client's KsefTokenIntegrationTest logs in with a token without waiting
// for it to become Active. A token that is revoked before that is waited for no longer.
func (s *Simulator) decisionTime(l *login) time.Time {
	token := s.store.Tokens[l.token]
	if token == nil || l.failure != nil {
		return l.due
	}
	settled := token.decided
	if !token.revoked.IsZero() && token.revoked.Before(settled) {
		settled = token.revoked
	}
	if settled.After(l.due) {
		return settled
	}
	return l.due
}

// judge returns how a login ends that is decided at a time; nil when it succeeds. The caller holds
// the lock.
func (s *Simulator) outcomeOf(l *login, at time.Time) *statusInfo {
	token := s.store.Tokens[l.token]
	failure := l.failure
	switch {
	case failure != nil: // known since it was submitted
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
		token.lastUse = at
	case l.issued != nil:
		l.issued.lastUse = at
	}
	return nil
}
