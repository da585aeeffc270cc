// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// redirecting is what stands before KSeF and sends everybody elsewhere.
type redirecting struct{}

func (redirecting) RoundTrip(request *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusFound, Header: http.Header{"Location": {"https://login.test/"}},
		Body: io.NopCloser(strings.NewReader("<html>")), Request: request,
	}, nil
}

// A configuration of which KSeF has said nothing is not one that does not work.
func TestConfigUnasked(t *testing.T) {
	const unasked = "the configuration was not stored, because KSeF could not be asked whether it works (verify=false stores it unasked): "
	const refused = "the configuration was not stored, because it does not work: "
	status := func(status, retryAfter int) *simulator.Fault {
		return &simulator.Fault{Endpoint: "POST /auth/challenge", Kind: simulator.FaultStatus, Status: status, RetryAfter: retryAfter, Times: -1}
	}
	for name, test := range map[string]struct {
		fault *simulator.Fault // nil redirects
		// answer is the HTTP status; 0 where Vault takes an error for a 500.
		answer int
		text   []string
	}{
		"too many requests": {status(429, 12), 429, []string{unasked, "next slot at 2000-01-01T00:00:12Z, in 12 s."}},
		"error of KSeF":     {status(500, 0), 0, []string{unasked, "status 500"}},
		"maintenance":       {status(503, 0), 0, []string{unasked, "status 503"}},
		"redirect":          {nil, 0, []string{unasked, "status 302"}},
		"no connection": {
			&simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1}, 0, []string{unasked, "could not be reached"},
		},
		"bad request": {status(400, 0), 400, []string{refused, "status 400"}},
		"no right":    {status(403, 0), 400, []string{refused, "status 403"}},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
				if test.fault == nil {
					env.SetTransport(redirecting{})
				} else {
					env.Fault(*test.fault)
				}
				m := env.Mount(&logical.InmemStorage{})
				defer m.Stop()
				response, err := m.Write("config", env.ConfigFields())
				require.Equal(t, test.answer, statusOf(response, err), "%v %v", response, err)
				if response.IsError() {
					err = response.Error()
				}
				for _, text := range test.text {
					require.ErrorContains(t, err, text)
				}
				require.Nil(t, m.Must(m.Read("config", nil)))
			})
		})
	}
}

// The limits that the engine keeps by itself are answered as KSeF's own 429 is.
func TestConfigUnaskedWithoutPermit(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Fault(simulator.Fault{Endpoint: "POST /auth/challenge", Kind: simulator.FaultStatus, Status: 429, RetryAfter: 300})
		certificate, key := m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP})
		data := map[string]any{"certificate": certificate, "private_key": key}
		_, first := m.Write("config", data)
		require.ErrorContains(t, first, "in 300 s.")
		m.Elapse(time.Minute)
		sent := m.AllRequests()
		response, err := m.Write("config", data)
		require.Equal(t, http.StatusTooManyRequests, statusOf(response, err))
		require.ErrorContains(t, err, "could not be asked whether it works")
		require.ErrorContains(t, err, "KSeF's limit for POST /auth/challenge is used up, so that this request was refused; next slot at 2000-01-01T00:0")
		require.Equal(t, sent, m.AllRequests())
	})
}

// statusOf is the HTTP status that an answer names; 0 where it names none.
func statusOf(response *logical.Response, err error) int {
	var coded logical.HTTPCodedError
	switch {
	case errors.As(err, &coded):
		return coded.Code()
	case err == nil && response.IsError():
		return http.StatusBadRequest
	}
	return 0
}
