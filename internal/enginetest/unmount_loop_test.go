// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestUnmountInALoopLeavesNoTokens disables and enables a mount, each time at another moment of the
// issues in flight, while another mount of the same context issues tokens.
func TestUnmountInALoopLeavesNoTokens(t *testing.T) {
	withUnmountable(t, simulator.Options{ActivationDelay: 4 * time.Second}, func(t *testing.T, other *unmountable) {
		ids := make(map[string]bool)
		for round := range 12 {
			u := &unmountable{Mount: other.Env.Mount(&logical.InmemStorage{})}
			u.Configure()
			u.Must(u.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			leased := u.Must(u.Read("creds/invoices", nil))
			answered, others := u.reading(3), other.reading(1)
			u.Elapse(time.Duration(round) * 500 * time.Millisecond)
			ids[u.Must(u.Read("status", nil)).Data["mount_id"].(string)] = true

			// Responses before Vault collects the leases have one; Clean ends the rest.
			left, err := u.disable(leased)
			require.NoError(t, err)
			require.Empty(t, left)
			answered()
			require.Equal(t, 1, others(), "another mount issues on")
			require.Len(t, u.AliveTokens(), round+1, "only the tokens of the other mount live")
			u.Elapse(10 * time.Minute)
		}
		require.Len(t, ids, 12, "each is a new mount")
		require.Zero(t, other.KSeF.State().Requests[IssueEndpoint]["429"])
	})
}
