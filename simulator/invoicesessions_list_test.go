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

	"vault-plugin-secrets-ksef/simulator"
)

// invoiceSessions returns the reference numbers of the online sessions that a query finds, of all
// pages.
func (a *api) invoiceSessions(s session, query string) []string {
	a.t.Helper()
	references, _ := a.list("/sessions?sessionType=Online"+query, s.access, "sessions", "referenceNumber")
	return references
}

func TestListInvoiceSessions(t *testing.T) {
	a := newAPI(t, roomy())
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
	item := a.want(http.StatusOK, "GET", "/sessions?sessionType=online&statuses=Cancelled", s.access, nil).list("sessions")[0]
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

func TestListInvoiceSessionsInPages(t *testing.T) {
	a := newAPI(t, roomy())
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

// SessionIntegrationTest (CIRFMF/ksef-client-java).
func TestSessionIntegration(t *testing.T) {
	t.Run("createSessionSearchSessionAndRevokeCurrentSession", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		a.openInvoices(s)
		active := a.want(http.StatusOK, "GET", "/auth/sessions?pageSize=10", s.access, nil).list("items")
		require.Len(t, active, 1)
		require.Equal(t, true, active[0]["isCurrent"])
		a.want(http.StatusNoContent, "DELETE", "/auth/sessions/current", s.access, nil)
		require.Empty(t, a.want(http.StatusOK, "GET", "/auth/sessions?pageSize=10", s.access, nil).list("items"))
		a.refused(a.do("POST", "/auth/token/refresh", s.refresh, nil), 21301, "(425) nie pozwala na odświeżenie tokenu dostępowego.")
	})
	t.Run("createSecondSessionAndRevokeSessionByReferenceNumber", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		first := a.login(seal(t), nipXML)
		a.openInvoices(first)
		require.Len(t, a.want(http.StatusOK, "GET", "/auth/sessions?pageSize=10", first.access, nil).list("items"), 1)
		second := a.login(seal(t), nipXML)
		require.Len(t, a.want(http.StatusOK, "GET", "/auth/sessions?pageSize=10", first.access, nil).list("items"), 2)
		a.want(http.StatusNoContent, "DELETE", "/auth/sessions/"+second.reference, first.access, nil)
		active := a.want(http.StatusOK, "GET", "/auth/sessions?pageSize=10", first.access, nil).list("items")
		require.Len(t, active, 1)
		require.Equal(t, first.reference, active[0]["referenceNumber"])
		a.want(http.StatusBadRequest, "POST", "/auth/token/refresh", second.refresh, nil)
	})
	t.Run("searchSessionsByStatuses", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		first, second := a.login(seal(t), nipXML), a.login(seal(t), nipXML)
		firstOpened, secondOpened := a.openInvoices(first), a.openInvoices(second)
		require.Equal(t, http.StatusNoContent, a.closeInvoices(first, secondOpened).status)
		found := a.want(http.StatusOK, "GET", "/sessions?sessionType=Online&pageSize=10&statuses=InProgress&statuses=Cancelled", first.access, nil)
		list := found.list("sessions")
		require.Len(t, list, 2)
		require.Equal(t, secondOpened, list[0]["referenceNumber"])
		require.Equal(t, firstOpened, list[1]["referenceNumber"])
		for i, want := range []map[string]any{
			{"code": 440.0, "description": "Sesja anulowana", "details": []any{"Nie przesłano faktur"}},
			{"code": 100.0, "description": "Sesja interaktywna otwarta"},
		} {
			require.Equal(t, want, list[i]["status"])
		}
	})
	t.Run("searchSessions", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		opened := a.openInvoices(s)
		require.Equal(t, []string{opened}, a.invoiceSessions(s, "&statuses=InProgress"))
	})
}
