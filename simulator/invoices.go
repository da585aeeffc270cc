// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
)

const invoiceRead = "InvoiceRead"

// Limits of POST /invoices/query/metadata.
const (
	maxInvoicePageSize = 250
	// maxInvoiceMonths bounds the range of dates, in UTC or in Polish time: a day more is accepted.
	maxInvoiceMonths = 3
)

// permanentStorage is the type of date for which KSeF says until when its answer is complete.
const permanentStorage = "PermanentStorage"

// invoiceEndpoints are the operations on invoices that show what a login may do. There are no
// invoices.
func (s *Simulator) invoiceEndpoints() []endpoint {
	return []endpoint{{
		name: "POST /invoices/query/metadata", group: limits.GroupInvoiceMetadata,
		bearer: []string{jwt.Access}, requires: []string{invoiceRead}, serve: s.queryInvoices,
	}}
}

// invoiceQuery is InvoiceQueryFilters without the optional ones, which could only leave out
// invoices.
type invoiceQuery struct {
	SubjectType string            `json:"subjectType"`
	DateRange   *invoiceDateRange `json:"dateRange"`
}

// invoiceDateRange is InvoiceQueryDateRange.
type invoiceDateRange struct {
	DateType string  `json:"dateType"`
	From     *string `json:"from"`
	To       *string `json:"to"`
}

// invoiceList is QueryInvoicesMetadataResponse.
type invoiceList struct {
	HasMore     bool       `json:"hasMore"`
	IsTruncated bool       `json:"isTruncated"`
	StoredUntil timestamp  `json:"permanentStorageHwmDate"`
	Invoices    []struct{} `json:"invoices"`
}

// queryInvoices serves POST /invoices/query/metadata: it refuses what KSeF refuses, and otherwise
// finds no invoices.
func (s *Simulator) queryInvoices(req *request) response {
	var body invoiceQuery
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	query := req.URL.Query()
	if _, _, refused := numberedPage(query, maxInvoicePageSize); refused != nil {
		return req.failed(refused)
	}
	if order := query.Get("sortOrder"); query.Has("sortOrder") && !isEnumValue(order, "Asc", "Desc") {
		return req.failed(badInput("Kolejność sortowania %q jest nieznana.", order))
	}
	if refused := body.check(req.now).refusal(); refused != nil {
		return req.failed(refused)
	}
	list := invoiceList{Invoices: []struct{}{}}
	if isEnumValue(body.DateRange.DateType, permanentStorage) {
		list.StoredUntil = timestamp(req.now)
	}
	return ok(list)
}

func isEnumValue(text string, values ...string) bool {
	_, known := enumValue(text, values...)
	return known
}

func (q *invoiceQuery) check(now time.Time) (wrong fieldErrors) {
	if !isEnumValue(q.SubjectType, "Subject1", "Subject2", "Subject3", "SubjectAuthorized") {
		wrong.add("Pole subjectType ma nieznaną wartość %q.", q.SubjectType)
	}
	if q.DateRange == nil {
		wrong.notEmpty("dateRange")
		return wrong
	}
	q.DateRange.check(now, &wrong)
	return wrong
}

func (r *invoiceDateRange) check(now time.Time, wrong *fieldErrors) {
	if !isEnumValue(r.DateType, "Issue", "Invoicing", permanentStorage) {
		wrong.add("Pole dateRange.dateType ma nieznaną wartość %q.", r.DateType)
	}
	if r.From == nil {
		wrong.notEmpty("dateRange.from")
		return
	}
	from, to := wrong.moment("dateRange.from", r.From), wrong.moment("dateRange.to", r.To)
	if r.To == nil {
		to = now
	}
	if from.IsZero() || to.IsZero() {
		return // one of them is wrong
	}
	switch longest := from.AddDate(0, maxInvoiceMonths, 1); {
	case r.To != nil && to.Before(from):
		wrong.add("Pole dateRange.to jest wcześniejsze niż dateRange.from.")
	case to.After(longest):
		wrong.add("Zakres dateRange może obejmować najwyżej %d miesiące.", maxInvoiceMonths)
	}
}
