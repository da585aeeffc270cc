// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// answering is a KSeF that gives one answer to everything.
type answering struct {
	status int
	header http.Header
	body   string
	seen   *http.Request
}

func (a *answering) RoundTrip(request *http.Request) (*http.Response, error) {
	a.seen = request
	recorder := httptest.NewRecorder()
	for name, values := range a.header {
		recorder.Header()[name] = values
	}
	recorder.WriteHeader(a.status)
	_, _ = io.WriteString(recorder, a.body)
	return recorder.Result(), nil
}

func newClient(t *testing.T, transport http.RoundTripper) *Client {
	t.Helper()
	made, err := New(Config{URL: TestURL, Transport: transport, UserAgent: "test/1"})
	require.NoError(t, err)
	return made.WithTokenSource(Secret("access"))
}

func TestAPIError_bothFormats(t *testing.T) {
	problem := `{"title":"Bad Request","status":400,"instance":"/v2/tokens","detail":"Żądanie jest niepoprawne.",
		"errors":[{"code":26001,"description":"Nie można nadać tokenowi uprawnień których nie posiadasz.","details":["Brak: InvoiceWrite"]}],
		"timestamp":"2026-01-01T00:00:00Z","traceId":"abc-1"}`
	legacy := `{"exception":{"exceptionDetailList":[{"exceptionCode":26001,
		"exceptionDescription":"Nie można nadać tokenowi uprawnień których nie posiadasz.","details":["Brak: InvoiceWrite"]}],
		"serviceCode":"abc-1","timestamp":"2026-01-01T00:00:00Z"}}`
	for name, body := range map[string]string{"problem details": problem, "legacy": legacy} {
		t.Run(name, func(t *testing.T) {
			_, err := newClient(t, &answering{status: 400, body: body}).GenerateToken(t.Context(), TokenRequest{})
			var refused *APIError
			require.ErrorAs(t, err, &refused)
			require.True(t, refused.Has(26001))
			require.False(t, refused.Has(26002))
			require.Equal(t, "abc-1", refused.TraceID)
			require.Equal(t, "KSeF refused POST /tokens with status 400: 26001 Nie można nadać tokenowi uprawnień których nie posiadasz. (Brak: InvoiceWrite). "+
				"The signing subject cannot grant a permission that it does not hold in this context. [trace id abc-1]", err.Error())
			require.True(t, IsRefusal(err))
		})
	}
}

func TestAPIError_403And429(t *testing.T) {
	_, err := newClient(t, &answering{
		status: 403,
		body:   `{"title":"Forbidden","status":403,"detail":"Brak uprawnień","reasonCode":"missing-permissions","security":{"requiredAnyOfPermissions":["CredentialsManage"]},"timestamp":"2026-01-01T00:00:00Z"}`,
	}).Token(t.Context(), "20251010-EC-1DCE3E3000-12ECB5B36E-45")
	var refused *APIError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "missing-permissions", refused.ReasonCode)
	require.Equal(t, "The signing subject lacks a permission in this context: KSeF asks for CredentialsManage, and it has none.", refused.Explain())
	require.ErrorContains(t, err, "lacks a permission")

	for name, test := range map[string]struct {
		header http.Header
		body   string
		want   time.Duration
	}{
		"seconds":         {http.Header{"Retry-After": {"30"}}, `{"status":{"code":429,"description":"Too Many Requests","details":["Przekroczono limit 20 żądań na minutę."]}}`, 30 * time.Second},
		"problem details": {http.Header{"Retry-After": {"2492"}}, `{"title":"Too Many Requests","status":429,"detail":"Przekroczono limit","traceId":"t"}`, 2492 * time.Second},
		"none":            {nil, `{}`, time.Minute},
		"absurd":          {http.Header{"Retry-After": {"99999999999"}}, ``, 24 * time.Hour},
		"negative":        {http.Header{"Retry-After": {"-5"}}, ``, time.Minute},
		"garbage":         {http.Header{"Retry-After": {"soon"}}, ``, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			limiter := &recordingLimiter{}
			api := newClient(t, &answering{status: 429, header: test.header, body: test.body}).WithLimiter(limiter)
			err := api.RevokeToken(t.Context(), "20251010-EC-1DCE3E3000-12ECB5B36E-45")
			require.True(t, IsRateLimited(err))
			require.True(t, IsRefusal(err))
			require.Equal(t, []string{EndpointRevokeToken}, limiter.admitted)
			require.Equal(t, []time.Duration{test.want}, limiter.done)
		})
	}
}

type recordingLimiter struct {
	admitted []string
	done     []time.Duration
	refuse   error

	refuseBegin error

	begun     int
	cancelled int
	givenUp   int
}

func (g *recordingLimiter) Admit(_ context.Context, endpoint string) (Permit, error) {
	if g.refuse != nil {
		return nil, g.refuse
	}
	g.admitted = append(g.admitted, endpoint)
	return g, nil
}

func (g *recordingLimiter) Begin(context.Context) error {
	g.begun++
	return g.refuseBegin
}

func (g *recordingLimiter) Done(retryAfter time.Duration) { g.done = append(g.done, retryAfter) }

func (g *recordingLimiter) GiveUp(time.Time) { g.givenUp++ }

func (g *recordingLimiter) Cancel() { g.cancelled++ }

func TestLimiter_refusesARequest(t *testing.T) {
	server := &answering{status: 204}
	closed := errors.New("no permit")
	require.ErrorIs(t, newClient(t, server).WithLimiter(&recordingLimiter{refuse: closed}).RevokeToken(t.Context(), "x"), closed)
	require.Nil(t, server.seen)
}

func TestLimiter_permitIsCancelledWhereNothingWasSent(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	noBearer := errors.New("no login")
	for name, test := range map[string]struct {
		transport http.RoundTripper
		bearer    TokenSource
		sent      bool
		givenUp   int
	}{
		"no connection": {brokenTransport{dial}, Secret("access"), false, 0},
		"no login":      {&answering{status: 204}, tokenFunc(func() (AccessToken, error) { return nil, noBearer }), false, 0},
		"a lost reply":  {brokenTransport{io.ErrUnexpectedEOF}, Secret("access"), true, 0},
		"caller left":   {brokenTransport{context.Canceled}, Secret("access"), true, 1},
		"it takes long": {brokenTransport{context.DeadlineExceeded}, Secret("access"), true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			limiter := &recordingLimiter{}
			err := newClient(t, test.transport).WithTokenSource(test.bearer).WithLimiter(limiter).RevokeToken(t.Context(), "x")
			require.Error(t, err)
			require.Equal(t, test.sent, len(limiter.done)+limiter.givenUp == 1)
			require.Equal(t, test.givenUp, limiter.givenUp)
			require.Equal(t, !test.sent, limiter.cancelled == 1)
			var lost *TransportError
			require.Equal(t, test.sent, errors.As(err, &lost) && lost.Sent)
		})
	}
}

func TestSuccess_onlyTheDocumentedStatus(t *testing.T) {
	for _, status := range []int{200, 202, 206} {
		err := newClient(t, &answering{status: status, body: "<html>blocked</html>"}).RevokeToken(t.Context(), "x")
		var lost *TransportError
		require.ErrorAs(t, err, &lost)
	}
	require.NoError(t, newClient(t, &answering{status: 204}).RevokeToken(t.Context(), "x"))
}

func TestParseURL_oneAddressPerAPI(t *testing.T) {
	for _, same := range []string{TestURL, TestURL + "/", "https://API-test.ksef.mf.gov.pl:443/v2", "https://api-test.ksef.mf.gov.pl/./v2//"} {
		address, err := ParseURL(same)
		require.NoError(t, err)
		require.Equal(t, TestURL, address)
	}
}

func TestTransportError_unreadableAnswer(t *testing.T) {
	for name, server := range map[string]*answering{
		"server error":        {status: 503, body: "down"},
		"half a body":         {status: 202, body: `{"referenceNumber":"2025`},
		"another body":        {status: 202, body: `[]`},
		"no token":            {status: 202, body: `{"referenceNumber":"20251010-EC-1DCE3E3000-12ECB5B36E-45"}`},
		"a redirect":          {status: 302, header: http.Header{"Location": {"https://elsewhere.example/"}}},
		"a timeout of KSeF's": {status: 408},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newClient(t, server).GenerateToken(t.Context(), TokenRequest{})
			require.Error(t, err)
			require.False(t, IsRefusal(err))
		})
	}
}

func TestToken_unknownFieldsAndValues(t *testing.T) {
	token, err := newClient(t, &answering{status: 200, body: `{"referenceNumber":"20251010-EC-1DCE3E3000-12ECB5B36E-45",
		"authorIdentifier":{"type":"Robot","value":"1"},"contextIdentifier":{"type":"Planet","value":"Mars"},"description":"d",
		"requestedPermissions":["FlyToTheMoon"],"dateCreated":"2025-07-11T12:23:56.0154302+00:00","lastUseDate":null,
		"status":"Sleeping","statusDetails":null,"validTo":"2027-01-01T00:00:00Z","extra":{"a":[1]}}`}).
		Token(t.Context(), "20251010-EC-1DCE3E3000-12ECB5B36E-45")
	require.NoError(t, err)
	require.Equal(t, TokenStatus("Sleeping"), token.Status)
	require.False(t, token.Status.Dead())
}

func TestToken_answerAboutAnother(t *testing.T) {
	_, err := newClient(t, &answering{status: 200, body: `{"referenceNumber":"20251010-EC-1DCE3E3000-12ECB5B36E-46","status":"Revoked"}`}).
		Token(t.Context(), "20251010-EC-1DCE3E3000-12ECB5B36E-45")
	require.Error(t, err)
}

func TestAnswer_withoutEnd(t *testing.T) {
	_, err := newClient(t, &answering{status: 200, body: `{"tokens":[],"continuationToken":"` + strings.Repeat("x", maxBody) + `"}`}).
		QueryTokens(t.Context(), TokenQuery{})
	require.Error(t, err)
}

func TestRequest_headersAndQuery(t *testing.T) {
	server := &answering{status: 200, body: `{"tokens":[]}`, header: http.Header{"X-System-Warning": {"[sig-001]: soon refused"}}}
	var warnings []Warning
	api, err := New(Config{URL: TestURL + "/", Transport: server, OnWarning: func(w Warning) { warnings = append(warnings, w) }})
	require.NoError(t, err)
	_, err = api.WithTokenSource(Secret("secret-access")).QueryTokens(t.Context(), TokenQuery{
		Statuses: []string{"Active", "Pending"}, Description: "raport żółty", PageSize: 50, Continuation: "next",
		Author: testAuthor, AuthorType: "Nip",
	})
	require.NoError(t, err)
	require.Equal(t, "Bearer secret-access", server.seen.Header.Get("Authorization"))
	require.Equal(t, "problem-details", server.seen.Header.Get("X-Error-Format"))
	require.Equal(t, "next", server.seen.Header.Get("x-continuation-token"))
	require.Equal(t, "/v2/tokens", server.seen.URL.Path)
	require.Equal(t, map[string][]string{
		"status": {"Active", "Pending"}, "description": {"raport żółty"}, "pageSize": {"50"},
		"authorIdentifier": {testAuthor}, "authorIdentifierType": {"Nip"},
	}, map[string][]string(server.seen.URL.Query()))
	require.Len(t, warnings, 1)
	require.Equal(t, "[sig-001]: soon refused", warnings[0].Text)
}

const testAuthor = "5265877635"

type brokenTransport struct{ err error }

func (b brokenTransport) RoundTrip(*http.Request) (*http.Response, error) { return nil, b.err }

func TestTransportError_causeWithoutAddress(t *testing.T) {
	cause := errors.New("connection reset")
	_, err := newClient(t, brokenTransport{cause}).QueryTokens(t.Context(), TokenQuery{Description: "private words"})
	var lost *TransportError
	require.ErrorAs(t, err, &lost)
	require.ErrorIs(t, err, cause)
	require.NotContains(t, err.Error(), "private")
}

func TestSecret(t *testing.T) {
	secret := Secret("top-secret")
	encoded, err := json.Marshal(map[string]any{"token": secret, "in": Bearer{Token: secret}})
	require.NoError(t, err)
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "secret", secret)
	for _, text := range []string{
		fmt.Sprint(secret), fmt.Sprintf("%s %v %q %x %#v %+v", secret, secret, secret, secret, secret, secret),
		fmt.Sprintf("%v %+v %#v", Bearer{Token: secret}, &Bearer{Token: secret}, Bearer{Token: secret}), string(encoded), logged.String(),
	} {
		require.NotContains(t, text, "top-secret")
		require.NotContains(t, text, "746f702d736563726574", "nor in hexadecimal")
		require.Contains(t, text, "redacted")
	}
	require.Equal(t, "top-secret", secret.Reveal())
}

func TestParseURL(t *testing.T) {
	for _, good := range []string{TestURL, DemoURL, ProductionURL, "http://127.0.0.1:8380/v2", "http://[::1]/v2", "http://localhost/v2/"} {
		_, err := ParseURL(good)
		require.NoError(t, err, good)
	}
	for _, bad := range []string{"", "ksef", "ftp://ksef.example", "http://ksef.example/v2", "http://127.0.0.1.example/v2", "https://user:password@ksef.example", "https://ksef.example?x=1"} {
		_, err := ParseURL(bad)
		var input *InputError
		require.ErrorAs(t, err, &input, bad)
		require.Equal(t, "url", input.Field)
		require.NotContains(t, err.Error(), "password")
	}
}

func TestParseIdentifiers(t *testing.T) {
	taxpayer, err := ParseNIP(testAuthor)
	require.NoError(t, err)
	require.Equal(t, "Nip:5265877635", taxpayer.String())
	unit, err := ParseInternalID("6824515772-12343")
	require.NoError(t, err, "the example in KSeF's OpenAPI")
	require.Equal(t, "6824515772", unit.NIP())
	for _, bad := range []string{"", "526587763", "5265877636", "0265877635", "52658776350", "５２６５８７７６３５"} {
		_, err := ParseNIP(bad)
		require.Error(t, err, bad)
	}
	for _, bad := range []string{"", "5265877635", "5265877635-12345", "5265877636-12346", "5265877635-1234", "526587763512346"} {
		_, err := ParseInternalID(bad)
		require.Error(t, err, bad)
	}
}

func TestParseReferenceNumber(t *testing.T) {
	number, err := ParseReferenceNumber("20251010-EC-1DCE3E3000-12ECB5B36E-45")
	require.NoError(t, err)
	require.Equal(t, "20251010-EC-1DCE3E3000-12ECB5B36E-45", number)
	for _, bad := range []string{
		"", "abc", " 20251010-EC-1DCE3E3000-12ECB5B36E-45", "20251010-ec-1dce3e3000-12ecb5b36e-45",
		"20251010-EC-1DCE3E3000-12ECB5B36E-4", "../../config", "20251010-EC-1DCE3E3000-12ECB5B36E-4/",
	} {
		_, err := ParseReferenceNumber(bad)
		require.Error(t, err, bad)
	}
}

// FuzzAnswers holds that no answer of KSeF's makes the client panic, or believe in a token without
// a number.
func FuzzAnswers(f *testing.F) {
	f.Add(202, "", `{"referenceNumber":"20251010-EC-1DCE3E3000-12ECB5B36E-45","token":"t"}`)
	f.Add(400, "", `{"errors":[{"code":26001,"description":"d","details":["x"]}],"traceId":"t"}`)
	f.Add(400, "", `{"exception":{"exceptionDetailList":[{"exceptionCode":1}],"serviceCode":"s"}}`)
	f.Add(429, "30", `{"status":{"code":429,"details":["d"]}}`)
	f.Add(200, "", `{"tokens":[{"status":"Active"}],"continuationToken":null}`)
	f.Add(200, "", `{"status":{"code":200},"certificateSerialNumber":"0123456789ABCDEF"}`)
	f.Add(200, "", `{"certificates":[{"certificateSerialNumber":"0123456789ABCDEF","certificate":"MA=="}],"hasMore":false}`)
	f.Add(200, "", `{"canRequest":true,"enrollment":{"remaining":1,"limit":2}}`)
	f.Add(503, "Wed, 21 Oct 2099 07:28:00 GMT", "\xff")
	f.Fuzz(func(t *testing.T, status int, retryAfter, body string) {
		if status < 200 || status > 599 {
			status = 200 + (status&0x7fffffff)%400
		}
		api := newClient(t, &answering{status: status, body: body, header: http.Header{"Retry-After": {retryAfter}}})
		if token, err := api.GenerateToken(t.Context(), TokenRequest{}); err == nil {
			require.NotEmpty(t, token.ReferenceNumber)
			require.NotEmpty(t, token.Token)
		} else {
			require.NotEmpty(t, err.Error())
			var refused *APIError
			require.True(t, !errors.As(err, &refused) || (refused.RetryAfter >= 0 && refused.RetryAfter <= maxRetryAfter))
		}
		_, _ = api.QueryTokens(t.Context(), TokenQuery{})
		_, _ = api.Token(t.Context(), "x")
		_, _ = api.TokenKey(t.Context())
		_, _ = api.Challenge(t.Context())
		fuzzCertificates(t, api)
	})
}

// fuzzCertificates holds that no answer passes for a certificate that was not asked for.
func fuzzCertificates(t *testing.T, api *Client) {
	const serial = "0123456789ABCDEF"
	if number, err := api.Enroll(t.Context(), EnrollmentRequest{}); err == nil {
		require.NotEmpty(t, number)
	}
	if enrollment, err := api.Enrollment(t.Context(), "x"); err == nil {
		require.NotZero(t, enrollment.Status.Code)
	}
	if certificate, err := api.RetrieveCertificate(t.Context(), serial); err == nil {
		require.NotNil(t, certificate)
	}
	_, _ = api.QueryCertificates(t.Context(), CertificateQuery{Name: serial})
	_, _ = api.CertificateLimits(t.Context())
	_, _ = api.EnrollmentData(t.Context())
	_ = api.RevokeCertificate(t.Context(), serial, RevokedSuperseded)
}
