// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const (
	submit  = "POST /auth/xades-signature"
	refresh = "POST /auth/token/refresh"
)

var taxpayer = client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}

// signer signs with a certificate that the simulator accepts.
type signer struct{ *xades.Signer }

func (s signer) SignLogin(challenge *client.Challenge, taxpayer client.ContextIdentifier, at time.Time) ([]byte, error) {
	return s.Sign(xades.Request{
		Challenge: challenge.Challenge, Context: xades.Context{Type: string(taxpayer.Type), Value: taxpayer.Value},
		SubjectIdentifierType: xades.CertificateSubject,
	}, at)
}

// fixture is a KSeF and what a manager needs to log in to it.
type fixture struct {
	t       *testing.T
	ksef    *simulator.Simulator
	options session.Options
}

func inBubble(t *testing.T, options simulator.Options, test func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		ksef, err := simulator.New(options)
		require.NoError(t, err)
		certificate, key, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: taxpayer.Value, NotBefore: time.Now().AddDate(0, 0, -1), NotAfter: time.Now().AddDate(3, 0, 0)})
		require.NoError(t, err)
		cred, err := credential.Read(credential.Source{Certificate: string(certificate), PrivateKey: string(key)})
		require.NoError(t, err)
		made, err := xades.NewSigner(cred.Certificate, cred.Key)
		require.NoError(t, err)
		api, err := client.New(client.Config{URL: "https://ksef.test/v2", Transport: ksef.Transport()})
		require.NoError(t, err)
		test(t, &fixture{t: t, ksef: ksef, options: session.Options{
			Client: api, Begin: session.BySignature(signer{made}), Storage: &logical.InmemStorage{}, ConfigFingerprint: "first",
			API: api.URL(), Logger: hclog.NewNullLogger(), OnLogin: func(client.ContextIdentifier, error) {},
			Learn: func(context.Context, client.ContextIdentifier, client.Secret) {},
		}})
	})
}

func (f *fixture) count(endpoint string) int {
	sum := 0
	for _, count := range f.ksef.State().Requests[endpoint] {
		sum += count
	}
	return sum
}

// works says that the access token is one that KSeF accepts.
func (f *fixture) works(m *session.Manager) {
	f.t.Helper()
	_, err := apiOf(m).QueryTokens(f.t.Context(), client.TokenQuery{})
	require.NoError(f.t, err)
}

// apiOf returns KSeF under the taxpayer's session.
func apiOf(m *session.Manager) *client.Client {
	return m.Client.WithTokenSource(m.TokenSource(taxpayer))
}

func elapse(d time.Duration) { <-time.After(d) }

func TestLogin_servesConcurrentRequests(t *testing.T) {
	inBubble(t, simulator.Options{LoginDelay: 3 * time.Second}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() {
				_, err := m.Access(t.Context(), taxpayer)
				require.NoError(t, err)
			})
		}
		wait.Wait()
		require.Equal(t, 1, f.count(submit))
	})
}

func TestRefresh_aheadOfTheEnd(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		for range 24 {
			f.works(m)
			elapse(14 * time.Minute)
		}
		require.Equal(t, 1, f.count(submit))
		require.Equal(t, 23, f.count(refresh))
		elapse(7 * 24 * time.Hour)
		f.works(m)
		require.Equal(t, 2, f.count(submit))
	})
}

func TestRestart_usesTheSessionOfTheSameConfiguration(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		f.works(session.NewManager(f.options))
		elapse(time.Hour)
		f.works(session.NewManager(f.options))
		require.Equal(t, 1, f.count(submit))

		f.options.ConfigFingerprint = "second"
		f.works(session.NewManager(f.options))
		require.Equal(t, 2, f.count(submit))
	})
}

func TestLogin_replacesASessionEndedElsewhere(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		f.works(m)
		require.NoError(t, f.options.Client.EndSession(t.Context(), m.Sessions()[0].Refresh.Token))
		elapse(16 * time.Minute)
		f.works(m)
		require.Equal(t, 2, f.count(submit))
	})
}

func TestUnauthorized_refreshesThenLogsInOnceEach(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		f.works(m)
		elapse(time.Minute)
		require.NoError(t, f.ksef.AddFault(simulator.Fault{Endpoint: "GET /tokens", Kind: simulator.FaultStatus, Status: 401}))
		f.works(m)
		require.Equal(t, 1, f.count(refresh))

		require.NoError(t, f.ksef.AddFault(simulator.Fault{Endpoint: "GET /tokens", Kind: simulator.FaultStatus, Status: 401, Times: -1}))
		before := f.count("GET /tokens")
		_, err := apiOf(m).QueryTokens(t.Context(), client.TokenQuery{})
		require.True(t, client.IsUnauthorized(err))
		require.Equal(t, before+3, f.count("GET /tokens"))
		require.Equal(t, 2, f.count(submit))
	})
}

func TestOutage_costsNoLogin(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		f.works(m)
		elapse(14 * time.Minute)
		require.NoError(t, f.ksef.AddFault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1}))
		_, err := m.Access(t.Context(), taxpayer)
		require.Error(t, err)
		f.ksef.ClearFaults()
		elapse(5 * time.Second)
		f.works(m)
		require.Equal(t, 1, f.count(submit))
	})
}

// early answers the first redeems as KSeF does where it does not know yet that the login has
// succeeded.
type early struct {
	http.RoundTripper
	left int
}

func (e *early) RoundTrip(request *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(request.URL.Path, "/auth/token/redeem") || e.left == 0 {
		return e.RoundTripper.RoundTrip(request)
	}
	e.left--
	recorder := httptest.NewRecorder()
	recorder.WriteHeader(http.StatusBadRequest)
	_, _ = recorder.WriteString(`{"errors":[{"code":21301,"description":"Status uwierzytelniania (100) nie pozwala na pobranie tokenów."}]}`)
	return recorder.Result(), nil
}

func TestRedeem_tooEarlyIsRepeatedTwice(t *testing.T) {
	for left, ok := range map[int]bool{1: true, 2: true, 3: false} {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			api, err := client.New(client.Config{URL: "https://ksef.test/v2", Transport: &early{f.ksef.Transport(), left}})
			require.NoError(t, err)
			f.options.Client = api
			_, err = session.NewManager(f.options).Access(t.Context(), taxpayer)
			require.Equal(t, ok, err == nil, "%d: %v", left, err)
			require.Equal(t, 1, f.count(submit))
		})
	}
}

func TestRedeem_lostNeedsALogin(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		require.NoError(t, f.ksef.AddFault(simulator.Fault{Endpoint: "POST /auth/token/redeem", Kind: simulator.FaultDropResponse}))
		_, err := m.Access(t.Context(), taxpayer)
		require.Error(t, err)
		elapse(5 * time.Second)
		f.works(m)
		require.Equal(t, 2, f.count(submit))
	})
}

func TestLogin_refusedSaysWhy(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		var reported error
		f.options.OnLogin = func(_ client.ContextIdentifier, err error) { reported = err }
		m := session.NewManager(f.options)
		_, err := m.Access(t.Context(), client.ContextIdentifier{Type: client.ContextNIP, Value: "1111111111"})
		var refused *client.LoginError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, 415, refused.Status.Code)
		require.ErrorIs(t, reported, err)
	})
}

func TestLogin_refusedIsNotRepeatedWithEachRequest(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		for range 50 {
			_, err := m.Access(t.Context(), client.ContextIdentifier{Type: client.ContextNIP, Value: "1111111111"})
			require.Error(t, err)
		}
		require.Equal(t, 1, f.count(submit))
	})
}

func TestEnd_logsInNoMore(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		f.works(m)
		require.NoError(t, m.End(t.Context(), false))
		_, err := apiOf(m).QueryTokens(t.Context(), client.TokenQuery{})
		require.ErrorIs(t, err, session.ErrEnded)
		_, err = m.Replace(t.Context(), taxpayer, &session.Session{})
		require.ErrorIs(t, err, session.ErrEnded)
		require.Equal(t, 1, f.count(submit))
	})
}

func TestLogin_endsWithinVaultsTimeout(t *testing.T) {
	inBubble(t, simulator.Options{LoginDelay: time.Hour}, func(t *testing.T, f *fixture) {
		begin := time.Now()
		_, err := session.NewManager(f.options).Access(t.Context(), taxpayer)
		require.ErrorContains(t, err, "has not decided the login")
		require.LessOrEqual(t, time.Since(begin), 51*time.Second)
	})
}

func TestEnd_endsSessionsInStorageAndInKSeF(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		f.works(m)
		require.NoError(t, session.NewManager(f.options).End(t.Context(), false))
		for _, one := range f.ksef.State().Sessions {
			require.False(t, one.Active)
		}
		keys, err := logical.CollectKeys(t.Context(), f.options.Storage)
		require.NoError(t, err)
		require.Empty(t, keys)
	})
}

func TestLogin_survivesAFailingStorage(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		storage := &logical.InmemStorage{}
		f.options.Storage = storage
		storage.Underlying().FailPut(true)
		m := session.NewManager(f.options)
		f.works(m)
		f.works(m)
		require.Equal(t, 1, f.count(submit))
		storage.Underlying().FailGet(true)
		_, err := session.NewManager(f.options).Access(t.Context(), taxpayer)
		require.Error(t, err, "what cannot be read is not taken for missing")
	})
}
