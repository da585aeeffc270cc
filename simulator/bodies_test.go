// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// bodyTest is an endpoint and a valid body of it. {} in the path stands for a value.
type bodyTest struct {
	name string // method and path
	body object
}

func (a *api) bodyTests(serial string) []bodyTest {
	groups := object{}
	for name, values := range oldGroups() {
		groups[name] = values
	}
	fingerprint := identifier("Fingerprint", strings.Repeat("0A", 32))
	person := func(kind, field string) object {
		body := personGrant(fingerprint, "InvoiceRead")
		body["subjectDetails"] = details(kind, field, nil)
		return body
	}
	filter := object{
		"contextIdentifier": identifier("Nip", nip), "targetIdentifier": identifier("Nip",
			nip), "permissionTypes": []any{"InvoiceRead"},
		"permissionState": "Active", "authorIdentifier": identifier("Nip", nip), "authorizedIdentifier": fingerprint,
		"queryType": "PermissionsInCurrentContext",
	}
	return []bodyTest{
		{"POST /permissions/persons/grants", person("PersonByIdentifier", "personById")},
		{"POST /permissions/persons/grants", person("PersonByFingerprintWithIdentifier", "personByFpWithId")},
		{"POST /permissions/persons/grants", person("PersonByFingerprintWithoutIdentifier", "personByFpNoId")},
		{"POST /permissions/entities/grants", entityGrant(otherNIP)},
		{"POST " + personalQuery, filter},
		{"POST " + personsQuery, filter},
		{"POST /testdata/subject", object{
			"subjectNip": nip, "subjectType": "JST", "description": "Podmiot testowy",
			"createdDate": "2026-01-01T00:00:00Z",
			"subunits":    []any{object{"subjectNip": subunitNIP, "description": "Jednostka"}},
		}},
		{"POST /testdata/subject/remove", object{"subjectNip": nip}},
		{"POST /testdata/person", object{
			"nip": otherNIP, "pesel": pesel, "isBailiff": false, "isDeceased": false, "description": "Osoba testowa",
			"createdDate": "2026-01-01T00:00:00Z",
		}},
		{"POST /testdata/person/remove", object{"nip": otherNIP}},
		{"POST /testdata/permissions", testGrant(fingerprint, "InvoiceRead")},
		{"POST /testdata/permissions/revoke", testGrant(fingerprint)},
		{"POST /testdata/context/block", object{"contextIdentifier": identifier("Nip", otherNIP)}},
		{"POST /testdata/context/unblock", object{"contextIdentifier": identifier("Nip", otherNIP)}},
		{"PUT /testdata/certificates/" + serial, object{"validTo": "2026-01-01T00:00:00Z"}},
		{"POST /testdata/limits/context/session", object{
			"onlineSession": invoiceLimits(4, 5, 6), "batchSession": invoiceLimits(4, 5,
				6), "collectiveIdentifier": object{"maxInvoices": 6},
		}},
		{"POST /testdata/limits/subject/certificate", object{
			"subjectIdentifierType": "Nip", "enrollment": object{"maxEnrollments": 15},
			"certificate": object{"maxCertificates": 15},
		}},
		{"POST /testdata/rate-limits", object{"rateLimits": groups}},
		{"POST /sessions/online", a.invoiceSessionRequest()},
	}
}

// unusualValues replace each part of a valid body.
func unusualValues() []json.RawMessage {
	odd := []string{
		`null`, `""`, `" "`, `"\u0000"`, `"\ud800"`, `"x"`, `true`, `0`, `-1`, `2147483648`, `9223372036854775807`,
		`1e400`, `0.5`,
		`[]`, `[null]`, `[[]]`, `{}`, `{"type":null,"value":null}`, `"0001-01-01T00:00:00Z"`,
		`"0000-01-01T00:00:00+23:59"`,
		`"9999-12-31T23:59:59-23:59"`,
	}
	odd = append(odd, `"`+strings.Repeat("ą", 300)+`"`)
	values := make([]json.RawMessage, len(odd))
	for i, text := range odd {
		values[i] = json.RawMessage(text)
	}
	return values
}

// variants returns copies of a value with itself or one of its parts replaced by an unusual value.
func variants(value any) []any {
	var all []any
	for _, odd := range unusualValues() {
		all = append(all, odd)
	}
	switch node := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(node)) {
			for _, variant := range variants(node[key]) {
				changed := maps.Clone(node)
				changed[key] = variant
				all = append(all, changed)
			}
		}
	case []any:
		for i := range node {
			for _, variant := range variants(node[i]) {
				changed := slices.Clone(node)
				changed[i] = variant
				all = append(all, changed)
			}
		}
	}
	return all
}

// readAll reads everything that a body may have changed, to check it against the OpenAPI.
func (a *api) readAll(s session) {
	a.t.Helper()
	for _, path := range []string{
		"/rate-limits", "/limits/context", "/limits/subject", "/certificates/limits", "/sessions?sessionType=Online",
		"/tokens",
	} {
		a.want(http.StatusOK, "GET", path, s.access, nil)
	}
	a.personal(s, nil)
	a.granted(s, object{})
	a.want(http.StatusOK, "POST", "/certificates/query", s.access, nil)
}

func TestContractUnusualBodies(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	_, serial := a.newCertificate(s, "Authentication")
	for _, test := range a.bodyTests(serial) {
		t.Run(test.name, func(t *testing.T) {
			a := a.withT(t)
			method, path, _ := strings.Cut(test.name, " ")
			for _, variant := range variants(plain(t, test.body)) {
				status := a.do(method, path, s.access, variant).status
				require.Less(t, status, http.StatusInternalServerError, "%s", variant)
				require.NotContains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, status)
			}
			a.readAll(s)
		})
	}
}

// plain returns a body as JSON decodes it.
func plain(t testing.TB, body any) any {
	t.Helper()
	data, err := json.Marshal(body)
	require.NoError(t, err)
	var value any
	require.NoError(t, json.Unmarshal(data, &value))
	return value
}

// FuzzBodies sends arbitrary bodies to the endpoints of TestContractUnusualBodies.
func FuzzBodies(f *testing.F) {
	a := newAPI(f, withoutRateLimits())
	s := a.login(seal(f), nipXML)
	_, serial := a.newCertificate(s, "Authentication")
	tests := a.bodyTests(serial)
	for i, test := range tests {
		data, err := json.Marshal(test.body)
		require.NoError(f, err)
		f.Add(uint8(i), data)
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		a := a.withT(t)
		a.header = http.Header{"Content-Type": {"application/json"}}
		method, path, _ := strings.Cut(tests[int(which)%len(tests)].name, " ")
		s := a.refresh(s)
		require.Less(t, a.do(method, path, s.access, body).status, http.StatusInternalServerError)
		a.sim.SetLimits(unlimited()) // the body may have set them
		a.readAll(s)
	})
}
