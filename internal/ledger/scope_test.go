// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"errors"
	"testing"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
)

func TestAnErrorSpeaksOfWhomItNames(t *testing.T) {
	answer := func(endpoint string, status int) error { return &client.APIError{Endpoint: endpoint, Status: status} }
	for name, test := range map[string]struct {
		err     error
		scope   scope
		unclear bool
	}{
		"DELETE refused":   {answer(client.EndpointRevokeToken, 400), ofTask, false},
		"DELETE forbidden": {answer(client.EndpointRevokeToken, 403), ofTask, false},
		"DELETE from an address that is not allowed": {
			&client.APIError{Endpoint: client.EndpointRevokeToken, Status: 403, ReasonCode: "ip-not-allowed"}, ofQueue, false,
		},
		"DELETE without login":     {answer(client.EndpointRevokeToken, 401), ofQueue, false},
		"DELETE beyond the limit":  {answer(client.EndpointRevokeToken, 429), ofQueue, false},
		"DELETE fails in KSeF":     {answer(client.EndpointRevokeToken, 503), ofService, true},
		"GET refused":              {answer(client.EndpointToken, 400), ofTask, false},
		"login refused":            {answer(client.EndpointXAdES, 400), ofQueue, false},
		"refresh refused":          {answer(client.EndpointRefresh, 400), ofQueue, false},
		"login decided against":    {&client.LoginError{}, ofQueue, false},
		"DELETE's reply lost":      {&client.TransportError{Endpoint: client.EndpointRevokeToken, Sent: true}, ofQueue, true},
		"DELETE never sent":        {&client.TransportError{Endpoint: client.EndpointRevokeToken}, ofQueue, false},
		"refresh's reply lost":     {&client.TransportError{Endpoint: client.EndpointRefresh, Sent: true}, ofQueue, false},
		"a failure of the storage": {errors.New("storage"), ofQueue, false},
		"a failure of one job":     {&taskError{errors.New("job")}, ofTask, false},
	} {
		require.Equal(t, test.scope, scopeOf(test.err), name)
		require.Equal(t, test.unclear, isUnclear(test.err), name)
	}
}
