// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const importedSecret client.Secret = "20250101-EC-0000000000-0000000000-01|nip-5265877635|imported"

// made has others make a token.
func (e *env) made() ImportRequest {
	e.ksef.mu.Lock()
	defer e.ksef.mu.Unlock()
	number := e.ksef.add("by hand", client.StatusActive)
	return ImportRequest{
		Holder: testHolder, Target: testTarget, ReferenceNumber: number, Permissions: []string{"InvoiceRead"},
		Description: "by hand", Subject: "1111111111", Created: time.Now().Add(-time.Hour), Token: importedSecret,
	}
}

func (e *env) mustImport() ImportRequest {
	e.t.Helper()
	request := e.made()
	require.NoError(e.t, e.Import(e.t.Context(), request))
	return request
}

func (e *env) revokeUnleased(number string) error {
	return e.RevokeUnleased(e.t.Context(), number, "the role has been deleted")
}

func (e *env) countOpen() Open {
	e.t.Helper()
	open, err := e.CountOpen(e.t.Context())
	require.NoError(e.t, err)
	at, err := e.CountOpenAt(e.t.Context(), testTarget.API)
	require.NoError(e.t, err)
	require.Equal(e.t, open, at)
	return open
}

func TestImport(t *testing.T) {
	bubble(t, "record_and_text", func(t *testing.T, e *env) {
		request := e.mustImport()
		record := e.find(request.ReferenceNumber)
		require.Equal(t, Live, record.State)
		require.Equal(t, testHolder, record.Holder)
		require.Equal(t, "1111111111", record.Subject)
		require.Equal(t, importedSecret, e.text(request.ReferenceNumber))
		require.Equal(t, []string{EventImport}, e.events())
		require.Empty(t, e.ksef.requests)
		found, err := e.Unleased(t.Context())
		require.NoError(t, err)
		require.Equal(t, []Record{*record}, found)
	})
	bubble(t, "again_for_the_same_holder", func(t *testing.T, e *env) {
		request := e.mustImport()
		before := e.find(request.ReferenceNumber)
		require.NoError(t, e.Import(t.Context(), request))
		require.Equal(t, before, e.find(request.ReferenceNumber))
	})
	bubble(t, "refuses_the_token_of_another", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		access := e.mustIssueFor(Holder{Kind: HolderAccess, Role: "erp"}).ReferenceNumber
		static := e.mustIssueFor(Holder{Kind: HolderStatic, Role: "other"}).ReferenceNumber
		ending := e.mustImport().ReferenceNumber
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		require.Error(t, e.revokeUnleased(ending))
		for number, fault := range map[string]string{lease.ReferenceNumber: "lease", access: "the access-token role erp", static: "the static role other", ending: "being revoked"} {
			request := e.made()
			request.ReferenceNumber = number
			var refused *client.InputError
			require.ErrorAs(t, e.Import(t.Context(), request), &refused, number)
			require.Contains(t, refused.Fault, fault)
			require.NotContains(t, refused.Error(), importedSecret.Reveal())
		}
	})
	bubble(t, "for_a_static_role_only", func(t *testing.T, e *env) {
		request := e.made()
		request.Holder.Kind = HolderAccess
		require.ErrorIs(t, e.Import(t.Context(), request), errInvalidHolder)
		require.Empty(t, e.disk.writes)
	})
	bubble(t, "is_refused_while_the_configuration_changes", func(t *testing.T, e *env) {
		release, err := e.PauseIssuing(t.Context())
		require.NoError(t, err)
		defer release()
		require.ErrorIs(t, e.Import(t.Context(), e.made()), ErrPaused)
	})
	for at := 1; at <= 2; at++ {
		bubble(t, fmt.Sprintf("crash_at_write_%d_touches_nothing", at), func(t *testing.T, e *env) {
			e.disk.crashAt = at
			request := e.made()
			require.ErrorIs(t, e.Import(t.Context(), request), errCrashed)
			e.restart()
			e.elapse(2 * reviewEvery)
			require.Equal(t, client.StatusActive, e.ksef.status(request.ReferenceNumber))
			require.Nil(t, e.find(request.ReferenceNumber))
			require.Empty(t, e.keys(TextPrefix))
		})
	}
}

func TestRelease(t *testing.T) {
	bubble(t, "nothing_touches_it", func(t *testing.T, e *env) {
		number := e.mustIssueFor(testHolder).ReferenceNumber
		require.Equal(t, Open{Static: 1}, e.countOpen())
		require.NoError(t, e.Release(t.Context(), number))
		require.NoError(t, e.Release(t.Context(), number), "again")
		require.Empty(t, e.text(number))
		require.Equal(t, Released, e.find(number).State)
		require.Zero(t, e.countOpen())
		targets, err := e.OpenTargets(t.Context())
		require.NoError(t, err)
		require.Empty(t, targets)
		require.ErrorIs(t, e.revokeUnleased(number), errReleased)
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Equal(t, &TidyReport{Released: 1}, report)
		require.NoError(t, e.RevokeAll(t.Context(), "the mount is disabled"))
		e.elapse(time.Minute)
		e.restart()
		e.elapse(48 * time.Hour)
		require.Equal(t, []string{number}, e.ksef.alive())
	})
	bubble(t, "record_goes_when_tidy_learns_that_the_token_is_dead", func(t *testing.T, e *env) {
		number := e.mustIssueFor(testHolder).ReferenceNumber
		require.NoError(t, e.Release(t.Context(), number))
		e.ksef.setStatus(number, client.StatusRevoked)
		e.elapse(time.Second)
		for _, dryRun := range []bool{true, false} {
			report, err := e.Tidy(t.Context(), testTarget, dryRun)
			require.NoError(t, err)
			require.Equal(t, []string{number}, report.StaleRecords)
			require.Equal(t, dryRun, e.find(number) != nil)
		}
		require.Zero(t, e.ksef.count("DELETE"))
	})
	bubble(t, "can_be_imported_again", func(t *testing.T, e *env) {
		record := e.mustIssueFor(testHolder)
		require.NoError(t, e.Release(t.Context(), record.ReferenceNumber))
		request := e.made()
		request.ReferenceNumber, request.Holder.Role = record.ReferenceNumber, "other"
		require.NoError(t, e.Import(t.Context(), request))
		again := e.find(record.ReferenceNumber)
		require.Equal(t, Live, again.State)
		require.Equal(t, record.Nonce, again.Nonce)
		require.Equal(t, "other", again.Holder.Role)
	})
	for at := 1; at <= 2; at++ {
		bubble(t, fmt.Sprintf("crash_at_write_%d", at), func(t *testing.T, e *env) {
			number := e.mustIssueFor(testHolder).ReferenceNumber
			e.disk.crashAt = at
			require.ErrorIs(t, e.Release(t.Context(), number), errCrashed)
			e.restart()
			require.Equal(t, at > 1, e.find(number).State == Released)
			require.NoError(t, e.Release(t.Context(), number))
			require.Empty(t, e.text(number))
			require.Equal(t, []string{number}, e.ksef.alive())
		})
	}
	bubble(t, "unknown_to_KSeF", func(t *testing.T, e *env) {
		number := e.mustIssueFor(testHolder).ReferenceNumber
		require.NoError(t, e.Release(t.Context(), number))
		e.ksef.login("5265877635", nil)
		require.NoError(t, e.CloseUnknown(t.Context(), e.find(number)))
		require.Nil(t, e.find(number))
		require.Zero(t, e.ksef.count("DELETE"))
	})
}

func TestTexts(t *testing.T) {
	bubble(t, "review_deletes_those_without_a_record", func(t *testing.T, e *env) {
		number := e.mustIssueFor(testHolder).ReferenceNumber
		ending := e.mustIssueFor(testHolder).ReferenceNumber
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		require.Error(t, e.revokeUnleased(ending))
		require.NoError(t, e.store.putText(t.Context(), "stray", testSecret))
		e.elapse(reviewEvery)
		require.ElementsMatch(t, []string{textKey(number), textKey(ending)}, e.keys(TextPrefix))
	})
	bubble(t, "review_keeps_those_whose_record_is_yet_to_come", func(t *testing.T, e *env) {
		e.ksef.fail(&e.ksef.after, "POST", lostReply("POST"))
		_, err := e.issueFor(testHolder)
		require.Error(t, err)
		require.NoError(t, e.store.putText(t.Context(), e.ksef.alive()[0], testSecret))
		require.NoError(t, e.reconciler.reviewTexts(t.Context()))
		require.Len(t, e.keys(TextPrefix), 1)
		e.ksef.mend()
		e.elapse(time.Minute)
		synctest.Wait()
		require.Empty(t, e.ksef.alive())
		require.Empty(t, e.keys(TextPrefix))

		e.inFlight.Store(newImportedNonce(), nil)
		require.NoError(t, e.store.putText(t.Context(), "imported", testSecret))
		require.NoError(t, e.reconciler.reviewTexts(t.Context()))
		require.Len(t, e.keys(TextPrefix), 1)
	})
	bubble(t, "unreadable_one_is_reported_without_its_content", func(t *testing.T, e *env) {
		require.NoError(t, e.disk.Put(t.Context(), &logical.StorageEntry{Key: textKey("number"), Value: []byte(testSecret.Reveal())}))
		_, err := e.Secret(t.Context(), "number")
		require.ErrorIs(t, err, errUnreadableText)
		require.NotContains(t, err.Error(), "secret")
	})
}
