// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const (
	grantsEndpoint = "POST /permissions/query/personal/grants"

	revokesOnlyItsOwn = "In Nip:5265877635 the signer Nip:1111111111 lacks CredentialsManage: it can revoke only tokens that it made itself. Grant it CredentialsManage in KSeF."
	refreshEndpoint   = "POST /auth/token/refresh"

	refusesTokens = "In Nip:5265877635 the signer Nip:1111111111 lacks permissions that roles name: KSeF will refuse their tokens with 26001. Grant them to it in KSeF, or take them out of the roles: "
)

// withSigner runs a test on a mount without config, in a world whose certificate is the signer's.
func withSigner(t *testing.T, options simulator.Options, signer simulator.CertificateOptions, test func(t *testing.T, m *mount)) {
	t.Helper()
	inEnv(t, options, func(t *testing.T, w *env) {
		w.cert, w.key = w.certificate(signer)
		m := w.mount(&logical.InmemStorage{})
		defer func() { m.stop() }()
		test(t, m)
	})
}

// withSignerOf has the accountant sign, with the permissions that it was granted.
func withSignerOf(t *testing.T, permissions []string, test func(t *testing.T, m *mount)) {
	t.Helper()
	withSigner(t, granted(permissions...), simulator.CertificateOptions{NIP: accountantNIP}, test)
}

// warnings are those of a write that succeeds.
func (m *mount) warnings(path string, data map[string]any) []string {
	m.t.Helper()
	response := m.must(m.write(path, data))
	if response == nil {
		return nil
	}
	return response.Warnings
}

func names(permissions string) map[string]any {
	return map[string]any{"permissions": permissions, "ttl": "1h"}
}

// createSoleTrader makes the person with testPESEL the owner of testNIP.
func (w *env) createSoleTrader() {
	w.t.Helper()
	person := map[string]any{"nip": testNIP, "pesel": testPESEL, "isBailiff": false, "description": "Jednoosobowa"}
	require.Equal(w.t, http.StatusOK, w.post("/testdata/person", "", person))
}

// moreGrants has KSeF tell that there are more grants than its answer has.
type moreGrants struct{ http.RoundTripper }

func (m moreGrants) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := m.RoundTripper.RoundTrip(request)
	if err != nil || !strings.HasSuffix(request.URL.Path, "/personal/grants") {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(bytes.Replace(body, []byte(`"hasMore":false`), []byte(`"hasMore":true`), 1)))
	return response, err
}

func TestRightsOfSigner(t *testing.T) {
	t.Run("without_CredentialsManage", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
			require.Equal(t, []string{revokesOnlyItsOwn}, m.warnings("config", m.fields()))
			require.Equal(t, []string{revokesOnlyItsOwn}, m.warnings("roles/reader", names("InvoiceRead")))
			require.Equal(t, 1, m.requests(grantsEndpoint))
		})
	})
	t.Run("with_all_that_is_needed", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead", "CredentialsManage"}, func(t *testing.T, m *mount) {
			require.Empty(t, m.warnings("config", m.fields()))
			require.Empty(t, m.warnings("roles/reader", names("InvoiceRead,CredentialsManage")))
			require.Equal(t, 1, m.requests(grantsEndpoint))
		})
	})
	t.Run("less_than_a_role_names", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead", "CredentialsManage"}, func(t *testing.T, m *mount) {
			m.must(m.write("config", m.fields()))
			require.Equal(t, []string{refusesTokens + "writer (InvoiceWrite)."}, m.warnings("roles/writer", names("InvoiceRead,InvoiceWrite")))
			require.Contains(t, m.refused(m.read("creds/writer", nil)), "26001", "as the warning has said")
			unit := names("Introspection")
			unit["internal_id"] = unitContext
			require.Empty(t, m.warnings("roles/unit", unit), "another taxpayer's")
			require.Equal(t, []string{refusesTokens + "writer (InvoiceWrite)."}, m.warnings("config", m.fields()))
		})
	})
	t.Run("less_than_many_roles_name", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead", "CredentialsManage"}, func(t *testing.T, m *mount) {
			for i := range 12 {
				m.must(m.write(fmt.Sprintf("roles/role%02d", i), names("InvoiceWrite,Introspection")))
			}
			warnings := m.warnings("config", m.fields())
			require.Len(t, warnings, 1)
			require.True(t, strings.HasPrefix(warnings[0], refusesTokens+"role00 (InvoiceWrite, Introspection), role01 (InvoiceWrite, Introspection), "), warnings[0])
			require.True(t, strings.HasSuffix(warnings[0], "role09 (InvoiceWrite, Introspection) and 2 more roles."), warnings[0])
		})
	})
	t.Run("are_asked_anew_by_a_config_write", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
			require.NotEmpty(t, m.warnings("config", m.fields()))
			m.takeAway("InvoiceRead", "CredentialsManage")
			require.NotEmpty(t, m.warnings("roles/reader", names("InvoiceRead")), "as KSeF has answered a moment ago")
			require.Empty(t, m.warnings("config", map[string]any{"request_timeout": 20}))
			require.Empty(t, m.warnings("roles/reader", names("InvoiceRead")))
			m.takeAway("InvoiceRead")
			m.elapse(rightsLast + time.Second)
			require.NotEmpty(t, m.warnings("roles/reader", names("InvoiceRead")))
		})
	})
	t.Run("are_those_of_the_session_in_force", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
			m.must(m.write("config", m.fields()))
			owner, key := m.certificate(simulator.CertificateOptions{NIP: testNIP})
			require.Empty(t, m.warnings("config", map[string]any{"certificate": owner, "private_key": key}))
			require.Empty(t, m.warnings("roles/all", names("Introspection")))
		})
	})
}

func TestRightsOfSignerNotWarnedOf(t *testing.T) {
	t.Run("the_owner", func(t *testing.T) {
		withSigner(t, simulator.Options{}, simulator.CertificateOptions{NIP: testNIP}, func(t *testing.T, m *mount) {
			require.Empty(t, m.warnings("config", m.fields()))
			require.Empty(t, m.warnings("roles/all", names("InvoiceRead,SubunitManage")))
			require.Zero(t, m.requests(grantsEndpoint))
		})
	})
	t.Run("a_sole_trader_with_a_PESEL_whom_KSeF_does_not_list", func(t *testing.T) {
		withSigner(t, simulator.Options{}, simulator.CertificateOptions{PESEL: testPESEL}, func(t *testing.T, m *mount) {
			m.createSoleTrader()
			require.Empty(t, m.warnings("config", m.fields()))
			require.Empty(t, m.warnings("roles/all", names("InvoiceRead,SubunitManage")))
			require.Equal(t, 1, m.requests(grantsEndpoint))
		})
	})
	t.Run("unproven", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
			fields := m.fields()
			fields["verify"] = false
			m.must(m.write("config", fields))
			require.Empty(t, m.ksef.State().Requests)
			m.must(m.write("config", m.fields()))
			m.must(m.write("config", fields))
			require.Equal(t, 1, m.requests(grantsEndpoint), "also where there is a session")
		})
	})
	t.Run("silent_KSeF", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
			m.fault(simulator.Fault{Endpoint: grantsEndpoint, Kind: simulator.FaultDelay, Delay: time.Hour, Times: -1})
			began := time.Now()
			require.Empty(t, m.warnings("config", m.fields()))
			require.Equal(t, rightsMaxWait, time.Since(began))
			require.Empty(t, m.warnings("roles/reader", names("InvoiceRead")))
			require.Equal(t, rightsMaxWait, time.Since(began), "not asked for again at once")
		})
	})
	t.Run("exhausted_limit", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
			m.must(m.write("config", m.fields()))
			for m.requests(grantsEndpoint) < 30 {
				m.must(m.write("config", map[string]any{"request_timeout": 20}))
			}
			began := time.Now()
			require.Empty(t, m.warnings("config", map[string]any{"request_timeout": 21}))
			require.LessOrEqual(t, time.Since(began), rightsMaxWait)
			require.Equal(t, 30, m.requests(grantsEndpoint))
		})
	})
	t.Run("refusal", func(t *testing.T) {
		for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable} {
			withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
				m.fault(simulator.Fault{Endpoint: grantsEndpoint, Kind: simulator.FaultStatus, Status: status, Times: -1})
				require.Empty(t, m.warnings("config", m.fields()), status)
				require.Equal(t, 1, m.requests(submitEndpoint))
			})
		}
	})
	t.Run("more_pages", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
			m.transport = moreGrants{m.transport}
			m.stop()
			m.start()
			require.Empty(t, m.warnings("config", m.fields()))
			require.Equal(t, 1, m.requests(grantsEndpoint))
		})
	})
}

func TestRightsOfSignerOnRoleWrites(t *testing.T) {
	t.Run("ask_once_for_300", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead", "CredentialsManage"}, func(t *testing.T, m *mount) {
			m.must(m.write("config", m.fields()))
			m.stop()
			m.start() // the answer to the config write is gone
			logins, questions := m.requests(submitEndpoint), m.requests(grantsEndpoint)
			var wait sync.WaitGroup
			var mu sync.Mutex
			warned := 0
			for i := range 300 {
				wait.Go(func() {
					response, err := m.write(fmt.Sprintf("roles/role%d", i), names("InvoiceWrite"))
					mu.Lock()
					defer mu.Unlock()
					if err == nil && response != nil {
						warned += len(response.Warnings)
					}
				})
			}
			wait.Wait()
			require.Equal(t, 300, warned)
			require.Equal(t, logins, m.requests(submitEndpoint))
			require.Equal(t, questions+1, m.requests(grantsEndpoint))
		})
	})
	t.Run("wait_once_for_silent_KSeF", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
			m.must(m.write("config", m.fields()))
			m.elapse(time.Hour)
			network := m.throughNetwork()
			network.set(silent)
			m.transport = network
			m.stop()
			m.start()
			began := time.Now()
			for i := range 300 {
				require.Empty(t, m.warnings(fmt.Sprintf("roles/role%d", i), names("InvoiceWrite")))
			}
			require.Equal(t, rightsMaxWait, time.Since(began))
		})
	})
	t.Run("send_nothing_without_a_session", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
			require.Empty(t, m.warnings("roles/early", names("InvoiceWrite")))
			fields := m.fields()
			fields["verify"] = false
			m.must(m.write("config", fields))
			require.Empty(t, m.warnings("roles/writer", names("InvoiceWrite")))
			require.Empty(t, m.ksef.State().Requests)
		})
	})
	t.Run("refresh_a_session_and_never_log_in", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead", "CredentialsManage"}, func(t *testing.T, m *mount) {
			m.must(m.write("config", m.fields()))
			m.elapse(time.Hour)
			require.NotEmpty(t, m.warnings("roles/writer", names("InvoiceWrite")))
			require.Equal(t, 1, m.requests(refreshEndpoint))
			m.elapse(time.Hour)
			m.fault(simulator.Fault{Endpoint: refreshEndpoint, Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Times: -1})
			require.Empty(t, m.warnings("roles/writer", names("InvoiceWrite")))
			m.elapse(8 * 24 * time.Hour)
			require.Empty(t, m.warnings("roles/writer", names("InvoiceWrite")))
			require.Equal(t, 1, m.requests(submitEndpoint))
		})
	})
}
