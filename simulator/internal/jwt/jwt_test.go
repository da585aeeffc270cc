// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package jwt_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
)

func TestParse(t *testing.T) {
	now := time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)
	key := jwt.NewKey()
	claims := jwt.Claims{Type: jwt.Access, Reference: "20260601-AU-20F5EE4000-DA48AE4124-46", Expires: now.Unix()}
	claims.Permissions = jwt.NewList([]string{"InvoiceRead"})
	signed := key.Sign(claims)

	read, err := key.Parse(signed, now.Add(-time.Second))
	require.NoError(t, err)
	require.Equal(t, claims, read)
	require.Equal(t, []string{"InvoiceRead"}, read.Permissions.Values())
	require.Nil(t, read.Roles.Values(), "a claim that is left out is no list")

	read, err = key.Parse(signed, now)
	require.ErrorIs(t, err, jwt.ErrExpired)
	require.Equal(t, claims, read, "an expired token still names its login")

	head, rest, _ := strings.Cut(signed, ".")
	for name, invalid := range map[string]string{
		"empty":               "",
		"one part":            head,
		"no signature":        head + "." + strings.Split(rest, ".")[0] + ".",
		"changed claims":      head + ".e30." + strings.Split(rest, ".")[1],
		"signature not valid": signed + "!",
	} {
		_, err := key.Parse(invalid, now.Add(-time.Second))
		require.ErrorIs(t, err, jwt.ErrInvalid, name)
	}
	_, err = jwt.NewKey().Parse(signed, now.Add(-time.Second))
	require.ErrorIs(t, err, jwt.ErrInvalid, "another key")
}
