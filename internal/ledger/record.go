// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// State is where a token stands in the ledger.
type State string

// A record begins as issuing and goes to live; from there to revoking, where that takes longer than
// its caller waits, and to dead; then it is removed. An issuing record whose token was never made
// is removed.
const (
	// Issuing: KSeF has been or is being asked for the token.
	Issuing State = "issuing"
	// Live: KSeF has made the token, and a lease may hold it.
	Live State = "live"
	// Revoking: the token must die, and KSeF has not confirmed that yet.
	Revoking State = "revoking"
	// Dead: KSeF has confirmed the end, and the lease has not asked yet.
	Dead State = "dead"
)

// known is false for a state that this version does not have: what it stands for is not known.
func (s State) known() bool {
	switch s {
	case Issuing, Live, Revoking, Dead:
		return true
	}
	return false
}

const recordVersion = 1

// Record is one token from intent to death. It never holds the token itself.
type Record struct {
	Version int    `json:"version"`
	State   State  `json:"state"`
	Nonce   string `json:"nonce"`
	// ReferenceNumber is KSeF's; "" while Issuing.
	ReferenceNumber string `json:"reference_number,omitempty"`
	Target          Target `json:"target"`
	Role            string `json:"role,omitempty"`
	// Subject identifies whose login made the token, as the session tells it.
	Subject     string   `json:"author,omitempty"`
	Permissions []string `json:"permissions"`
	// Description is as KSeF has it, the marker included.
	Description string    `json:"description"`
	Created     time.Time `json:"created"`
	// Deadline is the lease's end, as issued or as last renewed.
	Deadline time.Time `json:"deadline"`
	// ValidUntil is when KSeF ends the token by itself, by this machine's clock; zero where KSeF
	// has not said.
	ValidUntil time.Time `json:"valid_until,omitzero"`
	// Ended is when the revocation was asked for, or, once Dead, confirmed.
	Ended time.Time `json:"ended,omitzero"`
	// Cause says who asked for the end.
	Cause string `json:"cause,omitempty"`
	// NoLease says that nobody has received the token, so that no lease will ask for its end;
	// LeaseEnded that its lease has asked.
	NoLease    bool `json:"no_lease,omitempty"`
	LeaseEnded bool `json:"lease_ended,omitempty"`
	// Unknown is zero unless KSeF has said of a Revoking token that it does not know it.
	Unknown Unknown `json:"unknown,omitzero"`
}

// Target is where a token lives: an API and a context there.
type Target struct {
	API     string                   `json:"api"`
	Context client.ContextIdentifier `json:"context"`
}

func (t Target) String() string { return t.Context.String() + " at " + t.API }

// bucketWidth is the span of deadlines whose records lie in one storage folder.
const bucketWidth = time.Hour

// bucketLead keeps new records out of folders that may have been looked at already: from
// overdueNotice after its start on, a note may say that nothing in a folder is due for long. The
// five minutes are for the time between the choice of a folder and the writing there.
const bucketLead = bucketWidth - overdueNotice + 5*time.Minute

// A nonce is the number of the bucket in which its record lies and 64 random bits, in hexadecimal.
// So the marker in KSeF's list alone leads to the record, and the folders alone tell which records
// may be due.
const (
	bucketDigits = 6
	randomBytes  = 8
	nonceLength  = bucketDigits + 2*randomBytes
)

func newNonce(deadline time.Time) (string, error) {
	random := make([]byte, randomBytes)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("making a nonce: %w", err)
	}
	return bucketOf(deadline) + hex.EncodeToString(random), nil
}

func bucketOf(deadline time.Time) string {
	return fmt.Sprintf("%0*x", bucketDigits, deadline.Unix()/int64(bucketWidth/time.Second))
}

// bucketStart is the earliest deadline that a bucket's records were issued with, but for leases so
// short that bucketLead put them into a later one. It is zero for a name that is no bucket's, whose
// records are unreadable.
func bucketStart(bucket string) time.Time {
	number, err := strconv.ParseInt(bucket, 16, 64)
	if err != nil || len(bucket) != bucketDigits {
		return time.Time{}
	}
	return time.Unix(number*int64(bucketWidth/time.Second), 0)
}

// mountIDBytes makes two mounts in one context tell their tokens apart.
const mountIDBytes = 6

// markerLength is what the marker takes of a token's description.
const markerLength = len(" [vault::]") + 2*mountIDBytes + nonceLength

// MaxDescription is how many characters of a token's description are left to the user: KSeF's limit
// less the marker.
const MaxDescription = client.MaxDescription - markerLength

// marker ties a token in KSeF to its record, whatever else was lost.
func marker(mountID, nonce string) string { return fmt.Sprintf("[vault:%s:%s]", mountID, nonce) }

// mountMark is how the mark of each of the mount's tokens begins. KSeF's list can be filtered by
// it.
func mountMark(mountID string) string { return "[vault:" + mountID + ":" }

var markerPattern = regexp.MustCompile(`\[vault:([0-9a-f]{12}):([0-9a-f]{22})\]$`)

// parseMarker returns the mount and the nonce that a description ends with.
func parseMarker(description string) (mountID, nonce string, ok bool) {
	found := markerPattern.FindStringSubmatch(description)
	if found == nil {
		return "", "", false
	}
	return found[1], found[2], true
}

var errUnreadableRecord = errors.New("is not a record that this version can read")

// decodeRecord reads an entry and refuses one that could lead to the wrong token: the ledger would
// rather stop and say so.
func decodeRecord(key string, data []byte) (*Record, error) {
	var record Record
	if err := json.Unmarshal(data, &record); err != nil {
		return nil, fmt.Errorf("the ledger's %s %w: %w", key, errUnreadableRecord, err)
	}
	if record.Version != recordVersion || !record.State.known() || len(record.Nonce) != nonceLength || record.Target.Context.IsZero() ||
		(record.State != Issuing && record.ReferenceNumber == "") || record.key() != key {
		return nil, fmt.Errorf("the ledger's %s %w", key, errUnreadableRecord)
	}
	return &record, nil
}

// leaseMargin is how much later than it was answered Vault may date a lease.
const leaseMargin = 2 * time.Second

// sameValidity is how much two answers about one token may differ: KSeF's clock is known to the
// second only.
const sameValidity = time.Minute

// LeaseLeft returns the longest lease in whole seconds that ends before a moment, even if Vault
// dates it a little later than now.
func LeaseLeft(until, now time.Time) time.Duration {
	return until.Add(-leaseMargin).Sub(now).Truncate(time.Second)
}

// updateValidity notes when KSeF ends the token by itself. It returns true where that changes the
// record. A token that ends before it is made does not exist, so that such an answer says nothing.
func (r *Record) updateValidity(until time.Time) bool {
	if !until.After(r.Created) || until.Sub(r.ValidUntil).Abs() < sameValidity {
		return false
	}
	r.ValidUntil = until.UTC().Truncate(time.Second)
	r.Deadline = earlierEnd(r.Deadline, r.ValidUntil)
	return true
}

// earlierEnd returns the earlier of two moments, of which zero is none.
func earlierEnd(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
