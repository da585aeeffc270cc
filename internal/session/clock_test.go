// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// withoutDate takes the Date header out of KSeF's answers.
type withoutDate struct{ http.RoundTripper }

func (w withoutDate) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := w.RoundTripper.RoundTrip(request)
	if err == nil {
		response.Header.Del("Date")
	}
	return response, err
}

func TestClock(t *testing.T) {
	for name, offset := range map[string]time.Duration{"equal": 0, "an_hour_behind": -time.Hour, "an_hour_ahead": time.Hour} {
		t.Run("ksef_is_"+name, func(t *testing.T) {
			inBubble(t, simulator.Options{ClockOffset: offset}, func(t *testing.T, f *fixture) {
				m := session.NewManager(f.options)
				for range 5 {
					f.works(m)
				}
				require.Zero(t, f.count(refresh), "the access token is used for as long as it lives")
				elapse(13 * time.Minute)
				f.works(m)
				f.works(session.NewManager(f.options))
				require.Zero(t, f.count(refresh), "a restart measures no other life")
				elapse(time.Minute)
				f.works(m)
				require.Equal(t, 1, f.count(refresh), "and replaced before its end")
				elapse(7*24*time.Hour - 20*time.Minute)
				f.works(m)
				require.Equal(t, 1, f.count(submit), "the refresh token works to its end")
				elapse(20 * time.Minute)
				f.works(m)
				require.Equal(t, 2, f.count(submit))
				require.Equal(t, 2, f.count(refresh), "and is not tried after it")
			})
		})
	}
	t.Run("ksef_is_an_hour_behind_and_sends_no_date", func(t *testing.T) {
		inBubble(t, simulator.Options{ClockOffset: -time.Hour}, func(t *testing.T, f *fixture) {
			api, err := client.New(client.Config{URL: "https://ksef.test/v2", Transport: withoutDate{f.ksef.Transport()}})
			require.NoError(t, err)
			f.options.Client = api
			m := session.NewManager(f.options)
			for range 5 {
				f.works(m)
			}
			require.Zero(t, f.count(refresh))
		})
	})
}
