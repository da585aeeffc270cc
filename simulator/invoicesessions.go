// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"fmt"
	"net/http"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

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

// ownOpenInvoiceSession returns the session of the path if the caller is its author, under this
// login or another (official IntrospectionPermissionIntegrationTests), and it is open. prevented is
// what its status prevents otherwise. The caller holds the lock.
func (s *Simulator) ownOpenInvoiceSession(req *request, prevented string) (*store.InvoiceSession, *response) {
	known, refused := s.findInvoiceSession(req, "odnaleziona")
	if refused != nil {
		return nil, refused
	}
	if known.Author != req.login.Identifier {
		// That it is refused is from the official tests; with which reason is not documented.
		refused := req.insufficientAccess()
		return nil, &refused
	}
	if status := known.Status(req.now); status.Code != store.InvoiceSessionOpen {
		refused := req.failed(&apiError{21180, "Status sesji nie pozwala na wykonanie operacji.",
			[]string{fmt.Sprintf("Status sesji %d uniemożliwia %s.", status.Code, prevented)}})
		return nil, &refused
	}
	return known, nil
}

// findInvoiceSession returns the session of the path. One of another context is not known in this
// one. found is the last word of KSeF's sentence for an unknown one, which differs between
// operations. The caller holds the lock.
func (s *Simulator) findInvoiceSession(req *request, found string) (*store.InvoiceSession, *response) {
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
