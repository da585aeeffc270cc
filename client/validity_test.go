// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestValidity(t *testing.T) {
	const reference = "20251010-EC-1DCE3E3000-12ECB5B36E-45"
	summer := time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		fields string
		want   time.Time
	}{
		"absent":                {``, time.Time{}},
		"null":                  {`"validTo":null,"expirationDate":null,`, time.Time{}},
		"validTo":               {`"validTo":"2027-06-01T02:00:00+02:00",`, summer},
		"expirationDate":        {`"expirationDate":"2027-06-01T00:00:00.0000000+00:00",`, summer},
		"the earlier of both":   {`"validTo":"2027-07-01T00:00:00Z","expirationDate":"2027-06-01T00:00:00Z",`, summer},
		"garbage beside an end": {`"validTo":"soon","expirationDate":"2027-06-01T00:00:00Z",`, summer},
		"a date alone":          {`"validTo":"2027-06-01",`, time.Time{}},
		"no zone":               {`"validTo":"2027-06-01T00:00:00",`, time.Time{}},
		"a number":              {`"validTo":1811808000,`, time.Time{}},
		"an object":             {`"validTo":{"date":"2027-06-01T00:00:00Z"},"expirationDate":[],`, time.Time{}},
		"another system's zero": {`"validTo":"0001-01-01T00:00:00Z",`, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			made, err := newClient(t, &answering{status: http.StatusAccepted, body: `{` + test.fields + `"referenceNumber":"` + reference + `","token":"secret"}`}).
				GenerateToken(t.Context(), TokenRequest{})
			require.NoError(t, err)
			require.True(t, test.want.Equal(made.ValidUntil), made.ValidUntil)
			require.Equal(t, Secret("secret"), made.Token)

			one := `{` + test.fields + `"referenceNumber":"` + reference + `","status":"Active"}`
			token, err := newClient(t, &answering{status: http.StatusOK, body: one}).Token(t.Context(), reference)
			require.NoError(t, err)
			require.True(t, test.want.Equal(token.ValidUntil), token.ValidUntil)
			require.Equal(t, StatusActive, token.Status)

			page, err := newClient(t, &answering{status: http.StatusOK, body: `{"tokens":[` + one + `]}`}).QueryTokens(t.Context(), TokenQuery{})
			require.NoError(t, err)
			require.True(t, test.want.Equal(page.Tokens[0].ValidUntil), page.Tokens[0].ValidUntil)
		})
	}
}

func TestValidity_onTheLocalClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := http.Header{"Date": {time.Now().Add(3 * time.Hour).UTC().Format(http.TimeFormat)}}
		end := time.Now().Add(5 * time.Hour).UTC().Format(time.RFC3339)
		body := `{"referenceNumber":"20251010-EC-1DCE3E3000-12ECB5B36E-45","token":"secret","status":"Active","validTo":"` + end + `"}`
		want := time.Now().Add(2 * time.Hour)
		made, err := newClient(t, &answering{status: http.StatusAccepted, header: ahead, body: body}).GenerateToken(t.Context(), TokenRequest{})
		require.NoError(t, err)
		require.True(t, want.Equal(made.ValidUntil), made.ValidUntil)
		page, err := newClient(t, &answering{status: http.StatusOK, header: ahead, body: `{"tokens":[` + body + `]}`}).QueryTokens(t.Context(), TokenQuery{})
		require.NoError(t, err)
		require.True(t, want.Equal(page.Tokens[0].ValidUntil), page.Tokens[0].ValidUntil)
	})
}
