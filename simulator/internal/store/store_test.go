// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

var (
	start   = time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)
	company = ksef.Identifier{Type: ksef.TypeNIP, Value: "5265877635"}
	person  = ksef.Identifier{Type: ksef.TypePESEL, Value: "85010112345"}
)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func TestTokenStatus(t *testing.T) {
	tests := map[string]struct {
		token    store.Token
		statuses map[int]string
	}{
		"active": {store.Token{Decided: at(1)}, map[int]string{0: "Pending", 1: "Active", 9: "Active"}},
		"failed": {store.Token{Decided: at(1), Fails: true}, map[int]string{0: "Pending", 1: "Failed"}},
		"revoked": {store.Token{Decided: at(1), Revoked: at(3), RevocationEnds: at(5)},
			map[int]string{3: "Revoking", 4: "Revoking", 5: "Revoked"}},
		"expired": {store.Token{Decided: at(1), Expires: at(3)}, map[int]string{2: "Active", 3: "Revoked"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for seconds, want := range test.statuses {
				require.Equal(t, want, test.token.Status(at(seconds)), "after %d s", seconds)
			}
		})
	}
}

func TestChallenge(t *testing.T) {
	s := store.New()
	s.AddChallenge("first", start)
	s.AddChallenge("second", start)
	made, valid := s.UseChallenge("first", start.Add(10*time.Minute-1))
	require.True(t, valid)
	require.Equal(t, start, made)
	_, valid = s.UseChallenge("first", start)
	require.False(t, valid, "used twice")
	_, valid = s.UseChallenge("second", start.Add(10*time.Minute))
	require.False(t, valid, "too old")
}

func TestRights(t *testing.T) {
	rights := &store.New().Rights
	grant := func(permission string, starts int) *store.Grant {
		return &store.Grant{Holder: person, Context: company, Permission: permission, Starts: at(starts)}
	}
	of := func(seconds int) ([]string, bool) { return rights.Of(person, company, at(seconds)) }

	permissions, ever := of(9)
	require.Empty(t, permissions)
	require.False(t, ever)

	rights.Add(grant("InvoiceWrite", 2))
	rights.Add(grant("InvoiceRead", 2))
	rights.Add(grant("InvoiceRead", 1)) // the earlier start counts
	require.Len(t, rights.Grants, 2)
	permissions, ever = of(0)
	require.Empty(t, permissions)
	require.False(t, ever, "not yet in force")
	permissions, ever = of(1)
	require.Equal(t, []string{"InvoiceRead"}, permissions)
	require.True(t, ever)
	permissions, _ = of(2)
	require.Equal(t, []string{"InvoiceRead", "InvoiceWrite"}, permissions)

	rights.EndAll(person, at(5))
	rights.EndAll(person, at(7)) // the earlier end remains
	permissions, ever = of(5)
	require.Empty(t, permissions)
	require.True(t, ever)
}

func TestRightsRestrict(t *testing.T) {
	rights := &store.New().Rights
	rights.Restrict(person, company)
	permissions, ever := rights.Of(person, company, start)
	require.Empty(t, permissions)
	require.True(t, ever)
}

func TestSignedDocumentsAreBounded(t *testing.T) {
	s := store.New()
	for i := range 1001 {
		s.AddSigned([]byte{byte(i)})
	}
	require.Len(t, s.SignedDocuments, 1000)
	require.Equal(t, []byte{1}, s.SignedDocuments[0])
}
