// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestUnleased_tidy(t *testing.T) {
	bubble(t, "known_and_foreign", func(t *testing.T, e *env) {
		e.mustIssueFor(testHolder)
		e.mustIssueFor(Holder{Kind: HolderAccess, Role: "invoices"})
		e.mustImport()
		e.made()
		e.mustIssue(time.Hour)
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Equal(t, &TidyReport{Known: 4, Foreign: 1}, report)
	})
	bubble(t, "orphan_is_revoked", func(t *testing.T, e *env) {
		record := e.mustIssueFor(testHolder)
		require.NoError(t, e.disk.Delete(t.Context(), record.key()))
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Equal(t, []string{record.ReferenceNumber}, report.Orphans)
		e.ksef.mend()
		e.restart()
		e.elapse(time.Hour)
		require.Empty(t, e.ksef.alive())
		require.Empty(t, e.keys(StoragePrefix))
		require.Empty(t, e.keys(TextPrefix))
	})
	bubble(t, "dead_token_is_left_to_its_holder", func(t *testing.T, e *env) {
		number := e.mustIssueFor(testHolder).ReferenceNumber
		e.ksef.setStatus(number, client.StatusRevoked)
		e.elapse(time.Second)
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Equal(t, &TidyReport{StaleRecords: []string{number}}, report)
		require.Equal(t, Live, e.find(number).State)
	})
	bubble(t, "token_that_the_mount_may_not_see_is_asked_itself", func(t *testing.T, e *env) {
		request := e.mustImport()
		e.ksef.setStatus(request.ReferenceNumber, client.StatusRevoked)
		hide(e, refusal("GET", http.StatusForbidden))
		e.letItself(request.ReferenceNumber, importedSecret, nil)
		e.elapse(time.Second)
		report, err := e.Tidy(t.Context(), testTarget, true)
		require.NoError(t, err)
		require.Equal(t, &TidyReport{StaleRecords: []string{request.ReferenceNumber}}, report)
	})
	bubble(t, "former_mount", func(t *testing.T, e *env) {
		e.mustIssueFor(testHolder)
		e.mustIssueFor(Holder{Kind: HolderAccess, Role: "invoices"})
		e.mustIssue(time.Hour)
		mountID, err := e.id(t.Context())
		require.NoError(t, err)
		found, err := e.FormerTokens(t.Context(), testTarget, mountID)
		require.NoError(t, err)
		require.Len(t, found, 3)
	})
}

func TestUnleased_queries(t *testing.T) {
	bubble(t, "count_and_list_them", func(t *testing.T, e *env) {
		static := e.mustIssueFor(testHolder).ReferenceNumber
		access := e.mustIssueFor(Holder{Kind: HolderAccess, Role: "invoices"}).ReferenceNumber
		imported := e.mustImport().ReferenceNumber
		open := e.countOpen()
		require.Equal(t, Open{Static: 2, Access: 1}, open)
		require.True(t, open.Any())
		require.ElementsMatch(t, []string{static, access, imported}, numbers(e.list(ListQuery{})))
		require.ElementsMatch(t, []string{static, access, imported}, slices.Concat(e.pages(ListQuery{Limit: 2})...))
		require.Equal(t, []string{access}, numbers(e.list(ListQuery{Role: "invoices"})))
		subjects, err := e.Subjects(t.Context(), testTarget.API)
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"5265877635", "1111111111"}, subjects[testTarget.Context])
		targets, err := e.OpenTargets(t.Context())
		require.NoError(t, err)
		require.Contains(t, targets, testTarget)
	})
	bubble(t, "count_an_intent", func(t *testing.T, e *env) {
		e.ksef.fail(&e.ksef.after, "POST", lostReply("POST"))
		_, err := e.issueFor(testHolder)
		require.Error(t, err)
		require.Equal(t, Open{Issuing: 1}, e.countOpen())
	})
	bubble(t, "count_an_unreadable_record", func(t *testing.T, e *env) {
		record := e.mustIssueFor(testHolder)
		require.NoError(t, e.disk.Put(t.Context(), &logical.StorageEntry{Key: record.key(), Value: []byte("{")}))
		require.Equal(t, Open{Unreadable: 1}, e.countOpen())
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Equal(t, &TidyReport{Known: 1, Unreadable: []string{record.key()}}, report)
		found, err := e.Find(t.Context(), record.ReferenceNumber)
		require.NoError(t, err)
		require.Nil(t, found)
		require.ErrorIs(t, e.revokeUnleased(record.ReferenceNumber), errUnreadableRecord)
	})
	bubble(t, "the_later_state_counts", func(t *testing.T, e *env) {
		record := e.mustIssueFor(testHolder)
		ending := *record
		ending.State, ending.NoLease = Revoking, true
		e.Stop()
		require.NoError(t, e.store.put(t.Context(), &ending))
		unleased, err := e.Unleased(t.Context())
		require.NoError(t, err)
		require.Empty(t, unleased)
		require.Equal(t, Revoking, e.find(record.ReferenceNumber).State)
	})
	bubble(t, "the_mount_id_is_not_taken_from_an_imported_token", func(t *testing.T, e *env) {
		request := e.made()
		request.Description = "by hand " + marker("fedcba987654", newNonce(time.Now()))
		require.NoError(t, e.Import(t.Context(), request))
		mountID, err := e.store.mountIDOfRecords(t.Context())
		require.NoError(t, err)
		require.Empty(t, mountID)
	})
}

func TestUnleased_unmount(t *testing.T) {
	bubble(t, "revokes_them_and_names_imported_ones_apart", func(t *testing.T, e *env) {
		static := e.mustIssueFor(testHolder).ReferenceNumber
		imported := e.mustImport().ReferenceNumber
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		require.NoError(t, e.RevokeAll(t.Context(), "its mount is being disabled"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.Equal(t, Unconfirmed{ReferenceNumbers: []string{static}, Imported: []string{imported}}, e.AwaitRevocations(ctx))
		require.Equal(t, Open{Revoking: 2}, e.countOpen())
		require.NoError(t, e.RecordRevocations(t.Context()))
		e.ksef.mend()
		e.restart()
		e.elapse(time.Hour)
		require.Empty(t, e.ksef.alive())
		require.Empty(t, e.keys(StoragePrefix))
		require.Empty(t, e.keys(TextPrefix))
	})
}
