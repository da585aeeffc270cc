// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestEachSwitchHasAFlag(t *testing.T) {
	plain, err := newServeFlags(nil, io.Discard)
	require.NoError(t, err)
	tests := map[string]func(*simulator.Options){
		"--tokens-read-others":                func(o *simulator.Options) { o.TokensReadOthers = true },
		"--tokens-may-not-query-certificates": func(o *simulator.Options) { o.TokensMayNotQueryCertificates = true },
		"--omit-authentication-method":        func(o *simulator.Options) { o.OmitAuthenticationMethod = true },
		"--forbid-other-jwts":                 func(o *simulator.Options) { o.ForbidOtherJWTs = true },
		"--tokens=expiring":                   func(o *simulator.Options) { o.Tokens = simulator.TokensExpiring },
		"--token-validity=30":                 func(o *simulator.Options) { o.TokenValidity = 30 },
	}
	for flag, set := range tests {
		want := plain.options
		set(&want)
		got, err := newServeFlags([]string{flag}, io.Discard)
		require.NoError(t, err)
		require.NotEqual(t, plain.options, got.options)
		require.Equal(t, want, got.options, flag)
	}
}
