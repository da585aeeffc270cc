// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
)

func TestMarker_leads_to_the_record(t *testing.T) {
	deadline := time.Date(2026, 11, 23, 14, 59, 59, 0, time.UTC)
	nonce := newNonce(deadline)
	mount, found, ok := parseMarker("Monthly report [vault:0123456789ab:ffffffffffffffffffffff] " + marker("0123456789ab", nonce))
	require.True(t, ok)
	require.Equal(t, "0123456789ab", mount)
	require.Equal(t, nonce, found, "the engine's own marker is the last one")

	require.Equal(t, deadline.Truncate(bucketWidth), bucketStart(nonce[:bucketDigits]).UTC())
	require.Zero(t, bucketStart("no hour"))
	for _, foreign := range []string{"", "Report", marker("0123456789ab", nonce) + " and more", "[vault:0123456789ab:xyz]"} {
		_, _, ok := parseMarker(foreign)
		require.False(t, ok, foreign)
	}
}

func TestMarker_fits_the_limit(t *testing.T) {
	nonce := newNonce(time.Now())
	whole := strings.Repeat("x", MaxDescription) + " " + marker("0123456789ab", nonce)
	require.Len(t, whole, client.MaxDescription)
}

func TestQueue_backoff(t *testing.T) {
	require.LessOrEqual(t, queueBackoff.Jittered(0), queueBackoff.Shortest)
	for failures := range 200 {
		pause := queueBackoff.Jittered(failures)
		require.GreaterOrEqual(t, pause, queueBackoff.Shortest/2)
		require.LessOrEqual(t, pause, queueBackoff.Longest)
	}
	seen := map[time.Duration]bool{}
	for range 50 {
		seen[queueBackoff.Jittered(10)] = true
	}
	require.Greater(t, len(seen), 40)
}

// TestRecord_unreadable has records that could lead to the wrong token, or mean something else.
func TestRecord_unreadable(t *testing.T) {
	nonce := newNonce(time.Unix(1_800_000_000, 0))
	good := Record{Version: recordVersion, State: Live, Nonce: nonce, ReferenceNumber: "number", Target: testTarget}
	for name, test := range map[string]struct {
		key    string
		change func(*Record)
	}{
		"newer_version":       {"", func(r *Record) { r.Version++ }},
		"state_of_no_meaning": {"", func(r *Record) { r.State = "paused" }},
		"short_nonce":         {"", func(r *Record) { r.Nonce = nonce[1:] }},
		"no_context":          {"", func(r *Record) { r.Target.Context = client.ContextIdentifier{} }},
		"no_reference_number": {"", func(r *Record) { r.ReferenceNumber = "" }},
		"key_of_another":      {liveKey(nonce, "another"), func(*Record) {}},
		"key_of_its_end":      {endingKey("number"), func(*Record) {}},
	} {
		t.Run(name, func(t *testing.T) {
			changed := good
			test.change(&changed)
			key := test.key
			if key == "" {
				key = changed.key()
			}
			encoded, err := json.Marshal(changed)
			require.NoError(t, err)
			_, err = decodeRecord(key, encoded)
			require.ErrorIs(t, err, errUnreadableRecord)
		})
	}
}

// TestRecord_stored_format has a record as the first version wrote it, with every field.
func TestRecord_stored_format(t *testing.T) {
	const stored = `{
		"version": 1, "state": "revoking", "nonce": "079c2f146d2dce40490c25", "reference_number": "20251010-EC-1DCE3E3000-12ECB5B36E-45",
		"target": {"api": "https://api-test.ksef.mf.gov.pl/v2", "context": {"type": "Nip", "value": "5265877635"}},
		"role": "invoices", "author": "5265877635", "permissions": ["InvoiceRead"],
		"description": "for invoices [vault:0123456789ab:079c2f146d2dce40490c25]",
		"created": "2027-01-15T08:00:00Z", "deadline": "2027-01-15T09:00:00Z", "valid_until": "2027-02-15T08:00:00Z",
		"ended": "2027-01-15T08:30:00Z", "cause": "the lease has ended", "no_lease": true, "lease_ended": true,
		"unknown": {"since": "2027-01-15T08:31:00Z", "seen": "2027-01-15T08:32:00Z"}
	}`
	at := func(hour, minute int) time.Time { return time.Date(2027, 1, 15, hour, minute, 0, 0, time.UTC) }
	record, err := decodeRecord("ledger/ending/20251010-EC-1DCE3E3000-12ECB5B36E-45", []byte(stored))
	require.NoError(t, err)
	require.Equal(t, &Record{
		Version: 1, State: Revoking, Nonce: "079c2f146d2dce40490c25", ReferenceNumber: "20251010-EC-1DCE3E3000-12ECB5B36E-45",
		Target: testTarget,
		Role:   "invoices", Subject: "5265877635", Permissions: []string{"InvoiceRead"},
		Description: "for invoices [vault:0123456789ab:079c2f146d2dce40490c25]",
		Created:     at(8, 0), Deadline: at(9, 0), ValidUntil: time.Date(2027, 2, 15, 8, 0, 0, 0, time.UTC),
		Ended: at(8, 30), Cause: "the lease has ended", NoLease: true, LeaseEnded: true,
		Unknown: Unknown{Since: at(8, 31), Seen: at(8, 32)},
	}, record)
	again, err := json.Marshal(record)
	require.NoError(t, err)
	require.JSONEq(t, stored, string(again), "and writes it alike")
}

// FuzzRecord holds that no entry makes the ledger panic, and that what it takes for a record is one
// that lies where it belongs.
func FuzzRecord(f *testing.F) {
	nonce := newNonce(time.Unix(1_800_000_000, 0))
	record := Record{
		Version: recordVersion, State: Live, Nonce: nonce, ReferenceNumber: "20251010-EC-1DCE3E3000-12ECB5B36E-45",
		Target: testTarget,
	}
	encoded, err := json.Marshal(record)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record.key(), encoded)
	f.Add(issuingKey(nonce), []byte(`{"version":1,"state":"issuing","nonce":"`+nonce+`"}`))
	f.Add("ledger/ending/x", []byte(`{"state":"dead"}`))
	unleased := Record{
		Version: unleasedVersion, State: Released, Nonce: newHolderNonce(HolderStatic), ReferenceNumber: record.ReferenceNumber,
		Target: testTarget, Holder: testHolder,
	}
	encoded, err = json.Marshal(unleased)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(unleased.key(), encoded)
	f.Add("", []byte("\x00"))
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		decoded, err := decodeRecord(key, data)
		if err != nil {
			return
		}
		require.Equal(t, key, decoded.key())
		require.False(t, decoded.Target.Context.IsZero())
		_ = bucketStart(decoded.Nonce[:bucketDigits])
	})
}
