// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

func TestIdentifier(t *testing.T) {
	tests := map[string]struct {
		kind, value          string
		wellFormed, checksum bool
	}{
		"NIP":                      {ksef.TypeNIP, "5265877635", true, true},
		"NIP, checksum":            {ksef.TypeNIP, "5265877634", true, false},
		"NIP, length":              {ksef.TypeNIP, "526587763", false, false},
		"internal unit":            {ksef.TypeInternalID, "5265877635-12346", true, true},
		"internal unit, checksum":  {ksef.TypeInternalID, "5265877635-12345", true, false},
		"European Union":           {ksef.TypeNIPVatUE, "5265877635-DE123456789", true, true},
		"European Union, checksum": {ksef.TypeNIPVatUE, "5265877634-DE123456789", true, false},
		"Peppol":                   {ksef.TypePeppolID, "PPL000001", true, true},
		"PESEL is no context":      {ksef.TypePESEL, "85010112345", false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			identifier := ksef.Identifier{Type: test.kind, Value: test.value}
			require.Equal(t, test.wellFormed, identifier.WellFormed())
			if test.wellFormed {
				require.Equal(t, test.checksum, identifier.Valid())
				require.Equal(t, test.checksum, identifier.Correct())
			}
		})
	}
	require.True(t, ksef.Identifier{Type: ksef.TypePESEL, Value: "85010112345"}.Correct())
	require.False(t, ksef.Identifier{Type: ksef.TypePESEL, Value: "85130112345"}.Correct(), "there is no month 13")
}

func TestOwns(t *testing.T) {
	company := ksef.Identifier{Type: ksef.TypeNIP, Value: "5265877635"}
	provider := ksef.Identifier{Type: ksef.TypePeppolID, Value: "PPL000001"}
	require.True(t, company.Owns(company))
	require.True(t, company.Owns(ksef.Identifier{Type: ksef.TypeInternalID, Value: "5265877635-12346"}))
	require.False(t, company.Owns(ksef.Identifier{Type: ksef.TypeNIP, Value: "1111111111"}))
	require.False(t, company.Owns(provider))
	require.True(t, provider.Owns(provider))
	require.False(t, provider.Owns(company))
}
