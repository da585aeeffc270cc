// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package failure_test

import (
	"net/http"
	"testing"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/failure"

	"github.com/stretchr/testify/require"
)

func TestNeedsOperator(t *testing.T) {
	for reason, needed := range map[string]bool{"ip-not-allowed": false, "missing-permissions": true} {
		refused := &client.APIError{Endpoint: client.EndpointRevokeToken, Status: http.StatusForbidden, ReasonCode: reason}
		require.Equal(t, needed, failure.NeedsOperator(refused), reason)
	}
}
