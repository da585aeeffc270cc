// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// repeats reports whether Vault's client would repeat the request.
func repeats(t *testing.T, status int) bool {
	t.Helper()
	again, _ := api.DefaultRetryPolicy(t.Context(), &http.Response{StatusCode: status}, nil)
	return again
}

func TestResponse(t *testing.T) {
	issue := func(m *Mount) (*logical.Response, error) { return m.Read("creds/invoices", nil) }
	write := func(data map[string]any) func(m *Mount) (*logical.Response, error) {
		return func(m *Mount) (*logical.Response, error) { return m.Write("tokens", data) }
	}
	token := map[string]any{"permissions": "InvoiceRead", "description": "Report"}
	for name, test := range map[string]struct {
		fault   *simulator.Fault
		options simulator.Options
		request func(m *Mount) (*logical.Response, error)
		status  int
		text    string
	}{
		"lost_reply_of_creds_is_not_repeated": {
			fault:   &simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropResponse},
			request: issue, status: http.StatusConflict, text: "will be found and revoked",
		},
		"lost_reply_of_tokens_is_not_repeated": {
			fault:   &simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropResponse},
			request: write(token), status: http.StatusConflict, text: "will be found and revoked",
		},
		"failed_activation_is_not_repeated": {
			fault:   &simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultFailActivation},
			request: issue, status: http.StatusConflict, text: "ask again for another",
		},
		"refused_session_is_not_repeated": {
			fault:   &simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultStatus, Status: http.StatusUnauthorized, Times: -1},
			request: issue, status: http.StatusBadRequest, text: "KSeF did not accept the session's token",
		},
		"continuation_token_with_control_character": {
			request: func(m *Mount) (*logical.Response, error) {
				return m.Read("tokens", map[string]any{"continuation_token": "abc\r\nX-Other: 1"})
			},
			status: http.StatusBadRequest, text: "continuation_token:",
		},
	} {
		t.Run(name, func(t *testing.T) {
			WithMount(t, test.options, func(t *testing.T, m *Mount) {
				m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
				if test.fault != nil {
					m.Fault(*test.fault)
				}
				response, err := test.request(m)
				status, err := logical.RespondErrorCommon(&logical.Request{Operation: logical.UpdateOperation}, response, err)
				logical.AdjustErrorStatusCode(&status, err)
				require.Equal(t, test.status, status, "%v", err)
				require.ErrorContains(t, err, test.text)
				require.False(t, repeats(t, status))
			})
		})
	}
}

func TestResponseToUnconfirmedDeletion(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		issued := m.Issue()
		m.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropRequest, Times: 1})
		number := issued.Data["reference_number"].(string)

		response := m.Must(m.Delete("tokens/" + number))
		require.NotNil(t, response)
		require.Len(t, response.Warnings, 1)
		require.Contains(t, response.Warnings[0], "has not yet confirmed that the token "+number+" is revoked")
		require.Error(t, m.Revoke(m.Lease(issued)), "a lease ends only when the token is dead")

		m.Elapse(10 * time.Minute)
		require.Equal(t, "Revoked", m.StatusInKSeF(number))
		require.Nil(t, m.Must(m.Delete("tokens/"+number)))
	})
}
