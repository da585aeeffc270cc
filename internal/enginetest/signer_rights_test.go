// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/rights"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const (
	revokesOnlyItsOwn = "In Nip:5265877635 the signer Nip:1111111111 lacks CredentialsManage: it can revoke only tokens that it made itself. Grant it CredentialsManage in KSeF."
	refreshEndpoint   = "POST /auth/token/refresh"

	refusesTokens = "In Nip:5265877635 the signer Nip:1111111111 lacks permissions that roles name: KSeF will refuse their tokens with 26001. Grant them to it in KSeF, or take them out of the roles: "
)

// withSigner runs a test on a mount without config, in an env whose certificate is the signer's.
func withSigner(t *testing.T, options simulator.Options, signer simulator.CertificateOptions, test func(t *testing.T, m *Mount)) {
	t.Helper()
	InEnv(t, options, func(t *testing.T, env *Env) {
		env.Cert, env.Key = env.NewCertificate(signer)
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		test(t, m)
	})
}

// withSignerOf has the accountant sign, with the permissions that it was granted.
func withSignerOf(t *testing.T, permissions []string, test func(t *testing.T, m *Mount)) {
	t.Helper()
	withSigner(t, granted(permissions...), simulator.CertificateOptions{NIP: accountantNIP}, test)
}

// fieldWarnings are the warnings of a write that succeeds.
func fieldWarnings(m *Mount, path string, data map[string]any) []string {
	m.T.Helper()
	return warningsOf(m.Must(m.Write(path, data)))
}

func roleNaming(permissions string) map[string]any {
	return map[string]any{"permissions": permissions, "ttl": "1h"}
}

// createSoleTrader makes the person with PESEL the owner of NIP.
func createSoleTrader(env *Env) {
	env.T.Helper()
	cert := map[string]any{"nip": NIP, "pesel": PESEL, "isBailiff": false, "description": "Jednoosobowa"}
	require.Equal(env.T, http.StatusOK, post(env, "/testdata/person", "", cert))
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
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
			require.Equal(t, []string{revokesOnlyItsOwn}, fieldWarnings(m, "config", m.ConfigFields()))
			require.Equal(t, []string{revokesOnlyItsOwn}, fieldWarnings(m, "roles/reader", roleNaming("InvoiceRead")))
			require.Equal(t, 1, m.Requests(GrantsEndpoint))
		})
	})
	t.Run("with_all_that_is_needed", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead", "CredentialsManage"}, func(t *testing.T, m *Mount) {
			require.Empty(t, fieldWarnings(m, "config", m.ConfigFields()))
			require.Empty(t, fieldWarnings(m, "roles/reader", roleNaming("InvoiceRead,CredentialsManage")))
			require.Equal(t, 1, m.Requests(GrantsEndpoint))
		})
	})
	t.Run("less_than_a_role_names", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead", "CredentialsManage"}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("config", m.ConfigFields()))
			require.Equal(t, []string{refusesTokens + "writer (InvoiceWrite)."}, fieldWarnings(m, "roles/writer", roleNaming("InvoiceRead,InvoiceWrite")))
			require.Contains(t, m.Refused(m.Read("creds/writer", nil)), "26001", "as the warning has said")
			unit := roleNaming("Introspection")
			unit["internal_id"] = UnitID
			require.Empty(t, fieldWarnings(m, "roles/unit", unit), "another taxpayer's")
			require.Equal(t, []string{refusesTokens + "writer (InvoiceWrite)."}, fieldWarnings(m, "config", m.ConfigFields()))
		})
	})
	t.Run("less_than_many_roles_name", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead", "CredentialsManage"}, func(t *testing.T, m *Mount) {
			for i := range 12 {
				m.Must(m.Write(fmt.Sprintf("roles/role%02d", i), roleNaming("InvoiceWrite,Introspection")))
			}
			warnings := fieldWarnings(m, "config", m.ConfigFields())
			require.Len(t, warnings, 1)
			require.True(t, strings.HasPrefix(warnings[0], refusesTokens+"role00 (InvoiceWrite, Introspection), role01 (InvoiceWrite, Introspection), "), warnings[0])
			require.True(t, strings.HasSuffix(warnings[0], "role09 (InvoiceWrite, Introspection) and 2 more roles."), warnings[0])
		})
	})
	t.Run("are_asked_anew_by_a_config_write", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
			require.NotEmpty(t, fieldWarnings(m, "config", m.ConfigFields()))
			takeAway(m.Env, "InvoiceRead", "CredentialsManage")
			require.NotEmpty(t, fieldWarnings(m, "roles/reader", roleNaming("InvoiceRead")), "as KSeF has answered a moment ago")
			require.Empty(t, fieldWarnings(m, "config", map[string]any{"request_timeout": 20}))
			require.Empty(t, fieldWarnings(m, "roles/reader", roleNaming("InvoiceRead")))
			takeAway(m.Env, "InvoiceRead")
			m.Elapse(rights.Lasts + time.Second)
			require.NotEmpty(t, fieldWarnings(m, "roles/reader", roleNaming("InvoiceRead")))
		})
	})
	t.Run("are_those_of_the_session_in_force", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("config", m.ConfigFields()))
			owner, key := m.NewCertificate(simulator.CertificateOptions{NIP: NIP})
			require.Empty(t, fieldWarnings(m, "config", map[string]any{"certificate": owner, "private_key": key}))
			require.Empty(t, fieldWarnings(m, "roles/all", roleNaming("Introspection")))
		})
	})
}

func TestRightsOfSignerNotWarnedOf(t *testing.T) {
	t.Run("the_owner", func(t *testing.T) {
		withSigner(t, simulator.Options{}, simulator.CertificateOptions{NIP: NIP}, func(t *testing.T, m *Mount) {
			require.Empty(t, fieldWarnings(m, "config", m.ConfigFields()))
			require.Empty(t, fieldWarnings(m, "roles/all", roleNaming("InvoiceRead,SubunitManage")))
			require.Zero(t, m.Requests(GrantsEndpoint))
		})
	})
	t.Run("a_sole_trader_with_a_PESEL_whom_KSeF_does_not_list", func(t *testing.T) {
		withSigner(t, simulator.Options{}, simulator.CertificateOptions{PESEL: PESEL}, func(t *testing.T, m *Mount) {
			createSoleTrader(m.Env)
			require.Empty(t, fieldWarnings(m, "config", m.ConfigFields()))
			require.Empty(t, fieldWarnings(m, "roles/all", roleNaming("InvoiceRead,SubunitManage")))
			require.Equal(t, 1, m.Requests(GrantsEndpoint))
		})
	})
	t.Run("unproven", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
			fields := m.ConfigFields()
			fields["verify"] = false
			m.Must(m.Write("config", fields))
			require.Empty(t, m.KSeF.State().Requests)
			m.Must(m.Write("config", m.ConfigFields()))
			m.Must(m.Write("config", fields))
			require.Equal(t, 1, m.Requests(GrantsEndpoint), "also where there is a session")
		})
	})
	t.Run("silent_KSeF", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
			m.Fault(simulator.Fault{Endpoint: GrantsEndpoint, Kind: simulator.FaultDelay, Delay: time.Hour, Times: -1})
			began := time.Now()
			require.Empty(t, fieldWarnings(m, "config", m.ConfigFields()))
			require.Equal(t, rights.MaxWait, time.Since(began))
			require.Empty(t, fieldWarnings(m, "roles/reader", roleNaming("InvoiceRead")))
			require.Equal(t, rights.MaxWait, time.Since(began), "not asked for again at once")
		})
	})
	t.Run("exhausted_limit", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("config", m.ConfigFields()))
			for m.Requests(GrantsEndpoint) < 30 {
				m.Must(m.Write("config", map[string]any{"request_timeout": 20}))
			}
			began := time.Now()
			require.Empty(t, fieldWarnings(m, "config", map[string]any{"request_timeout": 21}))
			require.LessOrEqual(t, time.Since(began), rights.MaxWait)
			require.Equal(t, 30, m.Requests(GrantsEndpoint))
		})
	})
	t.Run("refusal", func(t *testing.T) {
		for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable} {
			withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
				m.Fault(simulator.Fault{Endpoint: GrantsEndpoint, Kind: simulator.FaultStatus, Status: status, Times: -1})
				require.Empty(t, fieldWarnings(m, "config", m.ConfigFields()), status)
				require.Equal(t, 1, m.Requests(SubmitEndpoint))
			})
		}
	})
	t.Run("more_pages", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
			m.UseOwnProcess(moreGrants{m.Transport})
			m.Stop()
			m.Start()
			require.Empty(t, fieldWarnings(m, "config", m.ConfigFields()))
			require.Equal(t, 1, m.Requests(GrantsEndpoint))
		})
	})
}

func TestRightsOfSignerOnRoleWrites(t *testing.T) {
	t.Run("ask_once_for_300", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead", "CredentialsManage"}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("config", m.ConfigFields()))
			m.Stop()
			m.Start() // the answer to the config write is gone
			logins, questions := m.Requests(SubmitEndpoint), m.Requests(GrantsEndpoint)
			var wait sync.WaitGroup
			var mu sync.Mutex
			warned := 0
			for i := range 300 {
				wait.Go(func() {
					response, err := m.Write(fmt.Sprintf("roles/role%d", i), roleNaming("InvoiceWrite"))
					mu.Lock()
					defer mu.Unlock()
					if err == nil && response != nil {
						warned += len(response.Warnings)
					}
				})
			}
			wait.Wait()
			require.Equal(t, 300, warned)
			require.Equal(t, logins, m.Requests(SubmitEndpoint))
			require.Equal(t, questions+1, m.Requests(GrantsEndpoint))
		})
	})
	t.Run("wait_once_for_silent_KSeF", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("config", m.ConfigFields()))
			m.Elapse(time.Hour)
			network := m.ThroughNetwork()
			network.Set(Silent)
			m.Stop()
			m.Start()
			began := time.Now()
			for i := range 300 {
				require.Empty(t, fieldWarnings(m, fmt.Sprintf("roles/role%d", i), roleNaming("InvoiceWrite")))
			}
			require.Equal(t, rights.MaxWait, time.Since(began))
		})
	})
	t.Run("send_nothing_without_a_session", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
			require.Empty(t, fieldWarnings(m, "roles/early", roleNaming("InvoiceWrite")))
			fields := m.ConfigFields()
			fields["verify"] = false
			m.Must(m.Write("config", fields))
			require.Empty(t, fieldWarnings(m, "roles/writer", roleNaming("InvoiceWrite")))
			require.Empty(t, m.KSeF.State().Requests)
		})
	})
	t.Run("refresh_a_session_and_never_log_in", func(t *testing.T) {
		withSignerOf(t, []string{"InvoiceRead", "CredentialsManage"}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("config", m.ConfigFields()))
			m.Elapse(time.Hour)
			require.NotEmpty(t, fieldWarnings(m, "roles/writer", roleNaming("InvoiceWrite")))
			require.Equal(t, 1, m.Requests(refreshEndpoint))
			m.Elapse(time.Hour)
			m.Fault(simulator.Fault{Endpoint: refreshEndpoint, Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Times: -1})
			require.Empty(t, fieldWarnings(m, "roles/writer", roleNaming("InvoiceWrite")))
			m.Elapse(8 * 24 * time.Hour)
			require.Empty(t, fieldWarnings(m, "roles/writer", roleNaming("InvoiceWrite")))
			require.Equal(t, 1, m.Requests(SubmitEndpoint))
		})
	})
}
