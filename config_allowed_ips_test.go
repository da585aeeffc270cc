// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const (
	OwnAddress   = "127.0.0.1" // of a node, unless a test says otherwise
	OtherAddress = "192.0.2.9"
)

// leaveFrom gives nodes that start from now on another source address.
func leaveFrom(env *enginetest.Env, address string) {
	env.SetTransport(simulator.NewTransportFrom(env.Conformance.Check(env.T, env.KSeF.Handler()), address))
}

// twoWays uses one source address for logins and another for all other requests.
type twoWays struct{ login, other http.RoundTripper }

func leaveTwoWays(env *enginetest.Env, login, other string) {
	handler := env.Conformance.Check(env.T, env.KSeF.Handler())
	env.SetTransport(twoWays{simulator.NewTransportFrom(handler, login), simulator.NewTransportFrom(handler, other)})
}

func (ways twoWays) RoundTrip(request *http.Request) (*http.Response, error) {
	if strings.HasPrefix(request.URL.Path, "/v2/auth/") && !strings.HasPrefix(request.URL.Path, "/v2/auth/sessions") {
		return ways.login.RoundTrip(request)
	}
	return ways.other.RoundTrip(request)
}

// lastLogin is the document of the last login.
func lastLogin(env *enginetest.Env) string {
	env.T.Helper()
	signed := env.KSeF.SignedRequests()
	require.NotEmpty(env.T, signed)
	return string(signed[len(signed)-1])
}

// withAllowedIPs runs a test on a mount with allowed_ips.
func withAllowedIPs(t *testing.T, allowed any, test func(t *testing.T, m *enginetest.Mount)) {
	t.Helper()
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		fields := env.ConfigFields()
		fields["allowed_ips"] = allowed
		m.Must(m.Write("config", fields))
		test(t, m)
	})
}

func TestAllowedIPs(t *testing.T) {
	t.Run("bind_the_sessions", func(t *testing.T) {
		for name, test := range map[string]struct {
			given   any
			shown   []string
			element string
		}{
			"auto":    {"auto", []string{"auto"}, "<Ip4Address>127.0.0.1</Ip4Address>"},
			"address": {"127.0.0.1", []string{"127.0.0.1"}, "<Ip4Address>127.0.0.1</Ip4Address>"},
			"range":   {"127.0.0.0-127.0.0.9", []string{"127.0.0.0-127.0.0.9"}, "<Ip4Range>127.0.0.0-127.0.0.9</Ip4Range>"},
			"mask":    {"127.0.0.7/8", []string{"127.0.0.7/8"}, "<Ip4Mask>127.0.0.7/8</Ip4Mask>"},
			"list": {
				[]string{"127.0.0.0/8", "192.0.2.1", "10.0.0.1-10.0.0.2"}, []string{"127.0.0.0/8", "192.0.2.1", "10.0.0.1-10.0.0.2"},
				"<Ip4Address>192.0.2.1</Ip4Address><Ip4Range>10.0.0.1-10.0.0.2</Ip4Range><Ip4Mask>127.0.0.0/8</Ip4Mask>",
			},
		} {
			t.Run(name, func(t *testing.T) {
				withAllowedIPs(t, test.given, func(t *testing.T, m *enginetest.Mount) {
					require.Equal(t, test.shown, m.Must(m.Read("config", nil)).Data["allowed_ips"])
					require.Contains(t, lastLogin(m.Env), "<AuthorizationPolicy><AllowedIps>"+test.element+"</AllowedIps></AuthorizationPolicy>")
					issued := m.Issue()
					require.NoError(t, m.Revoke(m.Lease(issued)))
					require.Equal(t, 1, m.Requests(enginetest.SubmitEndpoint))
				})
			})
		}
	})
	t.Run("change_the_session_when_they_change", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.NotContains(t, lastLogin(m.Env), "AuthorizationPolicy")
			for i, step := range []struct {
				given  any
				logins int
			}{{"auto", 2}, {"auto", 2}, {"127.0.0.1,10.0.0.1", 3}, {"10.0.0.1,127.0.0.1", 3}, {"", 4}, {[]string{}, 4}, {"127.0.0.1", 5}, {[]string{}, 6}} {
				m.Must(m.Write("config", map[string]any{"allowed_ips": step.given}))
				require.Equal(t, step.logins, m.Requests(enginetest.SubmitEndpoint), i)
				require.Equal(t, 1, m.OpenSessions(), "the session before has ended")
			}
			require.Empty(t, m.Must(m.Read("config", nil)).Data["allowed_ips"])
			require.NotContains(t, lastLogin(m.Env), "AuthorizationPolicy")
		})
	})
	t.Run("do_not_change_what_was_stored_before", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			entry, err := m.Storage.Get(t.Context(), "config")
			require.NoError(t, err)
			require.NotContains(t, string(entry.Value), "allowed_ips")
		})
	})
	t.Run("go_along_with_a_rotation", func(t *testing.T) {
		withAllowedIPs(t, "auto", func(t *testing.T, m *enginetest.Mount) {
			require.Equal(t, "done", m.Must(m.Write("config/rotate-root", nil)).Data["status"])
			require.Contains(t, lastLogin(m.Env), "<Ip4Address>127.0.0.1</Ip4Address>")
			require.Equal(t, []string{"auto"}, m.Must(m.Read("config", nil)).Data["allowed_ips"])
			m.Issue()
		})
	})
}

func TestAllowedIPsRefused(t *testing.T) {
	many := make([]string, 11)
	for i := range many {
		many[i] = "10.0.0.1"
	}
	for name, test := range map[string]struct {
		given any
		text  string
	}{
		"no_address":     {"127.0.0.1,office", "allowed_ips: has at place 2 what is no IPv4 address, range or mask; give IPv4 addresses such as 192.0.2.7"},
		"IPv6":           {"2001:db8::1", "allowed_ips: has at place 1 what is no IPv4 address"},
		"too_many":       {many, "allowed_ips: has 11 addresses, and KSeF takes at most 10"},
		"auto_and_more":  {"auto,127.0.0.1", "allowed_ips: has auto beside other entries"},
		"leaves_out":     {"192.0.2.0/24,10.0.0.1", "allowed_ips: leaves out 127.0.0.1, from which KSeF sees this node, and allows 192.0.2.0/24, 10.0.0.1; add that address"},
		"range_reversed": {"10.0.0.9-10.0.0.1", "place 1"},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
				require.Contains(t, m.Refused(m.Write("config", map[string]any{"allowed_ips": test.given})), test.text)
				require.Empty(t, m.Must(m.Read("config", nil)).Data["allowed_ips"])
				require.Equal(t, 1, m.Requests(enginetest.SubmitEndpoint), "there is no login only to be refused")
				m.Issue()
			})
		})
	}
	t.Run("auto_over_IPv6", func(t *testing.T) {
		enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
			leaveFrom(env, "2001:db8::9")
			m := env.Mount(&logical.InmemStorage{})
			defer m.Stop()
			fields := env.ConfigFields()
			fields["allowed_ips"] = "auto"
			require.Contains(t, m.Refused(m.Write("config", fields)), "allowed_ips: is auto, and KSeF sees this node at 2001:db8::9, to which it binds no session")
			fields["allowed_ips"] = "192.0.2.1"
			require.Contains(t, m.Refused(m.Write("config", fields)), "allowed_ips: leaves out 2001:db8::9")
			delete(fields, "allowed_ips")
			m.Must(m.Write("config", fields))
		})
	})
	t.Run("auto_without_a_certificate", func(t *testing.T) {
		enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.Contains(t, m.Refused(m.Write("config", map[string]any{"allowed_ips": "auto"})), "allowed_ips: is auto, and config has no certificate")
		})
	})
	t.Run("unproven_at_the_first_request", func(t *testing.T) {
		enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
			m := env.Mount(&logical.InmemStorage{})
			defer m.Stop()
			fields := env.ConfigFields()
			fields["allowed_ips"], fields["verify"] = "192.0.2.0/24", false
			m.Must(m.Write("config", fields))
			require.Empty(t, m.KSeF.State().Requests)
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
			for range 2 {
				require.Contains(t, m.Refused(m.Read("creds/invoices", nil)), "allowed_ips: leaves out 127.0.0.1")
			}
			require.Zero(t, m.Requests(enginetest.SubmitEndpoint))
			require.Equal(t, 1, m.Requests("POST /auth/challenge"), "the second is answered from memory")
			m.RequireEmptyLedger()
		})
	})
}

// boundEnds is a KSeF that lets a session be ended by its own token from its addresses only, seen
// from another address.
type boundEnds struct{ http.RoundTripper }

func (b boundEnds) RoundTrip(request *http.Request) (*http.Response, error) {
	if strings.HasSuffix(request.URL.Path, "/auth/sessions/current") {
		return addressRefusal(request), nil
	}
	return b.RoundTripper.RoundTrip(request)
}

func TestAllowedIPsAddressRefused(t *testing.T) {
	t.Run("by_another_node_logs_in_anew", func(t *testing.T) {
		withAllowedIPs(t, "auto", func(t *testing.T, m *enginetest.Mount) {
			issued := m.Issue()
			m.Stop()
			leaveFrom(m.Env, OtherAddress)
			standby := m.Mount(m.Storage)
			defer standby.Stop()
			require.NoError(t, standby.Revoke(m.Lease(issued)), "what the other node has made")
			require.Contains(t, lastLogin(m.Env), "<Ip4Address>192.0.2.9</Ip4Address>")
			for range 3 {
				standby.Issue()
			}
			require.Equal(t, 2, m.Requests(enginetest.SubmitEndpoint))
			require.Equal(t, 1, m.OpenSessions(), "that of the other node has ended")
		})
	})
	t.Run("does_not_hold_up_a_rotation", func(t *testing.T) {
		enginetest.InEnv(t, simulator.Options{Grants: enginetest.SecondGrant()}, func(t *testing.T, env *enginetest.Env) {
			m := env.Mount(&logical.InmemStorage{})
			fields := env.ConfigFields()
			fields["allowed_ips"] = "auto"
			m.Must(m.Write("config", fields))
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "nip": enginetest.SecondNIP}))
			m.Must(m.Read("creds/invoices", nil))
			m.Stop()
			leaveFrom(env, OtherAddress)
			env.SetTransport(boundEnds{env.Transport})
			standby := env.Mount(m.Storage)
			defer standby.Stop()
			require.Equal(t, "done", standby.Rotate(nil)["status"])
			require.Empty(t, standby.Must(standby.Write("config", map[string]any{"request_timeout": 20})).Warnings)
			standby.Elapse(time.Hour)
			standby.Must(standby.Read("creds/invoices", nil))
			standby.Must(standby.Write("config", map[string]any{"request_timeout": 30}))
			require.Equal(t, 2, standby.OpenSessions(), "one in each context: those of the other node have been ended by their numbers")
		})
	})
	t.Run("of_many_requests_at_once_logs_in_once", func(t *testing.T) {
		withAllowedIPs(t, "auto", func(t *testing.T, m *enginetest.Mount) {
			m.Issue()
			m.Stop()
			leaveFrom(m.Env, OtherAddress)
			standby := m.Mount(m.Storage)
			defer standby.Stop()
			answers := make(chan *logical.Response, 8)
			for range 8 {
				go func() {
					answer, _ := standby.Read("creds/invoices", nil)
					answers <- answer
				}()
			}
			for range 8 {
				answer := <-answers
				require.NotNil(t, answer)
				require.False(t, answer.IsError(), answer)
			}
			require.Equal(t, 2, m.Requests(enginetest.SubmitEndpoint))
		})
	})
	t.Run("after_a_new_login_too_is_an_error", func(t *testing.T) {
		enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
			storage := &logical.InmemStorage{}
			leaveTwoWays(env, OwnAddress, OtherAddress)
			m := env.Mount(storage)
			defer m.Stop()
			fields := env.ConfigFields()
			fields["allowed_ips"] = "auto"
			m.Must(m.Write("config", fields))
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
			logins := m.Requests(enginetest.SubmitEndpoint)
			text := m.Refused(m.Read("creds/invoices", nil))
			require.Contains(t, text, "KSeF refuses the address of this node also after a new login: allowed_ips of config is auto, and KSeF has seen the login begin at 127.0.0.1")
			require.Contains(t, text, "ip-not-allowed")
			require.NotContains(t, text, "permission")
			require.Equal(t, logins+1, m.Requests(enginetest.SubmitEndpoint))
			for range 5 {
				m.Refused(m.Read("creds/invoices", nil))
			}
			require.Equal(t, logins+1, m.Requests(enginetest.SubmitEndpoint), "no request logs in again for a while")
			m.Elapse(31 * time.Second)
			m.Refused(m.Read("creds/invoices", nil))
			require.Equal(t, logins+2, m.Requests(enginetest.SubmitEndpoint))
			m.RequireEmptyLedger()
		})
	})
	t.Run("revokes_when_the_address_is_allowed_again", func(t *testing.T) {
		withAllowedIPs(t, OwnAddress, func(t *testing.T, m *enginetest.Mount) {
			issued := m.Issue()
			m.Stop()
			leaveFrom(m.Env, OtherAddress)
			standby := m.Mount(m.Storage)
			defer standby.Stop()
			err := standby.Revoke(m.Lease(issued))
			require.ErrorContains(t, err, "allowed_ips: leaves out 192.0.2.9")
			require.ErrorContains(t, err, "The engine goes on by itself")
			standby.Must(standby.Write("config", map[string]any{"allowed_ips": OwnAddress + "," + OtherAddress}))
			m.Elapse(time.Minute)
			require.NoError(t, standby.Revoke(m.Lease(issued)))
			m.RequireLoginRefused(issued.Data["token"])
		})
	})
}
