// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestReadsAskNothingOfKSeF(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Issue()
		m.Elapse(Day) // the access token has ended
		sent := m.AllRequests()
		for _, path := range []string{"config", "status", "roles/invoices"} {
			require.NotEmpty(t, m.Must(m.Read(path, nil)).Data, path)
		}
		for _, path := range []string{"roles/", "tokens/"} {
			require.Len(t, m.Must(m.List(path)).Data["keys"], 1, path)
		}
		require.Equal(t, sent, m.AllRequests())
	})
}
