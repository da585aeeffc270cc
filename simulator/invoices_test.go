// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

const queryInvoices = "/invoices/query/metadata"

// invoiceQuery asks for the sold invoices of a range of dates.
func invoiceQuery(dateType, from, to string) map[string]any {
	dates := map[string]any{"dateType": dateType, "from": from}
	if to != "" {
		dates["to"] = to
	}
	return map[string]any{"subjectType": "Subject1", "dateRange": dates}
}

func lastWeek() map[string]any {
	return invoiceQuery("PermanentStorage", time.Now().AddDate(0, 0, -7).Format(time.RFC3339), "")
}

func TestInvoiceQueryFindsNothing(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	s := a.login(seal(t), nipXML)
	got := a.want(http.StatusOK, "POST", queryInvoices+"?pageSize=250&pageOffset=3&sortOrder=desc", s.access, lastWeek())
	require.Equal(t, []any{}, got.body["invoices"])
	require.Equal(t, false, got.body["hasMore"])
	require.Equal(t, false, got.body["isTruncated"])
	require.NotEmpty(t, got.text("permanentStorageHwmDate"))
	got = a.want(http.StatusOK, "POST", queryInvoices, s.access,
		invoiceQuery("issue", "2026-01-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00"))
	require.Nil(t, got.body["permanentStorageHwmDate"])
}

// What a program may do with an access token of a KSeF token: read invoices, send them, or both.
func TestInvoiceRights(t *testing.T) {
	for permission, want := range map[string]struct{ query, open int }{
		"InvoiceRead":  {http.StatusOK, http.StatusForbidden},
		"InvoiceWrite": {http.StatusForbidden, http.StatusCreated},
	} {
		a := newAPI(t, simulator.Options{ActivationDelay: -1})
		_, token := a.issue(a.login(seal(t), nipXML), permission)
		s := a.redeem(a.beginWithToken(token))
		for path, allowed := range map[string]struct {
			status int
			body   map[string]any
			needs  string
		}{
			queryInvoices:      {want.query, lastWeek(), "InvoiceRead"},
			"/sessions/online": {want.open, a.invoiceSessionRequest(), "InvoiceWrite"},
		} {
			got := a.want(allowed.status, "POST", path, s.access, allowed.body)
			if allowed.status == http.StatusForbidden {
				reason, required := a.forbidden(got)
				require.Equal(t, "missing-permissions", reason)
				require.Contains(t, required, allowed.needs)
			}
		}
		a.want(http.StatusUnauthorized, "POST", queryInvoices, "", lastWeek())
	}
}

func TestInvoiceQueryInvalid(t *testing.T) {
	a := newAPI(t, simulator.Options{Limits: unlimited()})
	s := a.login(seal(t), nipXML)
	const from = "2026-01-01T00:00:00Z"
	for detail, body := range map[string]map[string]any{
		"subjectType":            {"subjectType": "Subject4", "dateRange": lastWeek()["dateRange"]},
		"'dateRange'":            {"subjectType": "Subject1"},
		"dateRange.dateType":     invoiceQuery("Sale", from, ""),
		"'dateRange.from'":       {"subjectType": "Subject1", "dateRange": map[string]any{"dateType": "Issue"}},
		"dateRange.from nie":     invoiceQuery("Issue", "yesterday", ""),
		"dateRange.to nie":       invoiceQuery("Issue", from, "today"),
		"dateRange.to jest":      invoiceQuery("Issue", from, "2025-12-31T00:00:00Z"),
		"najwyżej 3 miesiące":    invoiceQuery("Issue", from, "2026-04-02T00:00:01Z"),
		"nieprawidłowy typ":      {"subjectType": 1},
		"miesiące":               invoiceQuery("Issue", "2020-01-01T00:00:00Z", ""),
		"Pole dateRange.dateTyp": invoiceQuery("", from, from),
	} {
		a.refused(a.do("POST", queryInvoices, s.access, body), 21405, detail)
	}
	for _, query := range []string{"pageSize=9", "pageSize=251", "pageOffset=-1", "sortOrder=Up", "sortOrder="} {
		a.refused(a.do("POST", queryInvoices+"?"+query, s.access, lastWeek()), 21405, "")
	}
	a.want(http.StatusUnsupportedMediaType, "POST", queryInvoices, s.access, []byte("{}"))
}

func TestInvoiceQueryRateLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		for sent := range 20 {
			if sent%4 == 0 {
				time.Sleep(time.Minute)
			}
			a.want(http.StatusOK, "POST", queryInvoices, s.access, lastWeek())
		}
		time.Sleep(time.Minute)
		refused := a.want(http.StatusTooManyRequests, "POST", queryInvoices, s.access, lastWeek())
		require.NotEmpty(t, refused.header.Get("Retry-After"))
		a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
	})
}
