// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestUnleased_storedFormat has a record as the first version with such records wrote it.
func TestUnleased_storedFormat(t *testing.T) {
	const (
		number = "20251010-EC-1DCE3E3000-12ECB5B36E-45"
		stored = `{
			"version": 1, "state": "released", "nonce": "static6d2dce40490c25aa", "reference_number": "` + number + `",
			"target": {"api": "https://api-test.ksef.mf.gov.pl/v2", "context": {"type": "Nip", "value": "5265877635"}},
			"holder": {"kind": "static", "role": "erp"}, "author": "5265877635", "permissions": ["InvoiceRead"],
			"description": "for the ERP [vault:0123456789ab:static6d2dce40490c25aa]",
			"created": "2027-01-15T08:00:00Z", "valid_until": "2027-02-15T08:00:00Z", "ended": "2027-01-15T08:30:00Z"
		}`
	)
	record, err := decodeRecord("ledger/unleased/live/"+number, []byte(stored))
	require.NoError(t, err)
	require.Equal(t, &Record{
		Version: 1, State: Released, Nonce: "static6d2dce40490c25aa", ReferenceNumber: number, Target: testTarget,
		Holder: Holder{Kind: HolderStatic, Role: "erp"}, Subject: "5265877635", Permissions: []string{"InvoiceRead"},
		Description: "for the ERP [vault:0123456789ab:static6d2dce40490c25aa]",
		Created:     time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC), ValidUntil: time.Date(2027, 2, 15, 8, 0, 0, 0, time.UTC),
		Ended: time.Date(2027, 1, 15, 8, 30, 0, 0, time.UTC),
	}, record)
	again, err := json.Marshal(record)
	require.NoError(t, err)
	require.JSONEq(t, stored, string(again), "and writes it alike")
}

// TestUnleased_unreadable has records whose holder could be another.
func TestUnleased_unreadable(t *testing.T) {
	good := Record{
		Version: unleasedVersion, State: Live, Nonce: newHolderNonce(HolderAccess), ReferenceNumber: "number", Target: testTarget,
		Holder: Holder{Kind: HolderAccess, Role: "invoices"},
	}
	decode := func(record Record, key string) (*Record, error) {
		encoded, err := json.Marshal(record)
		require.NoError(t, err)
		return decodeRecord(key, encoded)
	}
	_, err := decode(good, good.key())
	require.NoError(t, err)
	for name, change := range map[string]func(*Record){
		"newer_version":               func(r *Record) { r.Version++ },
		"no_holder":                   func(r *Record) { r.Holder = Holder{} },
		"no_role":                     func(r *Record) { r.Holder.Role = "" },
		"kind_of_another_nonce":       func(r *Record) { r.Holder.Kind = HolderStatic },
		"holder_of_a_lease":           func(r *Record) { r.Nonce = newNonce(time.Now()) },
		"lease_that_is_released":      func(r *Record) { r.Nonce, r.Holder, r.State = newNonce(time.Now()), Holder{}, Released },
		"word_that_is_no_holder_kind": func(r *Record) { r.Nonce, r.Holder.Kind = "others"+r.Nonce[bucketDigits:], "others" },
	} {
		t.Run(name, func(t *testing.T) {
			changed := good
			change(&changed)
			_, err := decode(changed, changed.key())
			require.ErrorIs(t, err, errUnreadableRecord)
		})
	}
	_, err = decode(good, liveKey(newNonce(time.Now()), "number"))
	require.ErrorIs(t, err, errUnreadableRecord, "among those with a lease")

	ending := good
	ending.State, ending.Holder = Revoking, Holder{}
	found, err := decode(ending, ending.key())
	require.NoError(t, err)
	require.Equal(t, Holder{Kind: HolderAccess}, found.Holder, "as a version that knows leased tokens only writes it")
}
