// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"errors"
	"fmt"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// sessionsPiledUp looks for a context in which more sessions are alive than there are mounts. What
// programs have logged in with their tokens does not count.
func (s *Cluster) sessionsPiledUp() error {
	alive := make(map[simulator.Identifier][]string)
	for _, one := range s.KSeF.State().Sessions {
		if one.Active && one.TokenReferenceNumber == "" {
			alive[one.ContextIdentifier] = append(alive[one.ContextIdentifier], one.ReferenceNumber)
		}
	}
	for in, sessions := range alive {
		if len(sessions) > len(s.Vaults) {
			return fmt.Errorf("%d sessions are alive in %v: %v", len(sessions), in, sessions)
		}
	}
	return nil
}

// endSessions ends the first mount's sessions in KSeF.
func (s *Cluster) endSessions() {
	s.OnMount(0, func(m *Mount) {
		api, err := client.New(client.Config{URL: URL, Transport: s.Transport})
		require.NoError(s.T, err)
		for _, stored := range m.storedSessions() {
			require.NoError(s.T, api.EndSession(s.T.Context(), stored.Refresh))
		}
	})
}

// useSessions has every mount ask KSeF something in config's own context, and in each that is
// given.
func (s *Cluster) useSessions(contexts ...map[string]any) error {
	var failures []error
	for _, v := range s.Vaults {
		for _, in := range append(contexts, nil) {
			_, err := v.Request(context.Background(), func(m *Mount) (*logical.Response, error) { return m.Read("tokens", in) })
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
