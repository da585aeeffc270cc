// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"net/url"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// maxInvoiceSessionPageSize is the largest page of GET /sessions.
const maxInvoiceSessionPageSize = 1000

// invoiceSessionItem is SessionsQueryResponseItem.
type invoiceSessionItem struct {
	ReferenceNumber string `json:"referenceNumber"`
	invoiceSessionSummary
	TotalInvoices      int `json:"totalInvoiceCount"`
	SuccessfulInvoices int `json:"successfulInvoiceCount"`
	FailedInvoices     int `json:"failedInvoiceCount"`
}

// invoiceSessionSummary is SessionStatusResponse without the numbers of invoices, which KSeF leaves
// out while they are 0.
type invoiceSessionSummary struct {
	Status      store.StatusInfo `json:"status"`
	DateCreated timestamp        `json:"dateCreated"`
	DateUpdated timestamp        `json:"dateUpdated"`
	ValidUntil  timestamp        `json:"validUntil"`
}

// invoiceSessionList is SessionsQueryResponse.
type invoiceSessionList struct {
	ContinuationToken string               `json:"continuationToken,omitempty"`
	Sessions          []invoiceSessionItem `json:"sessions"`
}

func summaryOf(i *store.InvoiceSession, now time.Time) invoiceSessionSummary {
	return invoiceSessionSummary{
		i.Status(now), timestamp(i.Created), timestamp(i.Updated(now)), timestamp(i.ValidUntil()),
	}
}

// maySeeInvoiceSession tells whether the caller may see a session of its context: any with
// Introspection or EnforcementOperations, else its own.
func (req *request) maySeeInvoiceSession(known *store.InvoiceSession) bool {
	return req.hasAny(introspection, enforcementOperations) || known.Author == req.login.Identifier
}

// invoiceSessionStatus is GET /sessions/{referenceNumber}.
func (s *Simulator) invoiceSessionStatus(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, refused := s.findInvoiceSession(req, "znaleziona")
	if refused != nil {
		return *refused
	}
	if !req.maySeeInvoiceSession(known) {
		return req.insufficientAccess()
	}
	return ok(summaryOf(known, req.now))
}

// listInvoiceSessions is GET /sessions: what the caller may see of its context, newest first.
func (s *Simulator) listInvoiceSessions(req *request) response {
	filter, refused := newInvoiceSessionFilter(req.URL.Query())
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.store.InvoiceSessions.ByContext[req.login.Context]
	wanted, refused := req.newPageUpTo(maxInvoiceSessionPageSize, "invoices", len(all))
	if refused != nil {
		return req.failed(refused)
	}
	positions, next := wanted.pick(func(i int) bool {
		return req.maySeeInvoiceSession(all[i]) && filter.matches(all[i], req.now)
	})
	list := invoiceSessionList{ContinuationToken: next, Sessions: []invoiceSessionItem{}}
	for _, i := range positions {
		list.Sessions = append(list.Sessions, invoiceSessionItem{
			ReferenceNumber: all[i].Reference, invoiceSessionSummary: summaryOf(all[i], req.now),
		})
	}
	return ok(list)
}

// invoiceSessionFilter is what GET /sessions asks for.
type invoiceSessionFilter struct {
	online                    bool
	reference                 string
	statuses                  []string
	created, closed, modified period
}

// period is a stretch of time with its ends; a zero end is open.
type period struct{ from, to time.Time }

func (p period) contains(t time.Time) bool {
	return (p.from.IsZero() || !t.Before(p.from)) && (p.to.IsZero() || !t.After(p.to))
}

func (p period) open() bool { return p.from.IsZero() && p.to.IsZero() }

// newInvoiceSessionFilter reads the query. Values of enums are taken in any case.
func newInvoiceSessionFilter(query url.Values) (invoiceSessionFilter, *apiError) {
	kind, known := enumValue(query.Get("sessionType"), "Online", "Batch")
	if !known {
		return invoiceSessionFilter{}, badInput("Typ sesji %q jest nieznany.", query.Get("sessionType"))
	}
	filter := invoiceSessionFilter{online: kind == "Online", reference: query.Get("referenceNumber")}
	if query.Has("referenceNumber") {
		if refused := checkReference(filter.reference); refused != nil {
			return invoiceSessionFilter{}, refused
		}
	}
	for _, text := range query["statuses"] {
		status, known := enumValue(text, "InProgress", "Succeeded", "Failed", "Cancelled")
		if !known {
			return invoiceSessionFilter{}, badInput("Status %q jest nieznany.", text)
		}
		filter.statuses = append(filter.statuses, status)
	}
	for name, period := range map[string]*period{
		"dateCreated": &filter.created, "dateClosed": &filter.closed, "dateModified": &filter.modified,
	} {
		if refused := period.read(query, name); refused != nil {
			return invoiceSessionFilter{}, refused
		}
	}
	return filter, nil
}

func (p *period) read(query url.Values, name string) (refused *apiError) {
	if p.from, refused = queryTime(query, name+"From"); refused == nil {
		p.to, refused = queryTime(query, name+"To")
	}
	return refused
}

// queryTime reads a time that may be left out.
func queryTime(query url.Values, name string) (time.Time, *apiError) {
	if !query.Has(name) {
		return time.Time{}, nil
	}
	moment, err := time.Parse(time.RFC3339, query.Get(name))
	if err != nil {
		return time.Time{}, badInput("Parametr %s nie jest datą i godziną.", name)
	}
	return moment, nil
}

func (f invoiceSessionFilter) matches(i *store.InvoiceSession, now time.Time) bool {
	ended := i.Ended(now)
	return f.online &&
		(f.reference == "" || f.reference == i.Reference) &&
		(len(f.statuses) == 0 || slices.Contains(f.statuses, commonStatusOf(i, now))) &&
		f.created.contains(i.Created) &&
		(f.closed.open() || !ended.IsZero() && f.closed.contains(ended)) &&
		f.modified.contains(i.Updated(now))
}

// commonStatusOf returns the CommonSessionStatus.
func commonStatusOf(i *store.InvoiceSession, now time.Time) string {
	switch i.Status(now).Code {
	case store.InvoiceSessionOpen:
		return "InProgress"
	case store.InvoiceSessionCancelled:
		return "Cancelled"
	}
	return "Failed"
}
