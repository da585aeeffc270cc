// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// unlimited removes all rate limits.
func unlimited() simulator.Limits {
	none := simulator.Windows{PerSecond: -1, PerMinute: -1, PerHour: -1}
	return simulator.Limits{Context: none, Client: none}
}

// list returns all values of a key in a list, over all pages.
func (a *api) list(path, bearer, items, key string) (values []string, pages int) {
	a.t.Helper()
	defer a.header.Del("x-continuation-token")
	for {
		pages++
		got := a.want(http.StatusOK, "GET", path, bearer, nil)
		for _, item := range got.body[items].([]any) {
			values = append(values, item.(map[string]any)[key].(string))
		}
		next := got.text("continuationToken")
		if next == "" {
			return values, pages
		}
		a.header.Set("x-continuation-token", next)
	}
}

func TestSessionListNewestFirst(t *testing.T) {
	a := newAPI(t, simulator.Options{Limits: unlimited()})
	c := seal(t)
	var want []string
	var current session
	for range 21 {
		current = a.login(c, nipXML)
		want = append([]string{current.reference}, want...)
	}
	a.login(newCredential(t, simulator.CertificateOptions{PESEL: "44051401359"}), nipXML)
	a.login(c, "<InternalId>5265877635-12346</InternalId>")

	references, pages := a.list("/auth/sessions", current.access, "items", "referenceNumber")
	require.Equal(t, want, references)
	require.Equal(t, 3, pages)
	first := a.want(http.StatusOK, "GET", "/auth/sessions?pageSize=10", current.access,
		nil).body["items"].([]any)[0].(map[string]any)
	require.Equal(t, true, first["isCurrent"])
	require.Equal(t, "QualifiedSeal", first["authenticationMethod"])

	a.refused(a.do("GET", "/auth/sessions?pageSize=9", current.access, nil), 21405, "pageSize")
	a.header.Set("x-continuation-token", "tokens:1")
	a.refused(a.do("GET", "/auth/sessions", current.access, nil), 21418, "")
}

func TestSessionEndedNotRefreshed(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	c := seal(t)
	first, second, third := a.login(c, nipXML), a.login(c, nipXML), a.login(c, nipXML)
	a.want(http.StatusNoContent, "DELETE", "/auth/sessions/current", first.access, nil)
	a.want(http.StatusNoContent, "DELETE", "/auth/sessions/current", second.refresh, nil)
	a.want(http.StatusNoContent, "DELETE", "/auth/sessions/"+third.reference, first.access, nil)

	for _, ended := range []session{first, second, third} {
		a.refused(a.do("POST", "/auth/token/refresh", ended.refresh, nil), 21301,
			"Status uwierzytelnienia (425) nie pozwala na odświeżenie tokenu dostępowego.")
		a.want(http.StatusOK, "GET", "/tokens", ended.access, nil)
	}
	remaining, _ := a.list("/auth/sessions", first.access, "items", "referenceNumber")
	require.Empty(t, remaining)
	a.refused(a.do("DELETE", "/auth/sessions/current", first.access, nil), 21405, "nie jest aktywna")
	a.refused(a.do("DELETE", "/auth/sessions/20250625-AU-20F5EE4000-DA48AE4124-46", first.access, nil), 21405,
		"nie istnieje")
}

func TestSessionOfOtherOwnerNotEnded(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	owner := a.login(seal(t), nipXML)
	person := a.login(newCredential(t, simulator.CertificateOptions{PESEL: "44051401359"}), nipXML)
	a.refused(a.do("DELETE", "/auth/sessions/"+person.reference, owner.access, nil), 21405, "nie istnieje")
	a.want(http.StatusOK, "POST", "/auth/token/refresh", person.refresh, nil)
}

func TestSessionListDropsExpired(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	c := seal(t)
	old := a.login(c, nipXML)
	waiting := a.begin(c, nipXML)
	count := func(s session) int {
		references, _ := a.list("/auth/sessions", s.access, "items", "referenceNumber")
		return len(references)
	}
	require.Equal(t, 2, count(old))
	a.sim.Advance(time.Hour)
	current := a.login(c, nipXML)
	require.Equal(t, 2, count(current), "the list must not have the login without tokens: %s", waiting.reference)
	a.sim.Advance(7*24*time.Hour - time.Hour)
	refreshed := a.want(http.StatusOK, "POST", "/auth/token/refresh", current.refresh, nil).text("accessToken.token")
	require.Equal(t, 1, count(session{access: refreshed}))
}
