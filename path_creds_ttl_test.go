// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestTTL(t *testing.T) {
	t.Run("of a role that is not set or too long is warned of", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			for _, test := range []struct {
				role map[string]any
				want []string
			}{
				{map[string]any{"permissions": "InvoiceRead"}, []string{"ttl is not set, so that a token lives for 1h (the mount's default lease)"}},
				{map[string]any{"max_ttl": "30m"}, []string{"a token lives for 30m (max_ttl)"}},
				{map[string]any{"max_ttl": "1000h"}, []string{"max_ttl is longer than the mount's of 768h, which holds", "ttl is not set"}},
				{map[string]any{"max_ttl": 0, "ttl": "1000h"}, []string{"ttl is longer than the mount's max_lease_ttl of 768h"}},
				{map[string]any{"ttl": "1h"}, nil},
			} {
				written := m.Must(m.Write("roles/invoices", test.role))
				var warnings []string
				if written != nil {
					warnings = written.Warnings
				}
				require.Len(t, warnings, len(test.want), "%v", test.role)
				for i, text := range test.want {
					require.Contains(t, warnings[i], text)
				}
				require.Nil(t, m.Must(m.Write("roles/invoices", m.Must(m.Read("roles/invoices", nil)).Data)), "written back: %v", test.role)
			}
		})
	})
	t.Run("beyond the longest lease is capped with one warning", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Issue()
			for what, issued := range map[string]*logical.Response{
				"creds":           m.Must(m.Write("creds/invoices", map[string]any{"ttl": "48h"})),
				"creds, by query": m.Must(m.Read("creds/invoices", map[string]any{"ttl": "48h"})),
				"tokens":          m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report", "ttl": "48h", "max_ttl": "24h"})),
			} {
				require.Len(t, issued.Warnings, 1, what)
				require.Contains(t, issued.Warnings[0], `TTL of "48h" exceeded the effective max_ttl of "24h"`, what)
				require.Equal(t, 24*time.Hour, issued.Secret.TTL, what)
				_, own := endInVault(m, m.Lease(issued), 0)
				require.Empty(t, own, "Vault adds none: %s", what)
			}
			beyond := m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report", "ttl": "1000h"}))
			require.Len(t, beyond.Warnings, 1)
			require.Equal(t, 32*24*time.Hour, beyond.Secret.TTL)
		})
	})
	t.Run("of no role is not warned of", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/short", map[string]any{"permissions": "InvoiceRead", "max_ttl": "30m"}))
			issued := m.Must(m.Read("creds/short", nil))
			require.Empty(t, issued.Warnings)
			require.Equal(t, 30*time.Minute, issued.Secret.TTL)
			_, own := endInVault(m, m.Lease(issued), 0)
			require.Empty(t, own)
		})
	})
	t.Run("near max_ttl is warned of by Vault alone", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			lease := m.Lease(m.Issue())
			for range 24 {
				m.Elapse(59 * time.Minute)
				m.Must(m.Renew(lease, 0))
			}
			for _, increment := range []time.Duration{0, 10 * time.Hour} {
				renewed := m.Must(m.Renew(lease, increment))
				require.Empty(t, renewed.Warnings)
				_, own := endInVault(m, renewed.Secret, increment)
				require.Len(t, own, 1)
			}
			m.Elapse(time.Hour)
			_, err := m.Renew(lease, 0)
			require.ErrorContains(t, err, "the lease cannot be renewed: past the max TTL")
		})
	})
}

// ending is a KSeF that states the end of tokens in some responses.
type ending struct {
	http.RoundTripper
	asked func(*http.Request) bool
	field string // "" for none
}

func (e *ending) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := e.RoundTripper.RoundTrip(request)
	if err != nil || e.field == "" || !strings.Contains(request.URL.Path, "/tokens") || !e.asked(request) {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	body = bytes.ReplaceAll(body, []byte(`"referenceNumber":`), []byte(e.field+`,"referenceNumber":`))
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return response, nil
}

func whenMade(request *http.Request) bool  { return request.Method == http.MethodPost }
func whenAsked(request *http.Request) bool { return request.Method == http.MethodGet }

func inLists(request *http.Request) bool {
	return strings.HasSuffix(request.URL.Path, "/tokens") && whenAsked(request)
}

func inEveryAnswer(*http.Request) bool { return true }

// withEnds is WithMount at such a KSeF.
func withEnds(t *testing.T, asked func(*http.Request) bool, test func(t *testing.T, m *enginetest.Mount, ends *ending)) {
	t.Helper()
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		ends := &ending{RoundTripper: env.Transport, asked: asked}
		env.SetTransport(ends)
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Configure()
		test(t, m, ends)
	})
}

func (e *ending) after(d time.Duration) time.Time {
	end := time.Now().Add(d).Truncate(time.Second)
	e.field = `"validTo":"` + end.UTC().Format(time.RFC3339) + `"`
	return end
}

func TestTokenValidity(t *testing.T) {
	for name, asked := range map[string]func(*http.Request) bool{"stated when it is made": whenMade, "stated when it is active": whenAsked, "stated always": inEveryAnswer} {
		t.Run("caps a lease/"+name, func(t *testing.T) {
			withEnds(t, asked, func(t *testing.T, m *enginetest.Mount, ends *ending) {
				end := ends.after(30 * time.Minute)
				issued := m.Issue()
				require.Len(t, issued.Warnings, 1)
				require.Contains(t, issued.Warnings[0], "KSeF ends the token at "+end.UTC().Format(time.RFC3339))
				lease := m.Lease(issued)
				expires, own := endInVault(m, lease, 0)
				require.Empty(t, own)
				require.WithinRange(t, expires, end.Add(-5*time.Second), end)

				ends.field = ""
				m.Stop()
				m.Start()
				read := m.Must(m.Read("tokens/"+issued.Data["reference_number"].(string), nil)).Data
				require.Equal(t, end.UTC().Format(time.RFC3339), read["lease_end"])
				require.NotContains(t, read, "valid_until", "KSeF is asked, and does not say")
				m.Elapse(10 * time.Minute)
				renewed := m.Must(m.Renew(lease, 0))
				require.Len(t, renewed.Warnings, 1)
				require.Contains(t, renewed.Warnings[0], "KSeF ends the token at ")
				expires, own = endInVault(m, renewed.Secret, 0)
				require.Empty(t, own)
				require.WithinRange(t, expires, end.Add(-5*time.Second), end)

				m.Elapse(20 * time.Minute)
				_, err := m.Renew(lease, 0)
				require.ErrorContains(t, err, "KSeF ends the token at ")
				require.NoError(t, m.Revoke(lease))
			})
		})
	}
	t.Run("caps the leases of tokens that are polled together", func(t *testing.T) {
		withEnds(t, inLists, func(t *testing.T, m *enginetest.Mount, ends *ending) {
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			end := ends.after(30 * time.Minute)
			all := make(chan *logical.Response)
			for range 3 {
				go func() { all <- m.Must(m.Read("creds/invoices", nil)) }()
			}
			for range 3 {
				require.False(t, time.Now().Add((<-all).Secret.TTL).After(end))
			}
			require.Positive(t, m.Requests("GET /tokens"))
		})
	})
	t.Run("of tokens_accepted_until holds where it is earlier", func(t *testing.T) {
		withEnds(t, inEveryAnswer, func(t *testing.T, m *enginetest.Mount, ends *ending) {
			ends.after(30 * time.Minute)
			acceptTokensUntil(m, time.Now().Add(10*time.Minute).Format(time.RFC3339))
			issued := m.Issue()
			require.Len(t, issued.Warnings, 1)
			require.Contains(t, issued.Warnings[0], "tokens_accepted_until")
			require.LessOrEqual(t, issued.Secret.TTL, 10*time.Minute)
		})
	})
	t.Run("is shown where KSeF states it", func(t *testing.T) {
		withEnds(t, inEveryAnswer, func(t *testing.T, m *enginetest.Mount, ends *ending) {
			end := ends.after(48 * time.Hour).UTC().Format(time.RFC3339)
			issued := m.Issue()
			require.Empty(t, issued.Warnings)
			require.Equal(t, time.Hour, issued.Secret.TTL)
			require.Equal(t, end, m.Must(m.Read("tokens/"+issued.Data["reference_number"].(string), nil)).Data["valid_until"])
			listed := m.Must(m.Read("tokens", nil)).Data["tokens"].([]map[string]any)
			require.Equal(t, end, listed[0]["valid_until"])
		})
	})
	for _, garbage := range []string{`"validTo":null`, `"validTo":"soon"`, `"expirationDate":17`, `"validTo":"1999-01-01T00:00:00Z"`} {
		t.Run("is ignored/"+garbage, func(t *testing.T) {
			withEnds(t, inEveryAnswer, func(t *testing.T, m *enginetest.Mount, ends *ending) {
				ends.field = garbage
				issued := m.Issue()
				require.Empty(t, issued.Warnings)
				require.Equal(t, time.Hour, issued.Secret.TTL)
				require.Empty(t, m.Must(m.Renew(m.Lease(issued), time.Hour)).Warnings)
			})
		})
	}
	t.Run("that is over before the answer hands out nothing", func(t *testing.T) {
		withEnds(t, whenMade, func(t *testing.T, m *enginetest.Mount, ends *ending) {
			ends.after(3 * time.Second)
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			_, err := m.Read("creds/invoices", nil)
			require.ErrorContains(t, err, "came too late to be of use")
			m.Elapse(time.Minute)
			require.Empty(t, m.AliveTokens())
		})
	})
}
