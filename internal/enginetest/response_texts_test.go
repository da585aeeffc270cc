// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestResponseTexts(t *testing.T) {
	t.Run("name_the_mount", testResponseTextsNameTheMount)
	t.Run("too_many_requests", testResponseTextsTooManyRequests)
	t.Run("unknown_outcome", testResponseTextsUnknownOutcome)
	t.Run("blocked_address", testResponseTextsBlockedAddress)
}

func testResponseTextsNameTheMount(t *testing.T) {
	t.Run("in what a mistake is answered with", func(t *testing.T) {
		InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
			m := env.Mount(&logical.InmemStorage{})
			defer m.Stop()
			require.Contains(t, m.Refused(m.Read("tokens", nil)), "config: has not been written yet; vault write ksef/config environment=")
			require.Contains(t, m.Refused(m.Read("creds/missing", nil)), "vault list ksef/roles")
			require.Contains(t, m.Must(m.Read("status", nil)).Warnings, "config: has not been written yet; "+
				"vault write ksef/config environment=... nip=..., with certificate=@... private_key=@... or, for a login that a person signs, without")
		})
	})
	t.Run("in a revocation that KSeF has not confirmed", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			lease := m.Lease(m.Issue())
			m.Fault(simulator.Fault{Endpoint: client.EndpointRevokeToken, Kind: simulator.FaultStatus, Status: 503, Times: -1})
			err := m.Revoke(lease)
			require.ErrorContains(t, err, "give that command again with its id: ksef/creds/invoices/ and one of those that this lists: vault list sys/leases/lookup/ksef/creds/invoices")
			require.NotContains(t, err.Error(), "<")
		})
	})
	t.Run("in the last error", func(t *testing.T) {
		inForgetfulKSeF(t, func(t *testing.T, m *Mount, issued *logical.Response) {
			require.Error(t, m.Revoke(m.Lease(issued)))
			require.Contains(t, m.Must(m.Read("status", nil)).Data["last_error"], "or at once with: vault delete ksef/tokens/")
		})
	})
	t.Run("in the details of status", func(t *testing.T) {
		inForgetfulKSeF(t, func(t *testing.T, m *Mount, issued *logical.Response) {
			require.Error(t, m.Revoke(m.Lease(issued)))
			details := fmt.Sprint(m.StatusDetails())
			require.Contains(t, details, "vault delete ksef/tokens/"+issued.Data["reference_number"].(string))
			require.NotContains(t, details, "<mount>")
		})
	})
}

// A 429 of KSeF says as much as one of the engine, at the first and at the second request.
func testResponseTextsTooManyRequests(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Issue()
		m.Fault(simulator.Fault{Endpoint: client.EndpointGenerateToken, Kind: simulator.FaultStatus, Status: 429, RetryAfter: 300})
		permit := time.Now().Add(300*time.Second + time.Second - 1).UTC().Format(time.RFC3339)
		response, err := m.Read("creds/invoices", nil)
		require.Nil(t, response, "no header could be set")
		require.Equal(t, http.StatusTooManyRequests, statusOf(err))
		require.ErrorContains(t, err, "; next slot at "+permit+", in 300 s.")
		require.NotContains(t, err.Error(), "..")
		m.Elapse(100 * time.Second)
		response, err = m.Read("creds/invoices", nil)
		require.Nil(t, response)
		require.Equal(t, http.StatusTooManyRequests, statusOf(err))
		require.ErrorContains(t, err, "; next slot at 2000-01-01T00:0")
		require.ErrorContains(t, err, ", in 201 s")
	})
}

func testResponseTextsUnknownOutcome(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Issue()
		m.Fault(simulator.Fault{Endpoint: client.EndpointGenerateToken, Kind: simulator.FaultStatus, Status: 500})
		_, err := m.Read("creds/invoices", nil)
		require.ErrorContains(t, err, "KSeF failed, and did not say whether it has made a token, so the token was not returned")
		m.Fault(simulator.Fault{Endpoint: client.EndpointGenerateToken, Kind: simulator.FaultDropResponse})
		_, err = m.Read("creds/invoices", nil)
		require.ErrorContains(t, err, "the reply to the request for a token was lost, so the token was not returned")
	})
}

// A limit by address has no context to name.
func testResponseTextsBlockedAddress(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Fault(simulator.Fault{Endpoint: client.EndpointChallenge, Kind: simulator.FaultStatus, Status: 429, RetryAfter: 300})
		certificate, key := m.NewCertificate(simulator.CertificateOptions{NIP: NIP})
		_, err := m.Write("config", map[string]any{"certificate": certificate, "private_key": key})
		require.Error(t, err)
		require.Contains(t, strings.Join(m.Must(m.Read("status", nil)).Warnings, "\n"),
			"KSeF has blocked POST /auth/challenge in all contexts from this address: nothing is sent there before 2000-")
	})
}

// statusOf is the HTTP status that an error names; 0 where it names none.
func statusOf(err error) int {
	var coded logical.HTTPCodedError
	if errors.As(err, &coded) {
		return coded.Code()
	}
	return 0
}
