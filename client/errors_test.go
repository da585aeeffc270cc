// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestAPIError_textOf429(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for retryAfter, permit := range map[string]string{
			"12": "next slot at 2000-01-01T00:00:12Z, in 12 s.",
			"":   "next slot at 2000-01-01T00:01:00Z, in 60 s.",
		} {
			_, err := newClient(t, &answering{
				status: 429, header: http.Header{"Retry-After": {retryAfter}},
				body: `{"title":"Too Many Requests","status":429,"detail":"Przekroczono limit. Spróbuj ponownie po 12 sekundach.","traceId":"t1"}`,
			}).Token(t.Context(), "20251010-EC-1DCE3E3000-12ECB5B36E-45")
			require.EqualError(t, err, "KSeF refused GET /tokens/{referenceNumber} with status 429: "+
				"Przekroczono limit. Spróbuj ponownie po 12 sekundach. KSeF's request limit is used up for this context or address; "+permit+" [trace id t1]")
		}
	})
}

func TestAPIError_textHasOneFullStop(t *testing.T) {
	for text, want := range map[string]string{
		"Brak": "Brak. S.", "Brak.": "Brak. S.", "Brak…": "Brak… S.", "Brak!": "Brak! S.",
	} {
		require.Equal(t, want, appendSentence(text, "S."))
	}
	require.Equal(t, "Brak.", appendSentence("Brak.", ""), "KSeF's own words stay as they are")
	for name, err := range map[string]error{
		"API":        &APIError{Endpoint: EndpointXAdES, Status: 400, Problems: []Problem{{Code: 1, Description: "Błąd."}, {Code: 9105, Description: "Podpis zweryfikowany negatywnie."}}},
		"login":      &LoginError{ReferenceNumber: "r", Status: Status{Code: 415, Description: "Brak uprawnień.", Details: []string{"Nie ma."}}},
		"enrollment": &EnrollmentError{ReferenceNumber: "r", Status: Status{Code: 400, Description: "Za dużo."}},
	} {
		require.NotContains(t, err.Error(), "..", name)
		require.NotContains(t, err.Error(), ".:", name)
		require.NotContains(t, err.Error(), ".;", name)
	}
}

func TestContextFaults(t *testing.T) {
	for value, fault := range map[string]string{
		"526587763":   "is not ten digits",
		"526-587-763": "is not ten digits",
		"5265877636":  "has a wrong checksum",
		"0265877635":  "begins with 0, as no NIP does",
		"5005877635":  "has 0 in the second and in the third place, as no NIP has",
	} {
		_, err := ParseNIP(value)
		var mistake *InputError
		require.ErrorAs(t, err, &mistake)
		require.Equal(t, fault, mistake.Fault, value)
		if tenDigits.MatchString(value) {
			_, err = ParseInternalID(value + "-12346")
			require.ErrorAs(t, err, &mistake)
			require.Equal(t, "begins with a NIP that "+fault, mistake.Fault, value)
		}
	}
	_, err := ParseNIP("5265877635")
	require.NoError(t, err)
}

func TestAPIError_textOfFailures(t *testing.T) {
	for status, want := range map[int]string{
		302: "KSeF redirected POST /auth/challenge with status 302. KSeF documents no redirects",
		404: "KSeF refused POST /auth/challenge with status 404. Nothing answers at this address: url in config",
		500: "KSeF failed at POST /auth/challenge with status 500. The fault is KSeF's",
		503: "KSeF failed at POST /auth/challenge with status 503. The fault is KSeF's",
	} {
		_, err := newClient(t, &answering{status: status, header: http.Header{"Location": {"https://elsewhere.example/"}}}).Challenge(t.Context())
		require.ErrorContains(t, err, want)
	}
}
