// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"maps"
	"slices"
)

// State is the simulator's state without secrets, for tests and for inspection.
type State struct {
	Tokens       []TokenState       `json:"tokens"`       // oldest first
	Sessions     []SessionState     `json:"sessions"`     // oldest first
	Certificates []CertificateState `json:"certificates"` // issued by KSeF, oldest request first
	Grants       []GrantState       `json:"grants"`       // in force, oldest first
	// InvoiceSessions are the online sessions, oldest first.
	InvoiceSessions []InvoiceSessionState `json:"invoiceSessions"`
	// Requests counts responses by endpoint and status. The status "dropped" is a connection closed
	// without a response.
	Requests map[string]map[string]int `json:"requests"`
}

// TokenState is one token.
type TokenState struct {
	ReferenceNumber      string     `json:"referenceNumber"`
	Status               string     `json:"status"`
	Description          string     `json:"description"`
	ContextIdentifier    Identifier `json:"contextIdentifier"`
	RequestedPermissions []string   `json:"requestedPermissions"`
	DateCreated          string     `json:"dateCreated"`
	ValidUntil           string     `json:"validUntil,omitempty"` // "" for a token that does not expire
}

// SessionState is one login: in progress, failed, active or ended.
type SessionState struct {
	ReferenceNumber      string     `json:"referenceNumber"`
	Status               int        `json:"status"` // 100, 200, 415, 425, 450, 460, 470 or 480
	ContextIdentifier    Identifier `json:"contextIdentifier"`
	Identifier           Identifier `json:"identifier"`           // of the subject that has logged in
	TokenReferenceNumber string     `json:"tokenReferenceNumber"` // "" after a login with a signature
	StartDate            string     `json:"startDate"`
	IsTokenRedeemed      bool       `json:"isTokenRedeemed"`
	Active               bool       `json:"active"` // GET /auth/sessions lists the session
}

// CertificateState is one certificate that KSeF has issued.
type CertificateState struct {
	SerialNumber      string     `json:"certificateSerialNumber"`
	Status            string     `json:"status"` // Active, Blocked, Revoked or Expired
	Name              string     `json:"name"`
	Type              string     `json:"type"` // Authentication or Offline
	SubjectIdentifier Identifier `json:"subjectIdentifier"`
	ValidFrom         string     `json:"validFrom"`
	ValidTo           string     `json:"validTo"`
}

// GrantState is one granted permission.
type GrantState struct {
	PermissionID      string     `json:"permissionId"`
	Permission        string     `json:"permission"`
	Identifier        Identifier `json:"identifier"` // of the subject that has it
	ContextIdentifier Identifier `json:"contextIdentifier"`
	StartDate         string     `json:"startDate"`
}

// InvoiceSessionState is one online session for invoices.
type InvoiceSessionState struct {
	ReferenceNumber   string     `json:"referenceNumber"`
	Status            int        `json:"status"` // 100, 415 or 440
	ContextIdentifier Identifier `json:"contextIdentifier"`
	AuthorIdentifier  Identifier `json:"authorIdentifier"`
	DateCreated       string     `json:"dateCreated"`
	ValidUntil        string     `json:"validUntil"`
}

// State returns a copy of the current state.
func (s *Simulator) State() State {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decideLogins(now)
	state := State{
		Tokens: []TokenState{}, Sessions: []SessionState{}, Certificates: []CertificateState{}, Grants: []GrantState{},
		Requests: map[string]map[string]int{},
	}
	for _, t := range s.store.AllTokens {
		seen := TokenState{
			ReferenceNumber: t.Reference, Status: t.Status(now), Description: t.Description,
			ContextIdentifier:    t.Context,
			RequestedPermissions: slices.Clone(t.Permissions), DateCreated: t.Created.Format(timeLayout),
		}
		if !t.Expires.IsZero() {
			seen.ValidUntil = t.Expires.Format(timeLayout)
		}
		state.Tokens = append(state.Tokens, seen)
	}
	for _, l := range s.store.AllLogins {
		state.Sessions = append(state.Sessions, SessionState{
			ReferenceNumber: l.Reference, Status: l.Status().Code, ContextIdentifier: l.Context,
			Identifier:           l.Identifier,
			TokenReferenceNumber: l.Token, StartDate: l.Started.Format(timeLayout),
			IsTokenRedeemed: !l.Redeemed.IsZero(),
			Active:          l.Active(now),
		})
	}
	for _, e := range s.store.Certificates.All {
		if k := e.Issued(now); k != nil {
			state.Certificates = append(state.Certificates, CertificateState{
				k.Serial, k.Status(now), k.Name, k.Kind, k.Subject,
				k.Leaf.NotBefore.Format(timeLayout), k.ValidTo.Format(timeLayout),
			})
		}
	}
	for _, g := range s.store.Rights.Grants {
		if g.InForce(now) {
			state.Grants = append(state.Grants,
				GrantState{g.ID, g.Permission, g.Holder, g.Context, g.Starts.Format(timeLayout)})
		}
	}
	state.InvoiceSessions = []InvoiceSessionState{}
	for _, i := range s.store.InvoiceSessions.All {
		state.InvoiceSessions = append(state.InvoiceSessions, InvoiceSessionState{
			i.Reference, i.Status(now).Code, i.Context, i.Author, i.Created.Format(timeLayout),
			i.ValidUntil().Format(timeLayout),
		})
	}
	for name, counts := range s.requests {
		state.Requests[name] = maps.Clone(counts)
	}
	return state
}

// SignedRequests returns the last thousand documents sent to POST /auth/xades-signature, as
// received, newest last.
func (s *Simulator) SignedRequests() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	documents := make([][]byte, len(s.store.SignedDocuments))
	for i, document := range s.store.SignedDocuments {
		documents[i] = slices.Clone(document)
	}
	return documents
}
