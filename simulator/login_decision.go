// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import "time"

// settle decides the logins whose time has come. Every request does so before anything else: so a
// login is decided by how things stood then, whatever the request and later ones change, and stays
// as it was decided. The caller holds the lock.
func (s *Simulator) settle(now time.Time) {
	if len(s.store.undecided) == 0 || now.Before(s.store.decision) {
		return
	}
	all := s.store.undecided
	s.store.undecided = nil
	for _, l := range all {
		at := s.decisionTime(l)
		if now.Before(at) {
			s.store.undecided = append(s.store.undecided, l)
			s.store.expectDecision(at)
			continue
		}
		l.failure, l.decided = s.judge(l, at), true
	}
}

// decisionTime is when a login is decided: after the login delay, and not while its token is still
// Pending. The official Java client's KsefTokenIntegrationTest logs in with a token without waiting
// for it to become Active. A token that is revoked before that is waited for no longer.
func (s *Simulator) decisionTime(l *login) time.Time {
	presented := s.store.tokens[l.token]
	if presented == nil || l.failure != nil {
		return l.due
	}
	settled := presented.decided
	if !presented.revoked.IsZero() && presented.revoked.Before(settled) {
		settled = presented.revoked
	}
	if settled.After(l.due) {
		return settled
	}
	return l.due
}

// judge returns how a login ends that is decided at a time; nil when it succeeds. The caller holds
// the lock.
func (s *Simulator) judge(l *login, at time.Time) *statusInfo {
	presented := s.store.tokens[l.token]
	failure := l.failure
	switch {
	case failure != nil: // known since it was submitted
	case presented != nil:
		failure = s.tokenFailure(presented, at)
	default:
		failure = l.signatureFailure(at)
	}
	if failure == nil {
		failure = s.rightsFailure(l, at)
	}
	switch {
	case failure != nil:
		return failure
	case presented != nil:
		presented.lastUse = at
	case l.issued != nil:
		l.issued.lastUse = at
	}
	return nil
}
