// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const importedSecret client.Secret = "20250101-EC-0000000000-0000000000-01|nip-5265877635|imported"

// itself is KSeF by a login with a token itself. The hooks of ksef concern the mount's login only.
type itself struct {
	Upstream
	ksef   *fakeKSeF
	number string
	text   client.Secret
	// err is why the login fails.
	err error
}

func (s *itself) Ready(context.Context) error {
	if s.ksef.status(s.number).Dead() {
		return &client.LoginError{Status: client.Status{Code: 450, Details: []string{"Token unieważniony"}}}
	}
	return s.err
}

func (s *itself) Token(context.Context, string) (*client.Token, error) {
	s.ksef.mu.Lock()
	defer s.ksef.mu.Unlock()
	return new(*s.ksef.find(s.number)), nil
}

func (s *itself) RevokeToken(context.Context, string) error {
	s.ksef.setStatus(s.number, client.StatusRevoked)
	return nil
}

// letItself lets a token with that text log in, or fail with err.
func (e *env) letItself(number string, text client.Secret, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.itself = &itself{ksef: e.ksef, number: number, text: text, err: err}
}

func (e *env) openItself(_ context.Context, target Target, token client.Secret, _ ratelimit.Wait) (Upstream, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.itself == nil || target != testTarget || token != e.itself.text {
		return nil, errNotItself
	}
	return e.itself, nil
}

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
		found, err := e.RecordsOf(t.Context(), testHolder, testTarget.Context)
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

func TestRevokeUnleased(t *testing.T) {
	bubble(t, "leaves_nothing", func(t *testing.T, e *env) {
		number := e.mustIssueFor(testHolder).ReferenceNumber
		require.NoError(t, e.revokeUnleased(number))
		require.Empty(t, e.ksef.alive())
		require.Empty(t, e.keys(StoragePrefix))
		require.Empty(t, e.keys(TextPrefix))
		require.NoError(t, e.revokeUnleased(number), "which is confirmed already")
		require.Equal(t, 1, e.ksef.count("DELETE"))
	})
	bubble(t, "is_recorded_before_KSeF_is_asked", func(t *testing.T, e *env) {
		number := e.mustIssueFor(testHolder).ReferenceNumber
		e.ksef.before = func(request string) error {
			if request == "DELETE" && len(e.keys(unleasedRoot)) == 0 && len(e.keys(endingPrefix)) == 1 {
				return refusal("DELETE", 503)
			}
			return nil
		}
		err := e.revokeUnleased(number)
		var pending *PendingError
		require.ErrorAs(t, err, &pending)
		require.Equal(t, testHolder, pending.Holder)
		require.NotContains(t, err.Error(), "lease")
		require.Equal(t, []string{endingKey(number)}, e.keys(StoragePrefix))
		require.Equal(t, testSecret, e.text(number), "until the token is dead")
		require.Equal(t, Open{Revoking: 1}, e.countOpen())
		e.ksef.mend()
		e.restart()
		e.elapse(time.Hour)
		require.Empty(t, e.ksef.alive())
		require.Empty(t, e.keys(StoragePrefix))
		require.Empty(t, e.keys(TextPrefix))
	})
	for at := 1; at <= 5; at++ {
		bubble(t, fmt.Sprintf("crash_at_write_%d", at), func(t *testing.T, e *env) {
			number := e.mustIssueFor(testHolder).ReferenceNumber
			e.disk.crashAt = at
			_ = e.revokeUnleased(number)
			e.restart()
			e.elapse(2 * reviewEvery)
			if at == 1 { // nothing was recorded
				require.NoError(t, e.revokeUnleased(number))
			}
			require.Empty(t, e.ksef.alive())
			require.Empty(t, e.keys(StoragePrefix))
			require.Empty(t, e.keys(TextPrefix))
		})
	}
	bubble(t, "refuses_a_leased_token", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		require.ErrorIs(t, e.revokeUnleased(lease.ReferenceNumber), errLeased)
		require.Len(t, e.ksef.alive(), 1)
	})
	bubble(t, "imported_token_that_is_listed_is_not_unknown", func(t *testing.T, e *env) {
		request := e.made()
		request.Subject = "5265877635"
		require.NoError(t, e.Import(t.Context(), request))
		hide(e, refusal("GET", http.StatusBadRequest, client.CodeInvalidValue))
		require.Error(t, e.revokeUnleased(request.ReferenceNumber))
		e.elapse(2 * unknownLasts)
		require.Equal(t, Revoking, e.find(request.ReferenceNumber).State)
	})
	bubble(t, "goes_on_from_the_record_of_an_older_version", func(t *testing.T, e *env) {
		record := e.mustIssueFor(testHolder)
		e.Stop()
		record.State, record.NoLease, record.Ended = Revoking, true, time.Now()
		record.Holder = Holder{} // which that version drops
		require.NoError(t, e.store.put(t.Context(), record))
		require.NoError(t, e.disk.Delete(t.Context(), unleasedKey(record.ReferenceNumber)))
		e.restart()
		e.elapse(time.Minute)
		require.Empty(t, e.ksef.alive())
		require.Empty(t, e.keys(StoragePrefix))
		require.Empty(t, e.keys(TextPrefix))
	})
}

func TestRevokeItself(t *testing.T) {
	refusals := map[string]func(e *env){
		"403":              func(e *env) { e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", http.StatusForbidden)) },
		"400":              func(e *env) { e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", http.StatusBadRequest)) },
		"not_shown":        func(e *env) { hide(e, refusal("GET", http.StatusBadRequest, client.CodeInvalidValue)) },
		"status_forbidden": func(e *env) { hide(e, refusal("GET", http.StatusForbidden)) },
		"login_refused": func(e *env) {
			e.ksef.fail(&e.ksef.before, "DELETE", &client.LoginError{Status: client.Status{Code: client.LoginWithoutPermission}})
		},
	}
	for name, refuse := range refusals {
		bubble(t, "where_the_subject_is_refused/"+name, func(t *testing.T, e *env) {
			request := e.mustImport()
			e.letItself(request.ReferenceNumber, importedSecret, nil)
			refuse(e)
			require.NoError(t, e.revokeUnleased(request.ReferenceNumber))
			require.Empty(t, e.ksef.alive())
			require.Empty(t, e.keys(StoragePrefix))
			require.Empty(t, e.keys(TextPrefix))
		})
	}
	bubble(t, "token_that_is_dead_already", func(t *testing.T, e *env) {
		request := e.mustImport()
		e.letItself(request.ReferenceNumber, importedSecret, nil)
		refusals["status_forbidden"](e)
		e.ksef.setStatus(request.ReferenceNumber, client.StatusRevoked)
		require.NoError(t, e.revokeUnleased(request.ReferenceNumber))
		require.Empty(t, e.keys(StoragePrefix))
	})
	bubble(t, "goes_on_while_its_login_fails", func(t *testing.T, e *env) {
		request := e.mustImport()
		e.letItself(request.ReferenceNumber, importedSecret, &client.TransportError{Endpoint: client.EndpointChallenge, Err: errDisk})
		refusals["403"](e)
		err := e.revokeUnleased(request.ReferenceNumber)
		var pending *PendingError
		require.ErrorAs(t, err, &pending)
		require.Contains(t, err.Error(), "403")
		require.Contains(t, err.Error(), errDisk.Error())
		require.Equal(t, importedSecret, e.text(request.ReferenceNumber))
		other, _ := e.mustIssue(time.Hour)
		e.ksef.mend()
		require.NoError(t, e.revoke(other), "the queue goes on")
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", http.StatusForbidden))
		e.letItself(request.ReferenceNumber, importedSecret, nil)
		e.elapse(2 * time.Hour)
		require.Empty(t, e.ksef.alive())
		require.Empty(t, e.keys(TextPrefix))
	})
	bubble(t, "not_of_a_leased_token", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		require.NoError(t, e.store.putText(t.Context(), lease.ReferenceNumber, testSecret))
		e.letItself(lease.ReferenceNumber, testSecret, nil)
		refusals["403"](e)
		e.requirePending(e.revoke(lease), lease)
	})
}

// hide has KSeF refuse the mount a token.
func hide(e *env, status error) {
	e.ksef.mu.Lock()
	defer e.ksef.mu.Unlock()
	e.ksef.before = func(request string) error {
		switch request {
		case "DELETE":
			return refusal("DELETE", http.StatusForbidden)
		case "GET":
			return status
		}
		return nil
	}
}

func TestStatus(t *testing.T) {
	status := func(e *env, number string) (client.TokenStatus, error) { return e.Status(e.t.Context(), testTarget, number) }
	bubble(t, "asks_once", func(t *testing.T, e *env) {
		record := e.mustIssueFor(testHolder)
		before := len(e.ksef.requests)
		found, err := status(e, record.ReferenceNumber)
		require.NoError(t, err)
		require.Equal(t, client.StatusActive, found)
		require.Len(t, e.ksef.requests, before+1)
	})
	bubble(t, "asks_as_the_token_itself_where_the_mount_may_not", func(t *testing.T, e *env) {
		request := e.mustImport()
		e.letItself(request.ReferenceNumber, importedSecret, nil)
		hide(e, refusal("GET", http.StatusForbidden))
		found, err := status(e, request.ReferenceNumber)
		require.NoError(t, err)
		require.Equal(t, client.StatusActive, found)
		e.ksef.setStatus(request.ReferenceNumber, client.StatusRevoked)
		found, err = status(e, request.ReferenceNumber)
		require.NoError(t, err)
		require.Equal(t, client.StatusRevoked, found, "KSeF refuses its login")
	})
	bubble(t, "unknown_only_where_nothing_contradicts", func(t *testing.T, e *env) {
		request := e.mustImport()
		hide(e, refusal("GET", http.StatusBadRequest, client.CodeInvalidValue))
		_, err := status(e, request.ReferenceNumber)
		require.True(t, IsUnknownToken(err))
		e.letItself(request.ReferenceNumber, importedSecret, &client.LoginError{Status: client.Status{Code: 450}})
		_, err = status(e, request.ReferenceNumber)
		require.True(t, IsUnknownToken(err))
		e.letItself(request.ReferenceNumber, importedSecret, errDisk)
		_, err = status(e, request.ReferenceNumber)
		require.ErrorIs(t, err, errDisk)
		require.False(t, IsUnknownToken(err))
	})
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
		numbers, err := e.ReferenceNumbers(t.Context())
		require.NoError(t, err)
		require.ElementsMatch(t, []string{static, access, imported}, numbers)
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
