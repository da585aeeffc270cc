// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

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
	for at := 1; at <= 2; at++ {
		bubble(t, fmt.Sprintf("failure_of_write_%d", at), func(t *testing.T, e *env) {
			number := e.mustIssueFor(testHolder).ReferenceNumber
			e.disk.failAt = at
			err := e.revokeUnleased(number)
			if at == 1 {
				require.ErrorIs(t, err, errDisk)
				require.Zero(t, e.ksef.count("DELETE"))
				err = e.revokeUnleased(number)
			}
			require.NoError(t, err)
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
		status, err := e.Status(t.Context(), request.Target, request.ReferenceNumber)
		require.NoError(t, err)
		require.Equal(t, client.StatusRevoking, status, "whatever KSeF says so far")
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
	status := func(e *env, number string) (client.TokenStatus, error) {
		return e.Status(e.t.Context(), testTarget, number)
	}
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
