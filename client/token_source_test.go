// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// tokenFunc is a TokenSource that never renews.
type tokenFunc func() (AccessToken, error)

func (f tokenFunc) AccessToken(context.Context) (AccessToken, error) { return f() }

// renewing is a TokenRenewer that writes down what it is asked for: its first token, those that
// replace a refused one, and the refusal that ends a request.
type renewing struct {
	steps   []string
	renewal error // what Renew fails with
}

var errStillRefused = errors.New("the address is refused also after a new login")

func (r *renewing) AccessToken(context.Context) (AccessToken, error) {
	r.steps = append(r.steps, "token")
	return Secret("0"), nil
}

func (r *renewing) Renew(_ context.Context, refused AccessToken, cause error) (AccessToken, error) {
	step := "renewed after 401"
	if IsAddressRefused(cause) {
		step = "renewed after 403"
	}
	r.steps = append(r.steps, step)
	if r.renewal != nil {
		return nil, r.renewal
	}
	return Secret(refused.Reveal() + "+"), nil
}

func (r *renewing) AddressRefused(token AccessToken, _ error) error {
	r.steps = append(r.steps, "refused for "+token.Reveal())
	return errStillRefused
}

// refusing gives its answers one after the other, and 204 afterwards.
type refusing struct {
	answers []int
	bearers []string
}

func (s *refusing) RoundTrip(request *http.Request) (*http.Response, error) {
	s.bearers = append(s.bearers, request.Header.Get("Authorization"))
	recorder := httptest.NewRecorder()
	status := http.StatusNoContent
	if len(s.answers) > 0 {
		status, s.answers = s.answers[0], s.answers[1:]
	}
	recorder.WriteHeader(status)
	if status == http.StatusForbidden {
		_, _ = io.WriteString(recorder, `{"status":403,"reasonCode":"ip-not-allowed"}`)
	}
	return recorder.Result(), nil
}

// attempt revokes a token at a KSeF that gives the answers, and compares the steps.
func attempt(t *testing.T, source *renewing, answers []int, steps ...string) (*refusing, *recordingLimiter, error) {
	t.Helper()
	ksef, limiter := &refusing{answers: answers}, &recordingLimiter{}
	err := newClient(t, ksef).WithTokenSource(source).WithLimiter(limiter).RevokeToken(t.Context(), "x")
	require.Equal(t, steps, source.steps)
	require.Len(t, limiter.admitted, len(limiter.done)+limiter.cancelled, "each permit is closed")
	return ksef, limiter, err
}

func TestUnauthorized(t *testing.T) {
	t.Run("refreshes_then_logs_in_once_each", func(t *testing.T) {
		ksef, limiter, err := attempt(t, &renewing{}, []int{401, 401}, "token", "renewed after 401", "renewed after 401")
		require.NoError(t, err)
		require.Equal(t, []string{"Bearer 0", "Bearer 0+", "Bearer 0++"}, ksef.bearers)
		require.Len(t, limiter.done, 3, "each attempt has a permit of its own")
	})
	t.Run("ends_after_the_login", func(t *testing.T) {
		ksef, _, err := attempt(t, &renewing{}, []int{401, 401, 401}, "token", "renewed after 401", "renewed after 401")
		require.True(t, IsUnauthorized(err))
		require.Len(t, ksef.bearers, 3)
	})
	t.Run("ends_where_there_is_no_other_token", func(t *testing.T) {
		cause := &APIError{Status: http.StatusUnauthorized}
		ksef, limiter, err := attempt(t, &renewing{renewal: cause}, []int{401}, "token", "renewed after 401")
		require.ErrorIs(t, err, cause)
		require.Len(t, ksef.bearers, 1)
		require.Equal(t, 1, limiter.cancelled)
	})
	t.Run("is_the_answer_to_a_secret", func(t *testing.T) {
		ksef, limiter := &refusing{answers: []int{401}}, &recordingLimiter{}
		require.True(t, IsUnauthorized(newClient(t, ksef).WithLimiter(limiter).RevokeToken(t.Context(), "x")))
		require.Len(t, ksef.bearers, 1)
		require.Len(t, limiter.admitted, 1)
	})
}

func TestAddressRefused(t *testing.T) {
	t.Run("logs_in_once", func(t *testing.T) {
		ksef, _, err := attempt(t, &renewing{}, []int{403}, "token", "renewed after 403")
		require.NoError(t, err)
		require.Equal(t, []string{"Bearer 0", "Bearer 0+"}, ksef.bearers)
	})
	t.Run("is_remembered_after_the_login", func(t *testing.T) {
		ksef, _, err := attempt(t, &renewing{}, []int{403, 403}, "token", "renewed after 403", "refused for 0+")
		require.ErrorIs(t, err, errStillRefused)
		require.Len(t, ksef.bearers, 2)
	})
	t.Run("logs_in_after_a_401_too", func(t *testing.T) {
		_, _, err := attempt(t, &renewing{}, []int{401, 403}, "token", "renewed after 401", "renewed after 403")
		require.NoError(t, err)
	})
	t.Run("is_not_remembered_where_the_login_fails", func(t *testing.T) {
		cause := &APIError{Status: http.StatusForbidden, ReasonCode: "ip-not-allowed"}
		_, _, err := attempt(t, &renewing{renewal: cause}, []int{403}, "token", "renewed after 403")
		require.Equal(t, cause, err)
	})
}
