// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestServeGlobalLimit(t *testing.T) {
	f, err := newServeFlags([]string{"--global-limit", "60,-1,1000"}, new(bytes.Buffer))
	require.NoError(t, err)
	require.Equal(t, simulator.Windows{PerSecond: 60, PerMinute: -1, PerHour: 1000}, f.options.Limits.Global)
	for _, wrong := range []string{"", "60", "1,2,x", "1,2,0", "1,2,3,4"} {
		_, err := newServeFlags([]string{"--global-limit", wrong}, new(bytes.Buffer))
		require.ErrorContains(t, err, "three numbers", wrong)
	}
}

func TestServeNoLimits(t *testing.T) {
	f, err := newServeFlags([]string{"--no-limits", "--global-limit", "1,1,1"}, new(bytes.Buffer))
	require.NoError(t, err)
	none := simulator.Windows{PerSecond: -1, PerMinute: -1, PerHour: -1}
	require.Equal(t, simulator.Limits{Context: none, Client: none, Global: none}, f.options.Limits)
}
