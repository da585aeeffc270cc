// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client_test

import (
	"crypto"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/contract"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var company = client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}

// ownAddress is where the simulator sees the client of a fixture.
const ownAddress = "198.51.100.7"

// loadContract reads KSeF's OpenAPI once for all tests. It returns nil where KSEF_CONTRACTS does
// not name its folder.
var loadContract = sync.OnceValues(func() (*contract.Contract, error) {
	folder := os.Getenv("KSEF_CONTRACTS")
	if folder == "" {
		return nil, nil
	}
	return contract.Load(folder)
})

// fixture is a KSeF whose exchanges are checked with its OpenAPI, and a client of it.
type fixture struct {
	*testing.T
	ksef    *simulator.Simulator
	handler http.Handler
	api     *client.Client
}

func inBubble(t *testing.T, options simulator.Options, test func(f *fixture)) {
	t.Helper()
	document, err := loadContract()
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		ksef, err := simulator.New(options)
		require.NoError(t, err)
		f := &fixture{T: t, ksef: ksef, handler: ksef.Handler()}
		if document != nil {
			f.handler = document.Middleware(f.handler, func(err error) { assert.NoError(t, err) })
		}
		f.api = f.from(ownAddress)
		test(f)
	})
}

// from returns a client that KSeF sees at an address.
func (f *fixture) from(address string) *client.Client {
	api, err := client.New(client.Config{URL: "https://ksef.test/v2", Transport: simulator.NewTransportFrom(f.handler, address)})
	require.NoError(f, err)
	return api
}

// owner returns the API under a session of the company's own certificate.
func (f *fixture) owner() *client.Client {
	certificate, key, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: company.Value, NotBefore: time.Now().AddDate(0, 0, -1)})
	require.NoError(f, err)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(f, err)
	signer, err := session.NewSigner(pair.Leaf, pair.PrivateKey.(crypto.Signer), xades.CertificateSubject, session.ToConfig(nil))
	require.NoError(f, err)
	challenge, err := f.api.Challenge(f.Context())
	require.NoError(f, err)
	signed, err := signer.SignLogin(challenge, company, challenge.Timestamp)
	require.NoError(f, err)
	operation, err := f.api.SubmitXAdES(f.Context(), signed)
	require.NoError(f, err)
	tokens, err := session.Complete(f.Context(), f.api, operation)
	require.NoError(f, err)
	return f.api.WithTokenSource(tokens.Access.Token)
}

// newToken returns a KSeF token that need not be Active yet.
func (f *fixture) newToken() *client.NewToken {
	made, err := f.owner().GenerateToken(f.Context(), client.TokenRequest{Permissions: []string{"InvoiceRead"}, Description: "A token"})
	require.NoError(f, err)
	return made
}

func (f *fixture) requests(endpoint string) int {
	sum := 0
	for _, count := range f.ksef.State().Requests[endpoint] {
		sum += count
	}
	return sum
}

// unlimited are options without limits, for many logins at once.
func unlimited() simulator.Options {
	none := simulator.Windows{PerSecond: -1, PerMinute: -1, PerHour: -1}
	return simulator.Options{Limits: simulator.Limits{Context: none, Client: none, Global: none}}
}

func TestBeginTokenLogin_sharesTheKeys(t *testing.T) {
	inBubble(t, unlimited(), func(f *fixture) {
		login := client.TokenLogin{Taxpayer: company, Token: f.newToken().Token}
		log300 := func(api *client.Client) {
			var logins sync.WaitGroup
			for range 300 {
				logins.Go(func() {
					_, _, err := api.WithTokenSource(nil).BeginTokenLogin(f.Context(), login)
					assert.NoError(f, err)
				})
			}
			logins.Wait()
		}
		log300(f.api)
		require.Equal(f, 1, f.requests(client.EndpointPublicKeys))
		require.Equal(f, 300, f.requests(client.EndpointKSeFToken))

		<-time.After(24*time.Hour - time.Nanosecond)
		log300(f.api)
		require.Equal(f, 1, f.requests(client.EndpointPublicKeys), "the keys are a day old")
		<-time.After(time.Nanosecond)
		log300(f.api)
		require.Equal(f, 2, f.requests(client.EndpointPublicKeys))

		log300(f.from("198.51.100.8"))
		require.Equal(f, 3, f.requests(client.EndpointPublicKeys), "the keys of another client are not known to it")
	})
}

// A login that does not wait for the token to become Active, as KsefTokenIntegrationTest of the
// official Java client.
func TestBeginTokenLogin_withPendingToken(t *testing.T) {
	inBubble(t, simulator.Options{ActivationDelay: 20 * time.Second}, func(f *fixture) {
		operation, seenFrom, err := f.api.BeginTokenLogin(f.Context(), client.TokenLogin{Taxpayer: company, Token: f.newToken().Token})
		require.NoError(f, err)
		require.Equal(f, ownAddress, seenFrom)
		began := time.Now()
		tokens, err := session.Complete(f.Context(), f.api, operation)
		require.NoError(f, err)
		require.GreaterOrEqual(f, time.Since(began), 20*time.Second)
		_, err = f.api.WithTokenSource(tokens.Access.Token).QueryTokens(f.Context(), client.TokenQuery{})
		require.NoError(f, err, "no policy allows all addresses")
	})
}

func TestBeginTokenLogin_bindsToAddresses(t *testing.T) {
	inBubble(t, simulator.Options{ActivationDelay: -1}, func(f *fixture) {
		token := f.newToken()
		allowed := []string{"192.0.2.0/24", "203.0.113.1-203.0.113.9", "203.0.113.77"}
		operation, _, err := f.api.BeginTokenLogin(f.Context(), client.TokenLogin{
			Taxpayer: company, Token: token.Token,
			AllowedIPs: func(challenge *client.Challenge) (xades.AllowedIPs, error) {
				return session.BindAlso(allowed, challenge)
			},
		})
		require.NoError(f, err)
		tokens, err := session.Complete(f.Context(), f.api, operation)
		require.NoError(f, err)
		for address, refused := range map[string]bool{
			ownAddress: false, "192.0.2.200": false, "203.0.113.5": false, "203.0.113.77": false, "203.0.113.10": true, "198.51.100.8": true,
		} {
			_, err := f.from(address).WithTokenSource(tokens.Access.Token).Token(f.Context(), token.ReferenceNumber)
			require.Equal(f, refused, client.IsAddressRefused(err), "%s: %v", address, err)
			require.Equal(f, refused, err != nil, "%s: %v", address, err)
		}
	})
}

func TestBeginTokenLogin_withoutAddressesIsNotSubmitted(t *testing.T) {
	inBubble(t, simulator.Options{ActivationDelay: -1}, func(f *fixture) {
		unbound := errors.New("no address")
		_, seenFrom, err := f.api.BeginTokenLogin(f.Context(), client.TokenLogin{
			Taxpayer: company, Token: f.newToken().Token,
			AllowedIPs: func(*client.Challenge) (xades.AllowedIPs, error) { return xades.AllowedIPs{}, unbound },
		})
		require.ErrorIs(f, err, unbound)
		require.Equal(f, ownAddress, seenFrom)
		require.Zero(f, f.requests(client.EndpointKSeFToken))
	})
}
