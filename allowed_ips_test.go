// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const (
	ownAddress   = "127.0.0.1" // of a node, unless a test says otherwise
	otherAddress = "192.0.2.9"
)

// leaveFrom gives the nodes that start from now on another address.
func (w *env) leaveFrom(address string) {
	w.transport = simulator.NewTransportFrom(w.requireConformance.over(w.t, w.ksef.Handler()), address)
}

// twoWays leave by one address to log in and by another for all else.
type twoWays struct{ login, other http.RoundTripper }

func (w *env) leaveTwoWays(login, other string) {
	handler := w.requireConformance.over(w.t, w.ksef.Handler())
	w.transport = twoWays{simulator.NewTransportFrom(handler, login), simulator.NewTransportFrom(handler, other)}
}

func (ways twoWays) RoundTrip(request *http.Request) (*http.Response, error) {
	if strings.HasPrefix(request.URL.Path, "/v2/auth/") && !strings.HasPrefix(request.URL.Path, "/v2/auth/sessions") {
		return ways.login.RoundTrip(request)
	}
	return ways.other.RoundTrip(request)
}

// lastLogin is the document of the last login.
func (w *env) lastLogin() string {
	w.t.Helper()
	signed := w.ksef.SignedRequests()
	require.NotEmpty(w.t, signed)
	return string(signed[len(signed)-1])
}

const submitEndpoint = "POST /auth/xades-signature"

// withAllowedIPs is a mount whose sessions are bound.
func withAllowedIPs(t *testing.T, allowed any, test func(t *testing.T, m *mount)) {
	t.Helper()
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		fields := w.fields()
		fields["allowed_ips"] = allowed
		m.must(m.write("config", fields))
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
				withAllowedIPs(t, test.given, func(t *testing.T, m *mount) {
					require.Equal(t, test.shown, m.must(m.read("config", nil)).Data["allowed_ips"])
					require.Contains(t, m.lastLogin(), "<AuthorizationPolicy><AllowedIps>"+test.element+"</AllowedIps></AuthorizationPolicy>")
					issued := m.issue()
					require.NoError(t, m.revoke(m.lease(issued)))
					require.Equal(t, 1, m.requests(submitEndpoint))
				})
			})
		}
	})
	t.Run("change_the_session_when_they_change", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			require.NotContains(t, m.lastLogin(), "AuthorizationPolicy")
			for i, step := range []struct {
				given  any
				logins int
			}{{"auto", 2}, {"auto", 2}, {"127.0.0.1,10.0.0.1", 3}, {"10.0.0.1,127.0.0.1", 3}, {"", 4}, {[]string{}, 4}, {"127.0.0.1", 5}, {[]string{}, 6}} {
				m.must(m.write("config", map[string]any{"allowed_ips": step.given}))
				require.Equal(t, step.logins, m.requests(submitEndpoint), i)
				require.Equal(t, 1, m.openSessions(), "the session before has ended")
			}
			require.Empty(t, m.must(m.read("config", nil)).Data["allowed_ips"])
			require.NotContains(t, m.lastLogin(), "AuthorizationPolicy")
		})
	})
	t.Run("do_not_change_what_was_stored_before", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			entry, err := m.storage.Get(t.Context(), configKey)
			require.NoError(t, err)
			require.NotContains(t, string(entry.Value), "allowed_ips")
			stored := &config{URL: testURL, SubjectIdentifierType: "certificateSubject", Certificate: "PEM"}
			require.Equal(t, "50e80f0b596fa93c20ee28fcda35fb9b34befdbdf7c25aeb4ed049d8f0e0f4ee", stored.fingerprint(), "sessions of a version without the field are found by this")
		})
	})
	t.Run("go_along_with_a_rotation", func(t *testing.T) {
		withAllowedIPs(t, "auto", func(t *testing.T, m *mount) {
			require.Equal(t, "done", m.must(m.write("config/rotate-root", nil)).Data["status"])
			require.Contains(t, m.lastLogin(), "<Ip4Address>127.0.0.1</Ip4Address>")
			require.Equal(t, []string{"auto"}, m.must(m.read("config", nil)).Data["allowed_ips"])
			m.issue()
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
			withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
				require.Contains(t, m.refused(m.write("config", map[string]any{"allowed_ips": test.given})), test.text)
				require.Empty(t, m.must(m.read("config", nil)).Data["allowed_ips"])
				require.Equal(t, 1, m.requests(submitEndpoint), "nobody logs in only to be refused")
				m.issue()
			})
		})
	}
	t.Run("auto_over_IPv6", func(t *testing.T) {
		inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
			w.leaveFrom("2001:db8::9")
			m := w.mount(&logical.InmemStorage{})
			defer m.stop()
			fields := w.fields()
			fields["allowed_ips"] = "auto"
			require.Contains(t, m.refused(m.write("config", fields)), "allowed_ips: is auto, and KSeF sees this node at 2001:db8::9, to which it binds no session")
			fields["allowed_ips"] = "192.0.2.1"
			require.Contains(t, m.refused(m.write("config", fields)), "allowed_ips: leaves out 2001:db8::9")
			delete(fields, "allowed_ips")
			m.must(m.write("config", fields))
		})
	})
	t.Run("auto_without_a_certificate", func(t *testing.T) {
		withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
			require.Contains(t, m.refused(m.write("config", map[string]any{"allowed_ips": "auto"})), "allowed_ips: is auto, and config has no certificate")
		})
	})
	t.Run("unproven_at_the_first_request", func(t *testing.T) {
		inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
			m := w.mount(&logical.InmemStorage{})
			defer m.stop()
			fields := w.fields()
			fields["allowed_ips"], fields["verify"] = "192.0.2.0/24", false
			m.must(m.write("config", fields))
			require.Empty(t, m.ksef.State().Requests)
			m.must(m.write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
			for range 2 {
				require.Contains(t, m.refused(m.read("creds/invoices", nil)), "allowed_ips: leaves out 127.0.0.1")
			}
			require.Zero(t, m.requests(submitEndpoint))
			require.Equal(t, 1, m.requests("POST /auth/challenge"), "the second is answered from memory")
			m.requireEmptyLedger()
		})
	})
}

// boundEnds is KSeF where sessions can be ended by their own tokens only from their addresses, and
// this is another.
type boundEnds struct{ http.RoundTripper }

func (b boundEnds) RoundTrip(request *http.Request) (*http.Response, error) {
	if strings.HasSuffix(request.URL.Path, "/auth/sessions/current") {
		return addressRefusal(request), nil
	}
	return b.RoundTripper.RoundTrip(request)
}

func TestAddressRefused(t *testing.T) {
	t.Run("by_another_node_logs_in_anew", func(t *testing.T) {
		withAllowedIPs(t, "auto", func(t *testing.T, m *mount) {
			issued := m.issue()
			m.stop()
			m.leaveFrom(otherAddress)
			standby := m.mount(m.storage)
			defer standby.stop()
			require.NoError(t, standby.revoke(m.lease(issued)), "what the other node has made")
			require.Contains(t, m.lastLogin(), "<Ip4Address>192.0.2.9</Ip4Address>")
			for range 3 {
				standby.issue()
			}
			require.Equal(t, 2, m.requests(submitEndpoint))
			require.Equal(t, 1, m.openSessions(), "that of the other node has ended")
		})
	})
	t.Run("does_not_hold_up_a_rotation", func(t *testing.T) {
		inEnv(t, simulator.Options{Grants: secondGrant()}, func(t *testing.T, w *env) {
			m := w.mount(&logical.InmemStorage{})
			fields := w.fields()
			fields["allowed_ips"] = "auto"
			m.must(m.write("config", fields))
			m.must(m.write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "nip": secondNIP}))
			m.must(m.read("creds/invoices", nil))
			m.stop()
			w.leaveFrom(otherAddress)
			w.transport = boundEnds{w.transport}
			standby := w.mount(m.storage)
			defer standby.stop()
			require.Equal(t, "done", standby.rotate(nil)["status"])
			require.Empty(t, standby.must(standby.write("config", map[string]any{"request_timeout": 20})).Warnings)
			standby.elapse(time.Hour)
			standby.must(standby.read("creds/invoices", nil))
			standby.must(standby.write("config", map[string]any{"request_timeout": 30}))
			require.Equal(t, 2, standby.openSessions(), "one in each context: those of the other node have been ended by their numbers")
		})
	})
	t.Run("of_many_requests_at_once_logs_in_once", func(t *testing.T) {
		withAllowedIPs(t, "auto", func(t *testing.T, m *mount) {
			m.issue()
			m.stop()
			m.leaveFrom(otherAddress)
			standby := m.mount(m.storage)
			defer standby.stop()
			answers := make(chan *logical.Response, 8)
			for range 8 {
				go func() {
					answer, _ := standby.read("creds/invoices", nil)
					answers <- answer
				}()
			}
			for range 8 {
				answer := <-answers
				require.NotNil(t, answer)
				require.False(t, answer.IsError(), answer)
			}
			require.Equal(t, 2, m.requests(submitEndpoint))
		})
	})
	t.Run("after_a_new_login_too_is_an_error", func(t *testing.T) {
		inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
			storage := &logical.InmemStorage{}
			w.leaveTwoWays(ownAddress, otherAddress)
			m := w.mount(storage)
			defer m.stop()
			fields := w.fields()
			fields["allowed_ips"] = "auto"
			m.must(m.write("config", fields))
			m.must(m.write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
			logins := m.requests(submitEndpoint)
			text := m.refused(m.read("creds/invoices", nil))
			require.Contains(t, text, "KSeF refuses the address of this node also after a new login: allowed_ips of config is auto, and KSeF has seen the login begin at 127.0.0.1")
			require.Contains(t, text, "ip-not-allowed")
			require.NotContains(t, text, "permission")
			require.Equal(t, logins+1, m.requests(submitEndpoint))
			for range 5 {
				m.refused(m.read("creds/invoices", nil))
			}
			require.Equal(t, logins+1, m.requests(submitEndpoint), "no request logs in again for a while")
			m.elapse(31 * time.Second)
			m.refused(m.read("creds/invoices", nil))
			require.Equal(t, logins+2, m.requests(submitEndpoint))
			m.requireEmptyLedger()
		})
	})
	t.Run("is_no_lack_of_rights", func(t *testing.T) {
		refused := &client.APIError{Endpoint: client.EndpointRevokeToken, Status: http.StatusForbidden, ReasonCode: "ip-not-allowed"}
		require.False(t, needsOperator(refused))
		require.True(t, needsOperator(&client.APIError{Endpoint: client.EndpointRevokeToken, Status: http.StatusForbidden, ReasonCode: "missing-permissions"}))
	})
	t.Run("revokes_when_the_address_is_allowed_again", func(t *testing.T) {
		withAllowedIPs(t, ownAddress, func(t *testing.T, m *mount) {
			issued := m.issue()
			m.stop()
			m.leaveFrom(otherAddress)
			standby := m.mount(m.storage)
			defer standby.stop()
			err := standby.revoke(m.lease(issued))
			require.ErrorContains(t, err, "allowed_ips: leaves out 192.0.2.9")
			require.ErrorContains(t, err, "The engine goes on by itself")
			standby.must(standby.write("config", map[string]any{"allowed_ips": ownAddress + "," + otherAddress}))
			m.elapse(time.Minute)
			require.NoError(t, standby.revoke(m.lease(issued)))
			m.requireLoginRefused(issued.Data["token"])
		})
	})
}
