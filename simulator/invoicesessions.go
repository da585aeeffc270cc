// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"fmt"
	"net/http"
	"time"
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
	access := []string{accessJWT}
	toSend := []string{invoiceWrite, pefInvoiceWrite, enforcementOperations}
	toSee := []string{invoiceWrite, introspection, pefInvoiceWrite, enforcementOperations}
	toList := []string{invoiceWrite, introspection, enforcementOperations}
	toBatch := []string{invoiceWrite, enforcementOperations}
	return []endpoint{
		{
			name: "POST /sessions/online", group: groupOnlineSession,
			bearer: access, requires: toSend, serve: s.openInvoiceSession,
		},
		{
			name: "POST /sessions/online/{referenceNumber}/close", group: groupOnlineSessionClose,
			bearer: access, requires: toSend, serve: s.closeInvoiceSession,
		},
		{
			name: "POST /sessions/online/{referenceNumber}/invoices", group: groupInvoiceSend,
			bearer: access, requires: toSend, serve: s.sendInvoice,
		},
		{
			name: "GET /sessions", group: groupSessionList,
			bearer: access, requires: toList, serve: s.listInvoiceSessions,
		},
		{
			name: "GET /sessions/{referenceNumber}", group: groupSessionMisc,
			bearer: access, requires: toSee, serve: s.invoiceSessionStatus,
		},
		{
			name: "POST /sessions/batch", group: groupBatchSession,
			bearer: access, requires: toBatch, serve: s.refuseBatchSession,
		},
		{
			name: "POST /sessions/batch/{referenceNumber}/close", group: groupBatchSessionClose,
			bearer: access, requires: toBatch, serve: s.refuseBatchSession,
		},
	}
}

// invoiceSession is an online session. Its status follows from the times.
type invoiceSession struct {
	reference string
	context   Identifier
	author    Identifier
	created   time.Time
	closed    time.Time   // zero until it is closed by a request
	failure   *statusInfo // nil when the key could be read
}

// invoiceSessionStore is what KSeF remembers of online sessions.
type InvoiceSessions struct {
	ByReference map[string]*invoiceSession
	ByContext   map[Identifier][]*invoiceSession // per context, oldest first
	All         []*invoiceSession
}

func newInvoiceSessionStore() InvoiceSessions {
	return InvoiceSessions{ByReference: map[string]*invoiceSession{}, ByContext: map[Identifier][]*invoiceSession{}}
}

func (s *InvoiceSessions) add(opened *invoiceSession) {
	s.ByReference[opened.reference] = opened
	s.ByContext[opened.context] = append(s.ByContext[opened.context], opened)
	s.All = append(s.All, opened)
}

func (i *invoiceSession) validUntil() time.Time { return i.created.Add(invoiceSessionLifetime) }

// ended returns when a session was closed, by a request or by its time; zero while it is open.
func (i *invoiceSession) ended(now time.Time) time.Time {
	switch {
	case i.failure != nil:
		return i.created
	case i.closed.IsZero() && !now.Before(i.validUntil()):
		return i.validUntil()
	}
	return i.closed
}

func (i *invoiceSession) updated(now time.Time) time.Time {
	if ended := i.ended(now); !ended.IsZero() {
		return ended
	}
	return i.created
}

// Codes of SessionStatusResponse.
const (
	invoiceSessionOpen      = 100
	invoiceSessionBadKey    = 415
	invoiceSessionCancelled = 440
)

// status is that of a session without invoices: there are no others here.
func (i *invoiceSession) status(now time.Time) statusInfo {
	switch {
	case i.failure != nil:
		return *i.failure
	case i.ended(now).IsZero():
		return statusInfo{Code: invoiceSessionOpen, Description: "Sesja interaktywna otwarta"}
	}
	return statusInfo{invoiceSessionCancelled, "Sesja anulowana", []string{"Nie przesłano faktur"}}
}

// ownOpenInvoiceSession returns the session of the path if the caller is its author, under this
// login or another (official IntrospectionPermissionIntegrationTests), and it is open. prevented is
// what its status prevents otherwise. The caller holds the lock.
func (s *Simulator) ownOpenInvoiceSession(req *request, prevented string) (*invoiceSession, *response) {
	known, refused := s.findInvoiceSession(req, "odnaleziona")
	if refused != nil {
		return nil, refused
	}
	if known.author != req.login.identifier {
		// That it is refused is from the official tests; with which reason is not documented.
		refused := req.insufficientAccess()
		return nil, &refused
	}
	if status := known.status(req.now); status.Code != invoiceSessionOpen {
		refused := req.failed(&apiError{21180, "Status sesji nie pozwala na wykonanie operacji.",
			[]string{fmt.Sprintf("Status sesji %d uniemożliwia %s.", status.Code, prevented)}})
		return nil, &refused
	}
	return known, nil
}

// findInvoiceSession returns the session of the path. One of another context is not known in this
// one. found is the last word of KSeF's sentence for an unknown one, which differs between
// operations. The caller holds the lock.
func (s *Simulator) findInvoiceSession(req *request, found string) (*invoiceSession, *response) {
	reference, wrong := req.reference()
	if wrong != nil {
		refused := req.failed(wrong)
		return nil, &refused
	}
	known := s.store.invoiceSessions.ByReference[reference]
	if known == nil || known.context != req.login.context {
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
	known.closed = req.now
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

// withoutBatches answers the operations of batch sessions.
func (s *Simulator) refuseBatchSession(req *request) response {
	return req.plainFailure(http.StatusNotImplemented, "Symulator nie obsługuje sesji wsadowych.")
}
