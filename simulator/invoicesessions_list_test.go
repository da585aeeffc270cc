// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// invoiceSessions returns the reference numbers of the online sessions that match a query, over all
// pages.
func (a *api) invoiceSessions(s session, query string) []string {
	a.t.Helper()
	references, _ := a.list("/sessions?sessionType=Online"+query, s.access, "sessions", "referenceNumber")
	return references
}

func TestInvoiceSessionList(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	at := func(d time.Duration) string { return url.QueryEscape(time.Now().Add(d).Format(time.RFC3339)) }
	open := a.openInvoices(s)
	a.sim.Advance(2 * time.Minute)
	closed := a.openInvoices(s)
	a.sim.Advance(2 * time.Minute)
	require.Equal(t, http.StatusNoContent, a.closeInvoices(s, closed).status)
	a.sim.Advance(2 * time.Minute)
	broken := a.invoiceSessionRequest()
	broken["encryption"] = a.invoiceEncryption(1)
	failed := a.want(http.StatusCreated, "POST", "/sessions/online", s.access, broken).text("referenceNumber")

	for query, want := range map[string][]string{
		"":                                     {failed, closed, open},
		"&statuses=InProgress":                 {open},
		"&statuses=inprogress":                 {open},
		"&statuses=CANCELLED":                  {closed},
		"&statuses=Failed&statuses=InProgress": {failed, open},
		"&statuses=Succeeded":                  nil,
		"&referenceNumber=" + closed:           {closed},
		"&dateCreatedFrom=" + at(time.Minute):  {failed, closed},
		"&dateCreatedTo=" + at(time.Minute):    {open},
		"&dateCreatedFrom=" + at(time.Minute) + "&dateCreatedTo=" + at(3*time.Minute): {closed},
		"&dateClosedFrom=" + at(time.Minute):                                          {failed, closed},
		"&dateClosedTo=" + at(5*time.Minute):                                          {closed},
		"&dateModifiedFrom=" + at(3*time.Minute):                                      {failed, closed},
		"&dateModifiedTo=" + at(3*time.Minute):                                        {open},
		"&dateModifiedTo=2020-01-01T00:00:00.5Z":                                      nil,
	} {
		require.Equal(t, want, a.invoiceSessions(s, query), query)
	}
	require.Empty(t, a.want(http.StatusOK, "GET", "/sessions?sessionType=batch", s.access, nil).list("sessions"))
	item := a.want(http.StatusOK, "GET", "/sessions?sessionType=online&statuses=Cancelled", s.access,
		nil).list("sessions")[0]
	require.Equal(t, map[string]any{
		"code": 440.0, "description": "Sesja anulowana", "details": []any{"Nie przesłano faktur"},
	}, item["status"])
	require.Zero(t, item["totalInvoiceCount"])
	require.NotEqual(t, item["dateCreated"], item["dateUpdated"])

	for query, detail := range map[string]string{
		"":                                                    "Typ sesji",
		"?sessionType=Other":                                  "Typ sesji",
		"?sessionType=Online&statuses=Open":                   "Status",
		"?sessionType=Online&referenceNumber=x":               "Numer referencyjny",
		"?sessionType=Online&pageSize=9":                      "od 10 do 1000",
		"?sessionType=Online&pageSize=1001":                   "od 10 do 1000",
		"?sessionType=Online&dateCreatedFrom=yesterday":       "dateCreatedFrom",
		"?sessionType=Online&dateClosedTo=2025-13-01":         "dateClosedTo",
		"?sessionType=Online&dateModifiedTo=2025-01-01T99:00": "dateModifiedTo",
	} {
		a.refused(a.do("GET", "/sessions"+query, s.access, nil), 21405, detail)
	}
}

func TestInvoiceSessionListPages(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	var opened []string
	for range 21 {
		opened = append(opened, a.openInvoices(s))
	}
	slices.Reverse(opened)
	references, pages := a.list("/sessions?sessionType=Online", s.access, "sessions", "referenceNumber")
	require.Equal(t, opened, references)
	require.Equal(t, 3, pages)
	references, pages = a.list("/sessions?sessionType=Online&pageSize=1000", s.access, "sessions", "referenceNumber")
	require.Equal(t, opened, references)
	require.Equal(t, 1, pages)
	a.header.Set("x-continuation-token", "tokens:1")
	a.refused(a.do("GET", "/sessions?sessionType=Online", s.access, nil), 21418, "")
}
