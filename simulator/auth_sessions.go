// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"vault-plugin-secrets-ksef/simulator/internal/jwt"
)

func (s *Simulator) sessionEndpoints() []endpoint {
	access := []string{jwt.Access}
	return []endpoint{
		{name: "GET /auth/sessions", bearer: access, serve: s.listSessions},
		{name: "DELETE /auth/sessions/current", bearer: []string{jwt.Access, jwt.Refresh}, serve: s.endCurrentSession},
		{name: "DELETE /auth/sessions/{referenceNumber}", bearer: access, serve: s.endSession},
	}
}

// sessionItem is AuthenticationListItem.
type sessionItem struct {
	ReferenceNumber string `json:"referenceNumber"`
	IsCurrent       bool   `json:"isCurrent"`
	operationStatus
}

// sessionList is AuthenticationListResponse.
type sessionList struct {
	ContinuationToken string        `json:"continuationToken,omitempty"`
	Items             []sessionItem `json:"items"`
}

// listSessions serves GET /auth/sessions: the caller's active sessions in its context, newest
// first.
func (s *Simulator) listSessions(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.store.LoginsByOwner[req.login.Owner]
	wanted, refused := req.newPage("sessions", len(own))
	if refused != nil {
		return req.failed(refused)
	}
	positions, next := wanted.pick(func(i int) bool { return own[i].Active(req.now) })
	list := sessionList{ContinuationToken: next, Items: []sessionItem{}}
	for _, i := range positions {
		list.Items = append(list.Items, sessionItem{own[i].Reference, own[i] == req.login, s.operationStatus(own[i])})
	}
	return ok(list)
}

func (s *Simulator) endCurrentSession(req *request) response {
	return s.endOwnSession(req, req.login.Reference)
}

func (s *Simulator) endSession(req *request) response {
	return s.endOwnSession(req, req.PathValue("referenceNumber"))
}

// endOwnSession ends a session of the caller. An inactive session gets the response of an unknown
// one. What KSeF does is not documented.
func (s *Simulator) endOwnSession(req *request, reference string) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.store.Logins[reference]
	if l == nil || l.Owner != req.login.Owner || !l.Active(req.now) {
		return req.failed(badInput("Sesja o numerze referencyjnym %s nie istnieje albo nie jest aktywna.", reference))
	}
	l.Revoked = true
	return noContent()
}
