// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/externallogin"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

var taxpayer = client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}

// submitted is a login that KSeF has accepted, and what happened to its session.
type submitted struct {
	logins    *externallogin.Logins
	challenge string
	ksef      *simulator.Simulator
	transport *transport
	options   externallogin.Options
	failures  []error
	discarded []*session.Session
	lost      []string
	kept      bool
}

// inBubble submits a login and lets keep receive its session.
func inBubble(t *testing.T, options simulator.Options, keep func(*session.Session) error, test func(t *testing.T, s *submitted)) {
	synctest.Test(t, func(t *testing.T) {
		ksef, err := simulator.New(options)
		require.NoError(t, err)
		s := &submitted{ksef: ksef, transport: &transport{ksef.Transport()}}
		api, err := client.New(client.Config{URL: "https://ksef.test/v2", Transport: s.transport})
		require.NoError(t, err)
		upstream := &externallogin.Upstream{
			Client: api,
			Keep:   func(_ context.Context, made *session.Session) error { return keep(made) },
			Discard: func(ctx context.Context, made *session.Session) error {
				s.discarded = append(s.discarded, made)
				return api.EndSession(ctx, made.Refresh.Token)
			},
			Lost: func(_ context.Context, lost *session.Session) (bool, error) {
				s.lost = append(s.lost, lost.ReferenceNumber)
				return s.kept, nil
			},
		}
		s.options = externallogin.Options{
			Storage:      &logical.InmemStorage{},
			Open:         func(context.Context) (*externallogin.Upstream, error) { return upstream, nil },
			Admit:        func(context.Context, client.ContextIdentifier, *credential.Identity) error { return nil },
			OnFail:       func(_ client.ContextIdentifier, err error) { s.failures = append(s.failures, err) },
			OnUnreadable: func(*logical.StorageEntry, error) {},
		}
		s.restart()
		begun, err := s.logins.Begin(t.Context(), taxpayer, xades.CertificateSubject)
		require.NoError(t, err)
		s.challenge = begun.Challenge
		_, err = s.logins.Submit(t.Context(), sign(t, begun))
		require.NoError(t, err)
		test(t, s)
	})
}

// transport is the connection to KSeF, which a test may replace.
type transport struct{ http.RoundTripper }

// replaceTransport wraps the connection to KSeF.
func (s *submitted) replaceTransport(change func(http.RoundTripper) http.RoundTripper) {
	s.transport.RoundTripper = change(s.transport.RoundTripper)
}

// restart drops what is not in storage.
func (s *submitted) restart() { s.logins = externallogin.New(s.options) }

func (s *submitted) count(endpoint string) int {
	sum := 0
	for _, count := range s.ksef.State().Requests[endpoint] {
		sum += count
	}
	return sum
}

func sign(t *testing.T, begun *externallogin.Begun) []byte {
	t.Helper()
	certificate, key, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: taxpayer.Value})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(t, err)
	document, err := xadestest.Sign(xadestest.Request{
		Challenge: begun.Challenge, Context: "<Nip>" + taxpayer.Value + "</Nip>", Layout: xadestest.DSS(),
		Key: pair.PrivateKey.(crypto.Signer), Certificate: pair.Leaf, SigningTime: time.Now().Add(-time.Minute),
	})
	require.NoError(t, err)
	return document
}

func TestKeepFailsAndSessionIsEnded(t *testing.T) {
	gone := errors.New("there is no configuration")
	inBubble(t, simulator.Options{}, func(*session.Session) error { return gone }, func(t *testing.T, s *submitted) {
		ended, err := s.logins.Await(t.Context(), s.challenge)
		require.True(t, ended)
		require.ErrorIs(t, err, gone)
		require.ErrorContains(t, err, "must be signed again")
		require.Len(t, s.discarded, 1)
		require.Len(t, s.failures, 1)
		states, err := s.logins.States(t.Context())
		require.NoError(t, err)
		require.Contains(t, states[0].Failure, "there is no configuration")
	})
}

func TestKeepInMemoryAlone(t *testing.T) {
	inBubble(t, simulator.Options{}, func(*session.Session) error { return session.ErrNotStored }, func(t *testing.T, s *submitted) {
		ended, err := s.logins.Await(t.Context(), s.challenge)
		require.True(t, ended)
		require.ErrorIs(t, err, session.ErrNotStored)
		require.Empty(t, s.discarded)
		states, err := s.logins.States(t.Context())
		require.NoError(t, err)
		require.Empty(t, states)
	})
}

// Await returns the failure also where Advance has taken the last step.
func TestAwaitReturnsFailureFoundByAdvance(t *testing.T) {
	none := simulator.Options{LoginDelay: 10 * time.Second, OwnerPermissions: []string{}}
	inBubble(t, none, func(*session.Session) error { return nil }, func(t *testing.T, s *submitted) {
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
					_, _ = s.logins.Advance(t.Context())
				}
			}
		}()
		ended, err := s.logins.Await(t.Context(), s.challenge)
		close(stop)
		require.True(t, ended)
		require.ErrorContains(t, err, "415")
		require.Len(t, s.failures, 1)
	})
}

func TestAdvanceFailsLoginThatKSeFNeverDecides(t *testing.T) {
	inBubble(t, simulator.Options{LoginDelay: 2 * time.Hour}, nil, func(t *testing.T, s *submitted) {
		for next := time.Now(); !next.IsZero(); {
			<-time.After(time.Until(next))
			var err error
			next, err = s.logins.Advance(t.Context())
			require.NoError(t, err)
		}
		require.Len(t, s.failures, 1)
	})
}
