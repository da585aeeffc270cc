// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	ksef "vault-plugin-secrets-ksef"
	"vault-plugin-secrets-ksef/internal/admission"
	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// otherSubjectNIP is a taxpayer that config does not allow.
const otherSubjectNIP = "1111111111"

// units are identifiers of internal units of the test's company.
func units(count int) []string {
	var all []string
	for number := 10000; len(all) < count; number++ {
		if id := fmt.Sprint(enginetest.NIP, "-", number); isContext(id) {
			all = append(all, id)
		}
	}
	return all
}

func isContext(value string) bool {
	return ksef.IsContext(value)
}

// contextRequests are the requests that take a context, except those of config and roles.
func contextRequests(m *enginetest.Mount, field, value string) map[string]func() (*logical.Response, error) {
	in := func(more map[string]any) map[string]any {
		if more == nil {
			more = map[string]any{}
		}
		more[field] = value
		return more
	}
	const number = "tokens/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E"
	return map[string]func() (*logical.Response, error){
		"make a token": func() (*logical.Response, error) {
			return m.Write("tokens", in(map[string]any{"permissions": "InvoiceRead", "description": "Report"}))
		},
		"list KSeF's tokens": func() (*logical.Response, error) { return m.Read("tokens", in(nil)) },
		"read a token":       func() (*logical.Response, error) { return m.Read(number, in(nil)) },
		"revoke a token":     func() (*logical.Response, error) { return m.Request(logical.DeleteOperation, number, in(nil)) },
		"begin a login":      func() (*logical.Response, error) { return m.Write("login/begin", in(nil)) },
		"tidy":               func() (*logical.Response, error) { return m.Write("tidy", in(nil)) },
	}
}

func TestContexts(t *testing.T) {
	t.Run("refused_before_anything_is_sent_or_stored", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Issue()
			sent, stored := m.AllRequests(), m.Keys("")
			for field, value := range map[string]string{"nip": otherSubjectNIP, "internal_id": enginetest.UnitID} {
				for what, request := range contextRequests(m, field, value) {
					text := m.Refused(request())
					require.Contains(t, text, field+": names "+value+", which config does not allow", what)
					require.Contains(t, text, "allowed_contexts", what)
				}
			}
			require.Equal(t, sent, m.AllRequests(), "nothing is sent")
			require.Equal(t, stored, m.Keys(""), "nothing is stored")
		})
	})
	t.Run("allowed", func(t *testing.T) {
		for _, allowed := range []string{enginetest.UnitID, "*", "1111111111," + enginetest.UnitID} {
			enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
				m.Must(m.Write("config", map[string]any{"allowed_contexts": allowed}))
				for what, request := range contextRequests(m, "internal_id", enginetest.UnitID) {
					response, err := request()
					require.NoError(t, err, what)
					if response != nil && response.IsError() {
						require.Contains(t, response.Error().Error(), "21405", what) // no such token
					}
				}
			})
		}
	})
	t.Run("of_config", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(_ *testing.T, m *enginetest.Mount) {
			m.Must(m.Read("tokens", map[string]any{"nip": enginetest.NIP}))
		})
	})
	t.Run("of_a_role", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Read("tokens", nil))
			require.Contains(t, m.Refused(m.Read("tokens", map[string]any{"internal_id": enginetest.UnitID})), "allowed_contexts")
			m.Must(m.Write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": enginetest.UnitID}))
			issued := m.Must(m.Read("creds/unit", nil))
			reference := issued.Data["reference_number"].(string)
			// An open record can be read and revoked, and nothing else.
			m.Must(m.Read("tokens", map[string]any{"internal_id": enginetest.UnitID}))
			m.Must(m.Read("tokens/"+reference, nil))
			requests := contextRequests(m, "internal_id", enginetest.UnitID)
			require.Contains(t, m.Refused(requests["make a token"]()), "allowed_contexts")
			require.Contains(t, m.Refused(requests["begin a login"]()), "allowed_contexts")
			m.Must(m.Delete("tokens/" + reference))
			m.Elapse(2 * time.Minute)
			require.Contains(t, m.Refused(m.Read("tokens", map[string]any{"internal_id": enginetest.UnitID})), "allowed_contexts")
			require.Contains(t, m.Refused(m.Read("tokens/"+reference, nil)), "allowed_contexts")
		})
	})
	t.Run("record_of_a_process_before", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(_ *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": enginetest.UnitID}))
			m.Must(m.Read("creds/unit", nil))
			m.Stop()
			m.Start()
			m.Must(m.Read("tokens", map[string]any{"internal_id": enginetest.UnitID}))
		})
	})
	t.Run("field", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.Equal(t, []string{}, m.Must(m.Read("config", nil)).Data["allowed_contexts"])
			for _, bad := range []any{"5265877636", "5265877635-12345", "x", "*,x", []any{"5265877635", "**"}} {
				require.Contains(t, m.Refused(m.Write("config", map[string]any{"allowed_contexts": bad})), "allowed_contexts: has at place")
			}
			m.Must(m.Write("config", map[string]any{"allowed_contexts": []any{enginetest.UnitID, otherSubjectNIP, enginetest.UnitID}}))
			m.Must(m.Write("config", map[string]any{"activation_timeout": "7s"}))
			require.Equal(t, []string{enginetest.UnitID, otherSubjectNIP}, m.Must(m.Read("config", nil)).Data["allowed_contexts"])
			m.Must(m.Write("config", map[string]any{"allowed_contexts": ""}))
			require.Contains(t, m.Refused(m.Read("tokens", map[string]any{"internal_id": enginetest.UnitID})), "allowed_contexts")
		})
	})
}

// With allowed_contexts=* ten contexts a minute may log in for the first time.
func TestContextsFirstLogins(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("config", map[string]any{"allowed_contexts": "*"}))
		all := units(admission.MaxFirstLogins + 2)
		for _, unit := range all[:admission.MaxFirstLogins] {
			m.Must(m.Read("tokens", map[string]any{"internal_id": unit}))
		}
		sent, stored := m.AllRequests(), m.Keys("")
		for range 100 {
			_, err := m.Read("tokens", map[string]any{"internal_id": all[admission.MaxFirstLogins]})
			var coded logical.HTTPCodedError
			require.ErrorAs(t, err, &coded)
			require.Equal(t, http.StatusTooManyRequests, coded.Code())
			require.ErrorContains(t, err, "next slot at 2000-01-01T00:01:00Z, in 60 s")
		}
		require.Equal(t, sent, m.AllRequests())
		require.Equal(t, stored, m.Keys(""))
		m.Must(m.Read("tokens", map[string]any{"internal_id": all[0]}))
		m.Must(m.Write("config", map[string]any{"allowed_contexts": []any{"*", all[admission.MaxFirstLogins+1]}}))
		m.Must(m.Read("tokens", map[string]any{"internal_id": all[admission.MaxFirstLogins+1]}))
		m.Elapse(admission.FirstLoginsWindow)
		m.Must(m.Read("tokens", map[string]any{"internal_id": all[admission.MaxFirstLogins]}))
	})
}

// A repeated login counts again towards the ten.
func TestContextsFirstLoginsThatFail(t *testing.T) {
	const redeem = "POST /auth/token/redeem"
	for name, fault := range map[string]simulator.Fault{
		"its last reply is lost": {Endpoint: redeem, Kind: simulator.FaultDropResponse, Times: -1},
		"its caller goes":        {Endpoint: redeem, Kind: simulator.FaultDelay, Delay: 5 * time.Second, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
				m.Must(m.Write("config", map[string]any{"allowed_contexts": "*"}))
				m.Fault(fault)
				before := m.Requests("POST /auth/xades-signature")
				background := m.Ctx
				for range 14 {
					ctx, cancel := context.WithTimeout(background, time.Second)
					m.Ctx = ctx
					_, err := m.Read("tokens", map[string]any{"internal_id": enginetest.UnitID})
					require.Error(t, err)
					cancel()
					m.Elapse(3 * time.Second)
				}
				m.Ctx = background
				require.Equal(t, admission.MaxFirstLogins, m.Requests("POST /auth/xades-signature")-before)
			})
		})
	}
}
