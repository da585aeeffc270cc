// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// invoiceSessionLifetime is how long an online session stays open: that of the example of GET
// /sessions in OpenAPI 2.7.0.
const invoiceSessionLifetime = 12 * time.Hour

// InvoiceSession is an online session. Its status follows from the times.
type InvoiceSession struct {
	Reference string
	Context   ksef.Identifier
	Author    ksef.Identifier
	Created   time.Time
	Closed    time.Time   // zero until it is closed by a request
	Failure   *StatusInfo // nil when the key could be read
}

// ValidUntil returns when an open session expires.
func (i *InvoiceSession) ValidUntil() time.Time { return i.Created.Add(invoiceSessionLifetime) }

// Ended returns when a session was closed or expired, or zero while it is open.
func (i *InvoiceSession) Ended(now time.Time) time.Time {
	switch {
	case i.Failure != nil:
		return i.Created
	case i.Closed.IsZero() && !now.Before(i.ValidUntil()):
		return i.ValidUntil()
	}
	return i.Closed
}

// Updated returns when the session last changed.
func (i *InvoiceSession) Updated(now time.Time) time.Time {
	if ended := i.Ended(now); !ended.IsZero() {
		return ended
	}
	return i.Created
}

// Status returns the status of a session without invoices. There are no others here.
func (i *InvoiceSession) Status(now time.Time) StatusInfo {
	switch {
	case i.Failure != nil:
		return *i.Failure
	case i.Ended(now).IsZero():
		return StatusInfo{Code: InvoiceSessionOpen, Description: "Sesja interaktywna otwarta"}
	}
	return StatusInfo{InvoiceSessionCancelled, "Sesja anulowana", []string{"Nie przesłano faktur"}}
}

// InvoiceSessions are all online sessions.
type InvoiceSessions struct {
	ByReference map[string]*InvoiceSession
	ByContext   map[ksef.Identifier][]*InvoiceSession // per context, oldest first
	All         []*InvoiceSession
}

// Add records a session.
func (s *InvoiceSessions) Add(opened *InvoiceSession) {
	s.ByReference[opened.Reference] = opened
	s.ByContext[opened.Context] = append(s.ByContext[opened.Context], opened)
	s.All = append(s.All, opened)
}

func newInvoiceSessions() InvoiceSessions {
	return InvoiceSessions{ByReference: map[string]*InvoiceSession{},
		ByContext: map[ksef.Identifier][]*InvoiceSession{}}
}

// Codes of SessionStatusResponse.
const (
	InvoiceSessionOpen      = 100
	InvoiceSessionBadKey    = 415
	InvoiceSessionCancelled = 440
)
