// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
)

var testHolder = Holder{Kind: HolderStatic, Role: "erp"}

// issueFor makes a token for a holder.
func (e *env) issueFor(holder Holder) (*Issued, error) {
	return e.Issue(e.t.Context(), func() (IssueRequest, error) {
		return IssueRequest{Target: testTarget, Holder: holder, Permissions: []string{"InvoiceRead"}, Description: "Report", ActivationTimeout: time.Minute}, nil
	})
}

// mustIssueFor returns the record of a new token.
func (e *env) mustIssueFor(holder Holder) *Record {
	e.t.Helper()
	issued, err := e.issueFor(holder)
	require.NoError(e.t, err)
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	e.disk.writes = nil
	return &issued.Record
}

// find returns a token's record, nil for none.
func (e *env) find(referenceNumber string) *Record {
	e.t.Helper()
	record, err := e.Ledger.find(e.t.Context(), referenceNumber)
	require.NoError(e.t, err)
	return record
}

func (e *env) text(referenceNumber string) client.Secret {
	e.t.Helper()
	text, err := e.Secret(e.t.Context(), referenceNumber)
	require.NoError(e.t, err)
	return text
}

// leasedMarker is how the versions that know leased tokens only find their mark.
var leasedMarker = regexp.MustCompile(`\[vault:([0-9a-f]{12}):([0-9a-f]{22})\]$`)

func TestUnleased_issue(t *testing.T) {
	for _, holder := range []Holder{testHolder, {Kind: HolderAccess, Role: "invoices"}} {
		bubble(t, "record_and_text/"+string(holder.Kind), func(t *testing.T, e *env) {
			issued, err := e.issueFor(holder)
			require.NoError(t, err)
			number := issued.Record.ReferenceNumber
			require.Equal(t, testSecret, issued.Token)
			require.Equal(t, testSecret, e.text(number))
			require.Equal(t, []string{unleasedKey(number)}, e.keys(StoragePrefix))
			record := e.find(number)
			require.Equal(t, holder, record.Holder)
			require.Zero(t, record.Deadline)
			require.Zero(t, issued.Until)
			require.Equal(t, []string{
				"put " + issuingKey(record.Nonce), "put " + textKey(number), "put " + record.key(), "delete " + issuingKey(record.Nonce),
			}, e.disk.writes)
		})
		bubble(t, "mark_is_foreign_to_an_older_version/"+string(holder.Kind), func(t *testing.T, e *env) {
			description := e.mustIssueFor(holder).Description
			require.False(t, leasedMarker.MatchString(description))
			_, record := e.mustIssue(time.Hour)
			require.True(t, leasedMarker.MatchString(record.Description))
			require.Len(t, description, len(record.Description), "the user's part may be as long as before")
			mountID, nonce, marked := parseMarker(description)
			require.True(t, marked)
			require.Equal(t, marker(mountID, nonce), description[len("Report "):])
		})
		bubble(t, "is_never_overdue/"+string(holder.Kind), func(t *testing.T, e *env) {
			record := e.mustIssueFor(holder)
			e.elapse(400 * 24 * time.Hour)
			e.restart()
			e.elapse(48 * time.Hour)
			require.Equal(t, []string{record.ReferenceNumber}, e.ksef.alive())
			require.Equal(t, Live, e.find(record.ReferenceNumber).State)
			require.Zero(t, e.overdueTokens())
			require.Empty(t, e.keys(nextCheckPrefix))
			require.Equal(t, testSecret, e.text(record.ReferenceNumber))
		})
	}
	bubble(t, "an_end_of_validity_is_no_deadline", func(t *testing.T, e *env) {
		record := e.mustIssueFor(testHolder)
		require.True(t, record.updateValidity(time.Now().Add(24*time.Hour)))
		require.Zero(t, record.Deadline)
	})
	bubble(t, "text_is_in_no_record", func(t *testing.T, e *env) {
		record := e.mustIssueFor(testHolder)
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		require.Error(t, e.RevokeUnleased(t.Context(), record.ReferenceNumber, "the role has been deleted"))
		for _, key := range e.keys("") {
			entry, err := e.disk.Get(t.Context(), key)
			require.NoError(t, err)
			if key != textKey(record.ReferenceNumber) {
				require.NotContains(t, string(entry.Value), testSecret.Reveal(), key)
			}
		}
	})
	bubble(t, "lost_reply_is_found_and_revoked", func(t *testing.T, e *env) {
		e.ksef.fail(&e.ksef.after, "POST", lostReply("POST"))
		_, err := e.issueFor(testHolder)
		var lost *LostReplyError
		require.ErrorAs(t, err, &lost)
		require.Equal(t, []string{issuingKey(lost.Nonce)}, e.keys(StoragePrefix))
		e.ksef.mend()
		e.restart()
		e.elapse(2 * time.Minute)
		require.Empty(t, e.ksef.alive())
		require.Empty(t, e.keys(StoragePrefix))
	})
	bubble(t, "lost_reply_is_found_by_SettleLost", func(t *testing.T, e *env) {
		e.ksef.fail(&e.ksef.after, "POST", lostReply("POST"))
		_, err := e.issueFor(testHolder)
		require.Error(t, err)
		e.ksef.mend()
		lost, err := e.SettleLost(t.Context())
		require.NoError(t, err)
		require.Zero(t, lost.Count)
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "failed_activation_leaves_nothing", func(t *testing.T, e *env) {
		e.ksef.made = client.StatusFailed
		_, err := e.issueFor(testHolder)
		require.ErrorIs(t, err, ErrFailed)
		require.Empty(t, e.keys(StoragePrefix))
		require.Empty(t, e.keys(TextPrefix))
	})
	bubble(t, "incomplete_holder_is_refused_before_anything_is_written", func(t *testing.T, e *env) {
		for _, holder := range []Holder{{Kind: HolderStatic}, {Role: "erp"}, {Kind: "other", Role: "erp"}} {
			_, err := e.issueFor(holder)
			require.ErrorIs(t, err, errInvalidHolder)
		}
		require.Empty(t, e.disk.writes)
		require.Empty(t, e.ksef.requests)
	})
}

// TestUnleased_issueCrash ends the process at each write and request of an issue. Then no token is
// alive without a record, and the one that was not returned is dead at the end.
func TestUnleased_issueCrash(t *testing.T) {
	settled := func(e *env) {
		e.t.Helper()
		crashed := e.disk
		e.disk = &fakeDisk{Storage: crashed.Storage}
		recorded := len(e.keys(StoragePrefix)) > 0
		require.True(e.t, recorded || len(e.ksef.alive()) == 0, "no living token without a record")
		e.ksef.mend()
		e.restart()
		e.elapse(deadRetention + 2*time.Hour)
		require.Empty(e.t, e.ksef.alive())
		require.Empty(e.t, e.keys(StoragePrefix))
		require.Empty(e.t, e.keys(TextPrefix))
	}
	for at := 1; at <= 4; at++ {
		bubble(t, fmt.Sprintf("at_write_%d", at), func(_ *testing.T, e *env) {
			e.disk.crashAt = at
			_, err := e.issueFor(testHolder)
			require.ErrorIs(e.t, err, errCrashed)
			settled(e)
		})
		bubble(t, fmt.Sprintf("failure_of_write_%d", at), func(t *testing.T, e *env) {
			e.disk.failAt = at
			_, err := e.issueFor(testHolder)
			require.ErrorIs(t, err, errDisk)
			settled(e)
		})
	}
	for _, request := range []string{"POST", "GET"} {
		for name, hook := range map[string]func(e *env) *func(string) error{
			"before": func(e *env) *func(string) error { return &e.ksef.before },
			"after":  func(e *env) *func(string) error { return &e.ksef.after },
		} {
			bubble(t, name+"_"+request, func(t *testing.T, e *env) {
				*hook(e) = func(sent string) error {
					if sent != request {
						return nil
					}
					e.disk.crash()
					return lostReply(request)
				}
				_, err := e.issueFor(testHolder)
				require.Error(t, err)
				settled(e)
			})
		}
	}
}
