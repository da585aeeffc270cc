// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServeFlagsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/simulator.md")
	require.NoError(t, err)
	_, _, log := command(t, "", "serve", "-h")
	flags := regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(log, -1)
	require.NotEmpty(t, flags)
	for _, flag := range flags {
		require.Regexp(t, "`--"+flag[1]+"[`=]", string(page))
	}
}
