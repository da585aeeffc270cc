// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// fromAddress returns the same client at another source address.
func (a *api) fromAddress(address string) *api {
	transport := a.client.Transport.(contractTransport)
	transport.next = simulator.NewTransportFrom(a.sim.Handler(), address)
	return &api{a.t, a.sim, &http.Client{Transport: transport}, a.header}
}

func windows(perSecond, perMinute, perHour float64) map[string]any {
	return map[string]any{"perSecond": perSecond, "perMinute": perMinute, "perHour": perHour}
}

func (a *api) rateLimits(s session) map[string]any {
	a.t.Helper()
	return a.want(http.StatusOK, "GET", "/rate-limits", s.access, nil).body
}

// oldGroups returns valid values for the required groups.
func oldGroups() map[string]any {
	groups := map[string]any{}
	for _, name := range []string{
		"onlineSession", "batchSession", "invoiceSend", "invoiceStatus", "sessionList", "sessionInvoiceList",
		"sessionMisc",
		"invoiceMetadata", "invoiceExport", "invoiceDownload", "other",
	} {
		groups[name] = windows(7, 8, 9)
	}
	return groups
}

func TestRateLimits(t *testing.T) {
	t.Run("count per context and source address", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newAPI(t, simulator.Options{Limits: simulator.Limits{Context: simulator.Windows{PerSecond: 1}}})
			s, elsewhere := a.login(seal(t), nipXML), a.fromAddress("192.0.2.1")
			a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
			a.want(http.StatusTooManyRequests, "GET", "/tokens", s.access, nil)
			elsewhere.want(http.StatusOK, "GET", "/tokens", s.access, nil)
			elsewhere.want(http.StatusTooManyRequests, "GET", "/tokens", s.access, nil)
			a.fromAddress("2001:db8::1").want(http.StatusOK, "GET", "/tokens", s.access, nil)
		})
	})
	t.Run("global counts all requests of a source address", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newAPI(t, simulator.Options{Limits: simulator.Limits{Global: simulator.Windows{PerMinute: 7}}})
			first, unit := a.login(seal(t), nipXML), a.login(seal(t), "<InternalId>5265877635-12346</InternalId>")
			require.Equal(t, windows(-1, 7, -1), a.rateLimits(first)["global"])
			got := a.want(http.StatusTooManyRequests, "GET", "/tokens", unit.access, nil)
			require.Contains(t, got.body["status"].(map[string]any)["details"].([]any)[0], "7 żądań na minutę")
			a.want(http.StatusTooManyRequests, "POST", "/auth/challenge", "", nil)
			a.fromAddress("192.0.2.1").want(http.StatusOK, "GET", "/tokens", unit.access, nil)
		})
	})
	t.Run("are lifted in all groups with those of contexts", func(t *testing.T) {
		a := newAPI(t, simulator.Options{Limits: simulator.Limits{Context: simulator.Windows{PerSecond: -2,
			PerHour: 5}}})
		shown := a.rateLimits(a.login(seal(t), nipXML))
		require.Equal(t, windows(-1, 30, 5), shown["other"])
		require.Equal(t, windows(-1, 30, 120), shown["onlineSession"])
		require.Equal(t, windows(60, -1, -1), shown["anonymous"])
	})
	t.Run("shows all groups of 2.9.0 in order", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		require.Equal(t, map[string]any{
			"onlineSession": windows(10, 30, 120), "onlineSessionClose": windows(20, 60, 240),
			"batchSession": windows(10, 20, 60), "batchSessionClose": windows(20, 40, 120),
			"invoiceSend": windows(10, 30, 180), "invoiceStatus": windows(30, 120, 1200),
			"sessionList": windows(5, 10, 60), "sessionInvoiceList": windows(10, 20, 200), "sessionMisc": windows(10,
				120, 1200),
			"invoiceMetadata": windows(8, 16, 20), "invoiceExport": windows(8, 16, 20),
			"invoiceExportStatus": windows(10, 60, 600), "invoiceDownload": windows(8, 16, 64),
			"collectiveIdentifier": windows(10, 60, 120), "other": windows(10, 30, 120),
			"anonymous": windows(60, -1, -1), "global": windows(-1, -1, -1),
		}, a.rateLimits(s))
		resp, err := a.send("GET", "/v2/rate-limits", s.access, nil)
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.True(t, strings.HasPrefix(string(text), `{"onlineSession":{"perSecond":10,`), "%s", text)
	})
}

func TestRateLimitsTestdata(t *testing.T) {
	t.Run("change, are kept to and are reset for one context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newAPI(t, simulator.Options{Limits: simulator.Limits{Context: simulator.Windows{PerSecond: 5}}})
			s, unit := a.login(seal(t), nipXML), a.login(seal(t), "<InternalId>5265877635-12346</InternalId>")
			before := a.rateLimits(s)
			groups := oldGroups()
			groups["other"] = windows(2, 30, 120)
			groups["onlineSessionClose"] = windows(3, 4, 5)
			got := a.want(http.StatusOK, "POST", "/testdata/rate-limits", s.access,
				map[string]any{"rateLimits": groups})
			require.Nil(t, got.body)
			require.Equal(t, before, a.rateLimits(unit))
			expected := maps.Clone(before)
			maps.Copy(expected, groups)
			require.Equal(t, expected, a.rateLimits(s))
			a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
			a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
			a.want(http.StatusTooManyRequests, "GET", "/tokens", s.access, nil)
			a.want(http.StatusOK, "POST", "/testdata/rate-limits/production", s.access, nil)
			production := a.rateLimits(unit)
			production["other"] = windows(10, 30, 120)
			a.sim.Advance(2_000_000_000)
			require.Equal(t, production, a.rateLimits(s))
			a.want(http.StatusOK, "DELETE", "/testdata/rate-limits", s.access, nil)
			require.Equal(t, before, a.rateLimits(s))
		})
	})
	t.Run("do not change anonymous and global", func(t *testing.T) {
		a := newAPI(t, simulator.Options{Limits: simulator.Limits{Client: simulator.Windows{PerSecond: 50}}})
		s := a.login(seal(t), nipXML)
		groups := oldGroups()
		groups["anonymous"], groups["global"] = windows(600, -1, -1), windows(-1, -1, -1)
		a.want(http.StatusOK, "POST", "/testdata/rate-limits", s.access, map[string]any{"rateLimits": groups})
		require.Equal(t, windows(50, -1, -1), a.rateLimits(s)["anonymous"])
		a.want(http.StatusOK, "POST", "/testdata/rate-limits/production", s.access, nil)
		require.Equal(t, windows(50, -1, -1), a.rateLimits(s)["anonymous"])
	})
	t.Run("refuse with one detail for each field", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		tooMuch := oldGroups()
		tooMuch["other"] = windows(101, 301, 1201)
		tooMuch["global"] = windows(5, -1, -1)
		for name, test := range map[string]struct {
			body any
			want []string
		}{
			"nothing": {map[string]any{}, []string{"'rateLimits' must not be empty."}},
			"too much": {map[string]any{"rateLimits": tooMuch}, []string{
				"'rateLimits.other.perSecond' must be between 1 and 100. You entered 101.",
				"'rateLimits.other.perMinute' must be between 1 and 300. You entered 301.",
				"'rateLimits.other.perHour' must be between 1 and 1200. You entered 1201.",
				"'rateLimits.global.perSecond' must be between -1 and -1. You entered 5.",
			}},
		} {
			_, details := a.withT(t).want(http.StatusBadRequest, "POST", "/testdata/rate-limits", s.access,
				test.body).code()
			require.Equal(t, strings.Join(test.want, " "), details, name)
		}
		require.Equal(t, windows(10, 30, 120), a.rateLimits(s)["other"])
	})
}
