// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"fmt"
	"net/http"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
)

// invoiceSessionLifetime is how long an online session stays open: that of the example of GET
// /sessions in OpenAPI 2.7.0.
const invoiceSessionLifetime = 12 * time.Hour

// Permissions that open operations of invoice sessions.
const (
	invoiceWrite    = "InvoiceWrite"
	pefInvoiceWrite = "PefInvoiceWrite"
	introspection   = "Introspection"
)

// invoiceSessionEndpoints are those of invoice sessions as far as rights can be seen in them.
// Invoices are not taken.
func (s *Simulator) invoiceSessionEndpoints() []endpoint {
	access := []string{jwt.Access}
	toSend := []string{invoiceWrite, pefInvoiceWrite, enforcementOperations}
	toSee := []string{invoiceWrite, introspection, pefInvoiceWrite, enforcementOperations}
	toList := []string{invoiceWrite, introspection, enforcementOperations}
	toBatch := []string{invoiceWrite, enforcementOperations}
	return []endpoint{
		{
			name: "POST /sessions/online", group: limits.GroupOnlineSession,
			bearer: access, requires: toSend, serve: s.openInvoiceSession,
		},
		{
			name: "POST /sessions/online/{referenceNumber}/close", group: limits.GroupOnlineSessionClose,
			bearer: access, requires: toSend, serve: s.closeInvoiceSession,
		},
		{
			name: "POST /sessions/online/{referenceNumber}/invoices", group: limits.GroupInvoiceSend,
			bearer: access, requires: toSend, serve: s.sendInvoice,
		},
		{
			name: "GET /sessions", group: limits.GroupSessionList,
			bearer: access, requires: toList, serve: s.listInvoiceSessions,
		},
		{
			name: "GET /sessions/{referenceNumber}", group: limits.GroupSessionMisc,
			bearer: access, requires: toSee, serve: s.invoiceSessionStatus,
		},
		{
			name: "POST /sessions/batch", group: limits.GroupBatchSession,
			bearer: access, requires: toBatch, serve: s.refuseBatchSession,
		},
		{
			name: "POST /sessions/batch/{referenceNumber}/close", group: limits.GroupBatchSessionClose,
			bearer: access, requires: toBatch, serve: s.refuseBatchSession,
		},
	}
}

// InvoiceSession is an online session. Its status follows from the times.
type InvoiceSession struct {
	Reference string
	Context   ksef.Identifier
	Author    ksef.Identifier
	Created   time.Time
	Closed    time.Time   // zero until it is closed by a request
	Failure   *StatusInfo // nil when the key could be read
}

// InvoiceSessions is what KSeF remembers of online sessions.
type InvoiceSessions struct {
	ByReference map[string]*InvoiceSession
	ByContext   map[ksef.Identifier][]*InvoiceSession // per context, oldest first
	All         []*InvoiceSession
}

func newInvoiceSessions() InvoiceSessions {
	return InvoiceSessions{ByReference: map[string]*InvoiceSession{}, ByContext: map[ksef.Identifier][]*InvoiceSession{}}
}

func (s *InvoiceSessions) Add(opened *InvoiceSession) {
	s.ByReference[opened.Reference] = opened
	s.ByContext[opened.Context] = append(s.ByContext[opened.Context], opened)
	s.All = append(s.All, opened)
}

func (i *InvoiceSession) ValidUntil() time.Time { return i.Created.Add(invoiceSessionLifetime) }

// Ended returns when a session was closed, by a request or by its time; zero while it is open.
func (i *InvoiceSession) Ended(now time.Time) time.Time {
	switch {
	case i.Failure != nil:
		return i.Created
	case i.Closed.IsZero() && !now.Before(i.ValidUntil()):
		return i.ValidUntil()
	}
	return i.Closed
}

func (i *InvoiceSession) Updated(now time.Time) time.Time {
	if ended := i.Ended(now); !ended.IsZero() {
		return ended
	}
	return i.Created
}

// Codes of SessionStatusResponse.
const (
	InvoiceSessionOpen      = 100
	InvoiceSessionBadKey    = 415
	InvoiceSessionCancelled = 440
)

// Status is that of a session without invoices: there are no others here.
func (i *InvoiceSession) Status(now time.Time) StatusInfo {
	switch {
	case i.Failure != nil:
		return *i.Failure
	case i.Ended(now).IsZero():
		return StatusInfo{Code: InvoiceSessionOpen, Description: "Sesja interaktywna otwarta"}
	}
	return StatusInfo{InvoiceSessionCancelled, "Sesja anulowana", []string{"Nie przesłano faktur"}}
}

// ownOpenInvoiceSession returns the session of the path if the caller is its author, under this
// login or another (official IntrospectionPermissionIntegrationTests), and it is open. prevented is
// what its status prevents otherwise. The caller holds the lock.
func (s *Simulator) ownOpenInvoiceSession(req *request, prevented string) (*InvoiceSession, *response) {
	known, refused := s.findInvoiceSession(req, "odnaleziona")
	if refused != nil {
		return nil, refused
	}
	if known.Author != req.login.Identifier {
		// That it is refused is from the official tests; with which reason is not documented.
		refused := req.insufficientAccess()
		return nil, &refused
	}
	if status := known.Status(req.now); status.Code != InvoiceSessionOpen {
		refused := req.failed(&apiError{21180, "Status sesji nie pozwala na wykonanie operacji.",
			[]string{fmt.Sprintf("Status sesji %d uniemożliwia %s.", status.Code, prevented)}})
		return nil, &refused
	}
	return known, nil
}

// findInvoiceSession returns the session of the path. One of another context is not known in this
// one. found is the last word of KSeF's sentence for an unknown one, which differs between
// operations. The caller holds the lock.
func (s *Simulator) findInvoiceSession(req *request, found string) (*InvoiceSession, *response) {
	reference, wrong := req.reference()
	if wrong != nil {
		refused := req.failed(wrong)
		return nil, &refused
	}
	known := s.store.InvoiceSessions.ByReference[reference]
	if known == nil || known.Context != req.login.Context {
		refused := req.failed(&apiError{21173, "Brak sesji o wskazanym numerze referencyjnym.",
			[]string{"Sesja o numerze referencyjnym " + reference + " nie została " + found + "."}})
		return nil, &refused
	}
	return known, nil
}

// closeInvoiceSession is POST /sessions/online/{referenceNumber}/close.
func (s *Simulator) closeInvoiceSession(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, refused := s.ownOpenInvoiceSession(req, "jej zamknięcie")
	if refused != nil {
		return *refused
	}
	known.Closed = req.now
	return noContent()
}

// sendInvoice is POST /sessions/online/{referenceNumber}/invoices: refused as KSeF refuses, else
// not implemented.
func (s *Simulator) sendInvoice(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, refused := s.ownOpenInvoiceSession(req, "wysyłkę faktur"); refused != nil {
		return *refused
	}
	return req.plainFailure(http.StatusNotImplemented, "Symulator nie przyjmuje faktur.")
}

// refuseBatchSession answers the operations of batch sessions.
func (s *Simulator) refuseBatchSession(req *request) response {
	return req.plainFailure(http.StatusNotImplemented, "Symulator nie obsługuje sesji wsadowych.")
}
