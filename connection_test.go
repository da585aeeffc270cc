// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/status"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestConfigFingerprint holds that configurations without later fields still find their stored
// sessions.
func TestConfigFingerprint(t *testing.T) {
	t.Run("without_allowed_ips", func(t *testing.T) {
		stored := &config{URL: testAPI, SubjectIdentifierType: "certificateSubject", Certificate: "PEM"}
		require.Equal(t, "50e80f0b596fa93c20ee28fcda35fb9b34befdbdf7c25aeb4ed049d8f0e0f4ee", stored.fingerprint(), "sessions of a version without the field are found by this")
	})
	t.Run("without_ca_certificate", func(t *testing.T) {
		authority, _, err := simulator.NewCertificate(simulator.CertificateOptions{})
		require.NoError(t, err)
		plain := config{URL: testAPI, SubjectIdentifierType: "certificateSubject", Certificate: "certificate"}
		require.Equal(t, testAPI, plain.api())
		require.Equal(t, "d6983024343f", plain.fingerprint()[:12])
		bound := plain
		bound.CACertificate = string(authority)
		require.NotEqual(t, plain.fingerprint(), bound.fingerprint())
	})
}

// answers is a KSeF that gives one answer to everything.
type answers string

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	_, err := io.WriteString(recorder, string(a))
	return recorder.Result(), err
}

func TestLearnLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLoaded(t)
		learn := func(answer string) {
			api, err := client.New(client.Config{URL: testAPI, Transport: answers(answer)})
			require.NoError(t, err)
			b.learnLimits(context.Background(), api, ownTaxpayer, "access")
		}
		limits := func(key ratelimit.Key, endpoint string) []int {
			for _, usage := range b.limiters.Usage()[key] {
				if usage.Endpoint == endpoint {
					return []int{usage.Second.Limit, usage.Minute.Limit, usage.Hour.Limit}
				}
			}
			return []int{0, 0, 0}
		}
		own, address := ratelimit.Key{API: testAPI, Context: ownTaxpayer.String()}, ratelimit.Key{API: testAPI}

		learn(`{"other":{"perSecond":-1,"perMinute":20,"perHour":-1},"anonymous":{"perSecond":50,"perMinute":-1,"perHour":-1},
			"global":{"perSecond":-1,"perMinute":-1,"perHour":900}}`)
		require.Equal(t, []int{0, 20, 0}, limits(own, client.EndpointGenerateToken))
		require.Equal(t, []int{50, 0, 0}, limits(address, client.EndpointChallenge))
		require.Equal(t, []int{0, 0, 900}, limits(address, ratelimit.AllRequests))
		report := status.New("v1.2.3")
		report.AddLimits(b.limiters.Usage())
		require.NotEmpty(t, report.Details["rate_limits"])

		learn(`what is no JSON`)
		require.Equal(t, []int{0, 20, 0}, limits(own, client.EndpointGenerateToken), "what is known goes on")
		require.Equal(t, []int{0, 0, 900}, limits(address, ratelimit.AllRequests))
	})
}
