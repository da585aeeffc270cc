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
	"slices"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
)

// State is the state of a token's record.
type State string

// A record begins as issuing and goes to live; from there to revoking, where that takes longer than
// its caller waits, and to dead; then it is removed. An issuing record whose token was never made
// is removed. A live record without a lease may go to released instead.
const (
	// Issuing: KSeF has been or is being asked for the token.
	Issuing State = "issuing"
	// Live: KSeF has made the token, and there may be a lease of it.
	Live State = "live"
	// Revoking: the token must be revoked, and KSeF has not confirmed that yet.
	Revoking State = "revoking"
	// Dead: KSeF has confirmed the end, and the lease does not know yet.
	Dead State = "dead"
	// Released: a static role has handed the token back, which is not the engine's any more.
	Released State = "released"
)

// knownStates are those that this version has.
var knownStates = []State{Issuing, Live, Revoking, Dead, Released}

// The versions of records: of those below unleasedPrefix, and of all others.
const (
	recordVersion   = 1
	unleasedVersion = 1
)

// versionAt is the version of a record with that key.
func versionAt(key string) int { //nolint:unparam // the two versions are the same only until one changes
	if strings.HasPrefix(key, unleasedRoot) {
		return unleasedVersion
	}
	return recordVersion
}

// Record is one token from the intent to its end. It never has the token itself.
type Record struct {
	Version int    `json:"version"`
	State   State  `json:"state"`
	Nonce   string `json:"nonce"`
	// ReferenceNumber is KSeF's; "" while Issuing.
	ReferenceNumber string `json:"reference_number,omitempty"`
	Target          Target `json:"target"`
	// Role is that of a lease; "" for a token made by tokens, and for one without a lease.
	Role string `json:"role,omitempty"`
	// Holder is what a token without a lease belongs to; zero for one with a lease.
	Holder Holder `json:"holder,omitzero"`
	// EntityID and DisplayName are those of Vault for who asked for the token; "" where Vault has
	// none, and in records of a version that did not keep them.
	EntityID    string `json:"entity_id,omitempty"`
	DisplayName string `json:"display_name,omitempty"`
	// Subject identifies whose login made the token.
	Subject     string   `json:"author,omitempty"`
	Permissions []string `json:"permissions"`
	// Description is KSeF's, with the marker.
	Description string    `json:"description"`
	Created     time.Time `json:"created"`
	// Deadline is the lease's end, as issued or as last renewed; zero for a token without a lease.
	Deadline time.Time `json:"deadline,omitzero"`
	// ValidUntil is when KSeF ends the token by itself, by this machine's clock; zero where KSeF
	// has not said.
	ValidUntil time.Time `json:"valid_until,omitzero"`
	// Ended is when the revocation was asked for, or, once Dead, confirmed.
	Ended time.Time `json:"ended,omitzero"`
	// Cause says who asked for the end.
	Cause string `json:"cause,omitempty"`
	// NoLease says that the token was never returned, so that no lease asks for its end; LeaseEnded
	// says that its lease has asked.
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

// bucketWidth is the span of deadlines of one bucket.
const bucketWidth = time.Hour

// bucketLead keeps new records out of buckets that may have been checked already: from
// overdueNotice after its start on, a bucket's next check may be far away. The five minutes are for
// the time between the choice of a bucket and the write.
const bucketLead = bucketWidth - overdueNotice + 5*time.Minute

// A leased token's nonce is the number of its record's bucket and 64 random bits, in hexadecimal.
// So the marker in KSeF's list leads to the record, and the names of the buckets show which records
// may be due.
const (
	bucketDigits = 6
	randomBytes  = 8
	nonceLength  = bucketDigits + 2*randomBytes
)

func newNonce(deadline time.Time) string { return bucketOf(deadline) + randomHex(randomBytes) }

func randomHex(length int) string {
	random := make([]byte, length)
	_, _ = rand.Read(random) // never fails
	return hex.EncodeToString(random)
}

func bucketOf(deadline time.Time) string {
	return fmt.Sprintf("%0*x", bucketDigits, deadline.Unix()/int64(bucketWidth/time.Second))
}

// bucketStart is the earliest deadline that a bucket's records were issued with, except for leases
// so short that bucketLead moved them into a later one. It is zero for a name that is no bucket's,
// whose records are unreadable.
func bucketStart(bucket string) time.Time {
	number, err := strconv.ParseInt(bucket, 16, 64)
	if err != nil || len(bucket) != bucketDigits {
		return time.Time{}
	}
	return time.Unix(number*int64(bucketWidth/time.Second), 0)
}

// mountIDBytes keeps the marks of two mounts apart.
const mountIDBytes = 6

// markerLength is the marker's part of a token's description.
const markerLength = len(" [vault::]") + 2*mountIDBytes + nonceLength

// MaxDescription is how many characters of a token's description are left to the user: KSeF's limit
// less the marker.
const MaxDescription = client.MaxDescription - markerLength

// marker leads from a token in KSeF to its record.
func marker(mountID, nonce string) string { return mountMark(mountID) + nonce + "]" }

// mountMark begins the marker of each of the mount's tokens. KSeF's list can be filtered by it.
func mountMark(mountID string) string { return "[vault:" + mountID + ":" }

var markerPattern = regexp.MustCompile(`\[vault:([0-9a-f]{12}):((?:[0-9a-f]{6}|` + staticWord + `|` + accessWord + `)[0-9a-f]{16})\]$`)

// parseMarker returns the mount and the nonce that a description ends with.
func parseMarker(description string) (mountID, nonce string, ok bool) {
	found := markerPattern.FindStringSubmatch(description)
	if found == nil {
		return "", "", false
	}
	return found[1], found[2], true
}

// IsMarked says that a description ends with the marker of a mount of this engine.
func IsMarked(description string) bool { return markerPattern.MatchString(description) }

var errUnreadableRecord = errors.New("is not a record that this version can read")

// decodeRecord refuses an entry that could lead to the wrong token.
func decodeRecord(key string, data []byte) (*Record, error) {
	var record Record
	if err := json.Unmarshal(data, &record); err != nil {
		return nil, fmt.Errorf("the ledger's %s %w: %w", key, errUnreadableRecord, err)
	}
	if record.Version != versionAt(key) || !slices.Contains(knownStates, record.State) || len(record.Nonce) != nonceLength || record.Target.Context.IsZero() ||
		(record.State != Issuing && record.ReferenceNumber == "") || !record.restoreHolder(key) || record.key() != key {
		return nil, fmt.Errorf("the ledger's %s %w", key, errUnreadableRecord)
	}
	return &record, nil
}

// leaseMargin is how much later than the response Vault may date a lease.
const leaseMargin = 2 * time.Second

// sameValidity is how much two times of one token may differ: KSeF's clock is known to the second
// only.
const sameValidity = time.Minute

// LeaseLeft returns the longest lease in whole seconds that ends before a moment, even if Vault
// dates it a little later than now.
func LeaseLeft(until, now time.Time) time.Duration {
	return until.Add(-leaseMargin).Sub(now).Truncate(time.Second)
}

// updateValidity sets when KSeF ends the token by itself. It returns true where that changes the
// record. A time before the token was made is ignored.
func (r *Record) updateValidity(until time.Time) bool {
	if !until.After(r.Created) || until.Sub(r.ValidUntil).Abs() < sameValidity {
		return false
	}
	r.ValidUntil = until.UTC().Truncate(time.Second)
	if !r.Unleased() {
		r.Deadline = background.Earlier(r.Deadline, r.ValidUntil)
	}
	return true
}

func later(a, b time.Time) time.Time { return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare) }
