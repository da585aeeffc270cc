// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"errors"
	"fmt"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// sessionsPiledUp finds a context with more open sessions than mounts and access tokens by the
// certificate, and a token with more than one. Those of the person who makes tokens by hand do not
// count.
func (c *Cluster) sessionsPiledUp() error {
	alive := make(map[simulator.Identifier][]string)
	for _, one := range c.KSeF.State().Sessions {
		if one.Active && one.TokenReferenceNumber == "" && one.Identifier.Value != PESEL {
			alive[one.ContextIdentifier] = append(alive[one.ContextIdentifier], one.ReferenceNumber)
		}
	}
	keys, err := c.certificateKeys()
	if err != nil {
		return err
	}
	for in, sessions := range alive {
		if len(sessions) > len(c.Vaults)+keys {
			return fmt.Errorf("%d sessions are alive in %v: %v", len(sessions), in, sessions)
		}
	}
	return c.accessSessionsPiledUp()
}

// endSessions ends the first mount's sessions in KSeF.
func (c *Cluster) endSessions() {
	c.OnMount(0, func(m *Mount) {
		api := c.api()
		for _, stored := range m.storedSessions() {
			require.NoError(c.T, api.EndSession(c.T.Context(), stored.Refresh))
		}
	})
}

// useSessions makes a request to KSeF from every mount, in config's context and in the given ones.
func (c *Cluster) useSessions(contexts ...map[string]any) error {
	var failures []error
	for _, v := range c.Vaults {
		for _, in := range append(contexts, nil) {
			_, err := v.Request(context.Background(), func(m *Mount) (*logical.Response, error) { return m.Read("tokens", in) })
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
