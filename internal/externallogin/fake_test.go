// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/externallogin"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const (
	submit     = "POST /auth/xades-signature"
	loginState = "GET /auth/" + reference
	reference  = "20260101-AU-0123456789-0123456789-AB"
	ownAddress = "192.0.2.7"
	ownAPI     = "https://ksef.test/v2"
)

// fakeKSeF answers each endpoint as the test says, and counts the requests.
type fakeKSeF struct {
	responses map[string]response
	requests  map[string]int
}

type response struct {
	status int
	body   string
	lost   bool
}

func (k *fakeKSeF) RoundTrip(request *http.Request) (*http.Response, error) {
	endpoint := request.Method + " " + strings.TrimPrefix(request.URL.Path, "/v2")
	k.requests[endpoint]++
	answer := k.responses[endpoint]
	if answer.lost {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{
		StatusCode: answer.status, Request: request, Body: io.NopCloser(strings.NewReader(answer.body)),
		Header: http.Header{"Content-Type": {"application/json"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}},
	}, nil
}

func state(code int, redeemed bool) response {
	return response{status: 200, body: fmt.Sprintf(`{"status":{"code":%d,"description":"-"},"isTokenRedeemed":%t}`, code, redeemed)}
}

func refusal(status, code int) response {
	return response{status: status, body: fmt.Sprintf(`{"exception":{"exceptionDetailList":[{"exceptionCode":%d}]}}`, code)}
}

// fixture is one login with everything around it replaced by fakes.
type fixture struct {
	*testing.T
	ksef     *fakeKSeF
	storage  *failingStorage
	upstream *externallogin.Upstream
	options  externallogin.Options
	logins   *externallogin.Logins
	begun    *externallogin.Begun

	keepErr, discardErr, lostErr error
	lostButKept                  bool
	kept, discarded, lost        []*session.Session
	failures                     []error
}

// failingStorage fails to write while err is set.
type failingStorage struct {
	logical.InmemStorage
	putErr, deleteErr error
}

func (s *failingStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if s.putErr != nil {
		return s.putErr
	}
	return s.InmemStorage.Put(ctx, entry)
}

func (s *failingStorage) Delete(ctx context.Context, key string) error {
	if s.deleteErr != nil {
		return s.deleteErr
	}
	return s.InmemStorage.Delete(ctx, key)
}

var errDisk = errors.New("the disk is full")

func withFake(t *testing.T, test func(f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{T: t, storage: &failingStorage{}, ksef: &fakeKSeF{
			requests: map[string]int{},
			responses: map[string]response{
				"POST /auth/challenge": challenge("A0"),
				submit: {status: 202, body: `{"referenceNumber":"` + reference + `","authenticationToken":{"token":"operation-token",` +
					`"validUntil":"` + time.Now().Add(45*time.Minute).Format(time.RFC3339) + `"}}`},
				loginState: state(100, false),
				redeem: {status: 200, body: `{"accessToken":{"token":"access","validUntil":"2000-01-02T00:00:00Z"},` +
					`"refreshToken":{"token":"refresh","validUntil":"2000-01-07T00:00:00Z"}}`},
			},
		}}
		api, err := client.New(client.Config{URL: ownAPI, Transport: f.ksef})
		require.NoError(t, err)
		f.upstream = &externallogin.Upstream{
			API: ownAPI, Client: api,
			Keep: func(_ context.Context, made *session.Session) error {
				f.kept = append(f.kept, made)
				return f.keepErr
			},
			Discard: func(_ context.Context, made *session.Session) error {
				f.discarded = append(f.discarded, made)
				return f.discardErr
			},
			Lost: func(_ context.Context, lost *session.Session) (bool, error) {
				f.lost = append(f.lost, lost)
				return f.lostButKept, f.lostErr
			},
		}
		f.options = externallogin.Options{
			Storage:      f.storage,
			Open:         func(context.Context) (*externallogin.Upstream, error) { return f.upstream, nil },
			Admit:        func(context.Context, client.ContextIdentifier, *credential.Identity) error { return nil },
			OnFail:       func(_ client.ContextIdentifier, err error) { f.failures = append(f.failures, err) },
			OnUnreadable: func(*logical.StorageEntry, error) {},
		}
		f.restart()
		test(f)
	})
}

func challenge(end string) response {
	return response{status: 200, body: `{"challenge":"20260101-CR-0123456789-0123456789-` + end + `","timestamp":"2000-01-01T00:00:00Z",` +
		`"timestampMs":946684800000,"clientIp":"` + ownAddress + `"}`}
}

func (f *fixture) restart() { f.logins = externallogin.New(f.options) }

func (f *fixture) begin() *externallogin.Begun {
	f.Helper()
	begun, err := f.logins.Begin(f.Context(), taxpayer, xades.CertificateSubject)
	require.NoError(f, err)
	f.begun = begun
	return begun
}

// signed is a document as a signer returns it; KSeF alone verifies signatures.
func signed(document []byte) []byte {
	const signature = `<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"></Signature></AuthTokenRequest>`
	return []byte(strings.Replace(string(document), "</AuthTokenRequest>", signature, 1))
}

func (f *fixture) submit(document []byte) error {
	_, err := f.logins.Submit(f.Context(), document)
	return err
}

// inProgress begins and submits a login.
func (f *fixture) inProgress() {
	f.Helper()
	require.NoError(f, f.submit(signed(f.begin().Document)))
}

func (f *fixture) succeed() { f.ksef.responses[loginState] = state(200, false) }

// await runs the login to its end, and returns how long that took.
func (f *fixture) await() (time.Duration, error) {
	f.Helper()
	began := time.Now()
	ended, err := f.logins.Await(f.Context(), f.begun.Challenge)
	require.True(f, ended)
	return time.Since(began), err
}

func (f *fixture) advance() (next time.Duration) {
	f.Helper()
	at, err := f.logins.Advance(f.Context())
	require.NoError(f, err)
	if at.IsZero() {
		return 0
	}
	return time.Until(at)
}

func (f *fixture) states() []externallogin.State {
	f.Helper()
	states, err := f.logins.States(f.Context())
	require.NoError(f, err)
	return states
}

// stored returns all that is in storage.
func (f *fixture) stored() string {
	f.Helper()
	var all strings.Builder
	keys, err := f.storage.List(f.Context(), externallogin.StoragePrefix)
	require.NoError(f, err)
	for _, key := range keys {
		entry, err := f.storage.Get(f.Context(), externallogin.StoragePrefix+key)
		require.NoError(f, err)
		all.Write(entry.Value)
	}
	return all.String()
}
