// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// sessionsPiledUp looks for a context in which more sessions are alive than there are mounts. What
// programs have logged in with their tokens does not count.
func (s *cluster) sessionsPiledUp() error {
	alive := make(map[simulator.Identifier][]string)
	for _, one := range s.ksef.State().Sessions {
		if one.Active && one.TokenReferenceNumber == "" {
			alive[one.ContextIdentifier] = append(alive[one.ContextIdentifier], one.ReferenceNumber)
		}
	}
	for in, sessions := range alive {
		if len(sessions) > len(s.vaults) {
			return fmt.Errorf("%d sessions are alive in %v: %v", len(sessions), in, sessions)
		}
	}
	return nil
}

// endSessions ends the first mount's sessions in KSeF.
func (s *cluster) endSessions() {
	s.onMount(0, func(m *mount) {
		connected, err := m.backend.connect(s.t.Context())
		require.NoError(s.t, err)
		for _, one := range connected.sessions.Sessions() {
			require.NoError(s.t, connected.sessions.Discard(s.t.Context(), &one))
		}
	})
}

// useSessions has every mount ask KSeF something in config's own context, and in each that is
// given.
func (s *cluster) useSessions(contexts ...map[string]any) error {
	var failures []error
	for _, v := range s.vaults {
		for _, in := range append(contexts, nil) {
			_, err := v.request(context.Background(), func(m *mount) (*logical.Response, error) { return m.read("tokens", in) })
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
