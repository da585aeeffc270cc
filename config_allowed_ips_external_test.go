// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/stretchr/testify/require"
)

// signWhole signs the document of login/begin, with all that is in it.
func signWhole(t *testing.T, p *enginetest.Signer, document string, layout xadestest.Layout) string {
	_, inner, found := strings.Cut(document, `auth/token/2.0">`)
	require.True(t, found)
	return p.SignAs(t, xadestest.Request{Inner: strings.TrimSuffix(inner, "</AuthTokenRequest>"), Layout: layout})
}

// withBoundLogin runs a test with an external login that is bound to a list of addresses.
func withBoundLogin(t *testing.T, allowed string, test func(t *testing.T, m *enginetest.Mount, signer *enginetest.Signer)) {
	t.Helper()
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("config", map[string]any{"allowed_ips": allowed}))
		signer := m.Signer(simulator.CertificateOptions{NIP: enginetest.NIP})
		m.Must(m.CompleteLogin(signWhole(t, signer, m.BeginLogin(nil)["auth_token_request"].(string), xadestest.DSS())))
		test(t, m, signer)
	})
}

func TestAllowedIPsExternal(t *testing.T) {
	t.Run("are_in_the_document", func(t *testing.T) {
		for name, layout := range map[string]xadestest.Layout{
			"C#": xadestest.CSharp(), "DSS": xadestest.DSS(), "enveloping": xadestest.Enveloping(), "enveloping_base64": xadestest.EnvelopingBase64(),
		} {
			t.Run(name, func(t *testing.T) {
				enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
					m.Must(m.Write("config", map[string]any{"allowed_ips": "127.0.0.0/8,192.0.2.1"}))
					signer := m.Signer(simulator.CertificateOptions{NIP: enginetest.NIP})
					document := m.BeginLogin(nil)["auth_token_request"].(string)
					require.Contains(t, document, "<AllowedIps><Ip4Address>192.0.2.1</Ip4Address><Ip4Mask>127.0.0.0/8</Ip4Mask></AllowedIps>")
					answer := m.Must(m.CompleteLogin(signWhole(t, signer, document, layout)))
					require.Equal(t, "active", answer.Data["status"])
					m.Issue()
				})
			})
		}
	})
	t.Run("are_those_of_the_document", func(t *testing.T) {
		enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			signer := m.Signer(simulator.CertificateOptions{NIP: enginetest.NIP})
			unbound := m.BeginLogin(nil)["auth_token_request"].(string)
			bound := strings.Replace(unbound, "</AuthTokenRequest>", "<AuthorizationPolicy><AllowedIps><Ip4Address>127.0.0.1</Ip4Address></AllowedIps></AuthorizationPolicy></AuthTokenRequest>", 1)
			const altered = "was altered: its AuthorizationPolicy has other addresses than it was begun with"
			require.Contains(t, m.Refused(m.CompleteLogin(signWhole(t, signer, bound, xadestest.DSS()))), altered)
			m.Must(m.Write("config", map[string]any{"allowed_ips": "127.0.0.1"}))
			require.Contains(t, m.Refused(m.CompleteLogin(signWhole(t, signer, unbound, xadestest.DSS()))), "was begun for other addresses than allowed_ips of config has now")
			bound = m.BeginLogin(nil)["auth_token_request"].(string)
			require.Contains(t, m.Refused(m.CompleteLogin(signWhole(t, signer, strings.Replace(bound, "127.0.0.1", "127.0.0.2", 1), xadestest.DSS()))), altered)
			from, to := strings.Index(bound, "<AuthorizationPolicy>"), strings.Index(bound, "</AuthTokenRequest>")
			require.Contains(t, m.Refused(m.CompleteLogin(signWhole(t, signer, bound[:from]+bound[to:], xadestest.DSS()))), altered)
			require.Zero(t, m.Requests(enginetest.SubmitEndpoint))
			m.Must(m.CompleteLogin(signWhole(t, signer, bound, xadestest.DSS())))
		})
	})
	t.Run("must_hold_the_address_of_Vault", func(t *testing.T) {
		enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			const text = "allowed_ips: leaves out 127.0.0.1"
			require.Contains(t, m.Refused(m.Write("config", map[string]any{"allowed_ips": "192.0.2.1"})), text)
			m.Must(m.Write("config", map[string]any{"allowed_ips": "192.0.2.1", "verify": false}))
			require.Contains(t, m.Refused(m.Write("login/begin", nil)), text, "what could not be used is not signed")
		})
	})
	t.Run("are_never_auto", func(t *testing.T) {
		withAllowedIPs(t, "auto", func(t *testing.T, m *enginetest.Mount) {
			require.Contains(t, m.Refused(m.Write("login/begin", nil)), "allowed_ips: is auto in config, and a login that a person signs cannot be repeated")
		})
	})
	t.Run("stay_when_config_changes", func(t *testing.T) {
		withBoundLogin(t, "127.0.0.0/8", func(t *testing.T, m *enginetest.Mount, signer *enginetest.Signer) {
			require.Empty(t, m.Must(m.Write("config", map[string]any{"request_timeout": 20})).Warnings)
			warnings := m.Must(m.Write("config", map[string]any{"allowed_ips": "127.0.0.1"})).Warnings
			require.Equal(t, []string{"The external login stays bound to the addresses that it was signed for (127.0.0.0/8) until it ends: " +
				"have login/begin signed again for those of allowed_ips (127.0.0.1)."}, warnings)
			m.Issue()
			m.Must(m.CompleteLogin(signWhole(t, signer, m.BeginLogin(nil)["auth_token_request"].(string), xadestest.DSS())))
			require.Empty(t, m.Must(m.Write("config", map[string]any{"request_timeout": 30})).Warnings)
		})
	})
	t.Run("are_the_same_in_another_order", func(t *testing.T) {
		withBoundLogin(t, "127.0.0.0/8,192.0.2.1", func(t *testing.T, m *enginetest.Mount, _ *enginetest.Signer) {
			require.Empty(t, m.Must(m.Write("config", map[string]any{"allowed_ips": "192.0.2.1,127.0.0.0/8,192.0.2.1"})).Warnings)
		})
	})
	t.Run("do_not_cost_the_login_at_another_address", func(t *testing.T) {
		withBoundLogin(t, "127.0.0.0/8", func(t *testing.T, m *enginetest.Mount, _ *enginetest.Signer) {
			issued := m.Issue()
			m.Stop()
			leaveFrom(m.Env, OtherAddress)
			standby := m.Mount(m.Storage)
			const text = "the login that a person has signed is bound to 127.0.0.0/8, and KSeF sees this node at 192.0.2.9"
			require.Contains(t, m.Refused(standby.Read("creds/invoices", nil)), text)
			standby.Elapse(20 * time.Minute)
			require.Contains(t, m.Refused(standby.Read("creds/invoices", nil)), text)
			require.ErrorContains(t, standby.Revoke(m.Lease(issued)), text)
			standby.Stop()
			leaveFrom(m.Env, OwnAddress)
			back := m.Mount(m.Storage)
			defer back.Stop()
			back.Elapse(10 * time.Minute)
			require.NoError(t, back.Revoke(m.Lease(issued)))
			require.Equal(t, 1, m.Requests(enginetest.SubmitEndpoint))
		})
	})
	t.Run("do_not_cost_the_login_where_KSeF_binds_refreshes_too", func(t *testing.T) {
		withBoundLogin(t, "127.0.0.0/8", func(t *testing.T, m *enginetest.Mount, _ *enginetest.Signer) {
			m.Issue()
			m.Stop()
			ways := m.Mount(m.Storage)
			ways.Stop()
			ways.UseOwnProcess(boundRefresh{m.Transport})
			ways.Start()
			ways.Elapse(20 * time.Minute)
			require.Contains(t, m.Refused(ways.Read("creds/invoices", nil)), "the login that a person has signed is bound to 127.0.0.0/8")
			ways.Stop()
			back := m.Mount(m.Storage)
			defer back.Stop()
			back.Issue()
			require.Equal(t, 1, m.Requests(enginetest.SubmitEndpoint))
		})
	})
}

// The remedy in the error must work at a KSeF that binds refreshes too.
func TestAllowedIPsExternalAuto(t *testing.T) {
	withBoundLogin(t, "127.0.0.0/8", func(t *testing.T, m *enginetest.Mount, signer *enginetest.Signer) {
		m.Stop()
		leaveFrom(m.Env, OtherAddress)
		m.Env.SetTransport(boundRefresh{m.Env.Transport})
		other := m.Mount(m.Storage)
		defer other.Stop()
		other.Elapse(20 * time.Minute)
		text := m.Refused(other.Write("config", map[string]any{"request_timeout": 20}))
		require.Contains(t, text, "allowed_ips: leaves out 192.0.2.9")
		warnings := other.Must(other.Write("config", map[string]any{"allowed_ips": "127.0.0.0/8,192.0.2.9"})).Warnings
		require.Contains(t, warnings[0], "The configuration was stored unproven: the login that a person has signed is bound to 127.0.0.0/8")
		other.Must(other.CompleteLogin(signWhole(t, signer, other.BeginLogin(nil)["auth_token_request"].(string), xadestest.DSS())))
		other.Issue()
	})
}

// boundRefresh is a KSeF that binds refreshes to addresses too, seen from another address.
type boundRefresh struct{ http.RoundTripper }

func (b boundRefresh) RoundTrip(request *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(request.URL.Path, "/auth/token/refresh") {
		return b.RoundTripper.RoundTrip(request)
	}
	return addressRefusal(request), nil
}

func addressRefusal(request *http.Request) *http.Response {
	return &http.Response{
		Status: "403 Forbidden", StatusCode: http.StatusForbidden, Request: request, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/problem+json"}},
		Body:   io.NopCloser(strings.NewReader(`{"title":"Forbidden","status":403,"reasonCode":"ip-not-allowed"}`)),
	}
}
