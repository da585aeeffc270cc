// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const (
	submit  = client.EndpointXAdES
	refresh = client.EndpointRefresh
	pesel   = "90010112345"
)

// fixture is a KSeF, the storage of a mount, and what its roles log in with.
type fixture struct {
	*testing.T
	ksef    *simulator.Simulator
	storage *logical.InmemStorage
	logger  hclog.Logger

	mu sync.Mutex
	// life is that of the access tokens; 0 leaves it to the simulator.
	life             time.Duration
	inFlight, atOnce int // requests now, and the most that there were

	login  accesstoken.Login
	fails  error // what Login returns instead
	events []error
	repair func(*accesstoken.Login) // what a failed login has changed; nil for nothing
	seen   map[client.Secret]bool
	// unread has the keys that OnUnread was called with, and since when they are.
	unread map[accesstoken.Key]time.Time
}

func inBubble(t *testing.T, options simulator.Options, test func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		ksef, err := simulator.New(options)
		require.NoError(t, err)
		var log bytes.Buffer
		f := &fixture{T: t, ksef: ksef, storage: &logical.InmemStorage{}, seen: map[client.Secret]bool{}, unread: map[accesstoken.Key]time.Time{}}
		f.logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &log, Mutex: &sync.Mutex{}})
		f.login = accesstoken.Login{
			KSeF: f.at("https://ksef.test/v2"), Fingerprint: "first", Subject: "Pesel:" + pesel,
			Begin: f.signer(simulator.CertificateOptions{PESEL: pesel}),
		}
		t.Cleanup(func() {
			for token := range f.seen {
				require.NotContains(t, log.String(), token.Reveal())
			}
		})
		test(t, f)
	})
}

// at is the simulator as an API of the given address.
func (f *fixture) at(url string) accesstoken.KSeF {
	api, err := client.New(client.Config{URL: url, Transport: f})
	require.NoError(f, err)
	return accesstoken.KSeF{API: url, Client: api, Learn: func(context.Context, client.ContextIdentifier, client.Secret) {}}
}

// RoundTrip counts the requests at once, and sets the life of access tokens.
func (f *fixture) RoundTrip(request *http.Request) (*http.Response, error) {
	f.mu.Lock()
	life := f.life
	f.inFlight++
	f.atOnce = max(f.atOnce, f.inFlight)
	f.mu.Unlock()
	response, err := f.ksef.Transport().RoundTrip(request)
	f.mu.Lock()
	f.inFlight--
	f.mu.Unlock()
	if err != nil || life == 0 || !strings.Contains(request.URL.Path, "/auth/token/") {
		return response, err
	}
	var body map[string]map[string]any
	if err := errors.Join(json.NewDecoder(response.Body).Decode(&body), response.Body.Close()); err != nil {
		return nil, err
	}
	body["accessToken"]["validUntil"] = time.Now().Add(life)
	encoded, err := json.Marshal(body)
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(encoded)), int64(len(encoded))
	return response, err
}

// signer logs in by a new certificate. A person's has all permissions in each context of the
// simulator.
func (f *fixture) signer(options simulator.CertificateOptions) session.Begin {
	options.NotBefore, options.NotAfter = time.Now().AddDate(0, 0, -1), time.Now().AddDate(3, 0, 0)
	certificate, key, err := simulator.NewCertificate(options)
	require.NoError(f, err)
	cred, err := credential.Read(credential.Source{Certificate: string(certificate), PrivateKey: string(key)})
	require.NoError(f, err)
	return f.signs(cred.Certificate, cred.Key)
}

func (f *fixture) signs(certificate *x509.Certificate, key crypto.Signer) session.Begin {
	signer, err := session.NewSigner(certificate, key, xades.CertificateSubject, session.ToRole(nil))
	require.NoError(f, err)
	return session.BySignature(signer)
}

// unreadSince is what OnUnread was called with; zero where it was not.
func (f *fixture) unreadSince(key accesstoken.Key) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unread[key]
}

// set changes how sessions are made from now on.
func (f *fixture) set(change func(*accesstoken.Login)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.login)
}

// fail makes Login fail; nil ends that.
func (f *fixture) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = err
}

// options are those of a process on the fixture's storage.
func (f *fixture) options() accesstoken.Options {
	return accesstoken.Options{
		Storage: f.storage, Logger: f.logger,
		KSeF: func(context.Context) (accesstoken.KSeF, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.login.KSeF, nil
		},
		Login: func(context.Context, accesstoken.Key) (accesstoken.Login, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.login, f.fails
		},
		OnUnread: func(_ context.Context, key accesstoken.Key, since time.Time) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.unread[key] = since
			return nil
		},
		OnLogin: func(_ accesstoken.Key, err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.events = append(f.events, err)
			if err != nil && f.repair != nil {
				f.repair(&f.login)
			}
		},
	}
}

// start is a process that begins.
func (f *fixture) start() *accesstoken.Tokens {
	tokens := accesstoken.New(f.options())
	tokens.Start()
	f.Cleanup(tokens.Stop)
	return tokens
}

// read requires an access token that has a minute to live at least and that KSeF accepts.
func (f *fixture) read(tokens *accesstoken.Tokens, key accesstoken.Key) *accesstoken.Token {
	f.Helper()
	token, err := tokens.Read(f.Context(), key)
	require.NoError(f, err)
	f.checkToken(token)
	return token
}

func (f *fixture) checkToken(token *accesstoken.Token) {
	f.Helper()
	require.GreaterOrEqual(f, time.Until(token.ExpiresAt), time.Minute)
	require.GreaterOrEqual(f, token.TTL, 5*time.Second)
	require.LessOrEqual(f, token.TTL, token.RefreshPeriod)
	require.Zero(f, token.TTL%time.Second)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[token.AccessToken] = true
}

// works requires that KSeF accepts the access token.
func (f *fixture) works(token *accesstoken.Token) {
	f.Helper()
	_, err := f.login.Client.WithTokenSource(token.AccessToken).QueryTokens(f.Context(), client.TokenQuery{})
	require.NoError(f, err)
}

func (f *fixture) count(endpoint string) int {
	sum := 0
	for _, count := range f.ksef.State().Requests[endpoint] {
		sum += count
	}
	return sum
}

// requests counts those to all endpoints.
func (f *fixture) requests() int {
	sum := 0
	for endpoint := range f.ksef.State().Requests {
		sum += f.count(endpoint)
	}
	return sum
}

// open returns the numbers of the sessions that KSeF keeps open.
func (f *fixture) open() []string {
	var open []string
	for _, one := range f.ksef.State().Sessions {
		if one.Active {
			open = append(open, one.ReferenceNumber)
		}
	}
	return open
}

func (f *fixture) keys(prefix string) []string {
	f.Helper()
	keys, err := logical.CollectKeysWithPrefix(f.Context(), f.storage, prefix)
	require.NoError(f, err)
	return keys
}

func (f *fixture) away() {
	require.NoError(f, f.ksef.AddFault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1}))
}

func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// keyOf is the key of the n-th taxpayer.
func keyOf(role string, n int) accesstoken.Key {
	return accesstoken.Key{Role: role, Taxpayer: client.ContextIdentifier{Type: client.ContextNIP, Value: nip(n)}}
}

// nip is the n-th of many NIPs with a right checksum.
func nip(n int) string {
	for candidate := 526000000 + 11*n; ; candidate++ {
		sum := 0
		digits := fmt.Sprintf("%09d", candidate)
		for i, weight := range []int{6, 5, 7, 2, 3, 4, 5, 6, 7} {
			sum += weight * int(digits[i]-'0')
		}
		if sum%11 != 10 {
			return fmt.Sprintf("%s%d", digits, sum%11)
		}
	}
}

func requireStatus(t *testing.T, status int, err error) {
	t.Helper()
	coded, found := errors.AsType[logical.HTTPCodedError](err)
	require.True(t, found, "%v", err)
	require.Equal(t, status, coded.Code())
}

const unavailable = http.StatusServiceUnavailable
