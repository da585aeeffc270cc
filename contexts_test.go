// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// otherSubjectNIP is a taxpayer that config does not allow.
const otherSubjectNIP = "1111111111"

// units are contexts of internal units of the test's company, as many as are wanted.
func units(count int) []string {
	var all []string
	for number := 10000; len(all) < count; number++ {
		if id := fmt.Sprint(testNIP, "-", number); isContext(id) {
			all = append(all, id)
		}
	}
	return all
}

func isContext(value string) bool {
	_, err := parseContext(value)
	return err == nil
}

// contextRequests are the requests that take a context, but for those of config and roles.
func (m *mount) contextRequests(field, value string) map[string]func() (*logical.Response, error) {
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
			return m.write("tokens", in(map[string]any{"permissions": "InvoiceRead", "description": "Report"}))
		},
		"list KSeF's tokens": func() (*logical.Response, error) { return m.read("tokens", in(nil)) },
		"read a token":       func() (*logical.Response, error) { return m.read(number, in(nil)) },
		"revoke a token":     func() (*logical.Response, error) { return m.request(logical.DeleteOperation, number, in(nil)) },
		"begin a login":      func() (*logical.Response, error) { return m.write("login/begin", in(nil)) },
		"tidy":               func() (*logical.Response, error) { return m.write("tidy", in(nil)) },
	}
}

func TestContexts(t *testing.T) {
	t.Run("refused_before_anything_is_sent_or_stored", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			m.issue()
			sent, stored := m.allRequests(), m.keys("")
			for field, value := range map[string]string{"nip": otherSubjectNIP, "internal_id": unitContext} {
				for what, request := range m.contextRequests(field, value) {
					text := m.refused(request())
					require.Contains(t, text, field+": names "+value+", which config does not allow", what)
					require.Contains(t, text, "allowed_contexts", what)
				}
			}
			require.Equal(t, sent, m.allRequests(), "nothing is sent")
			require.Equal(t, stored, m.keys(""), "nothing is stored")
		})
	})
	t.Run("allowed", func(t *testing.T) {
		for _, allowed := range []string{unitContext, "*", "1111111111," + unitContext} {
			withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
				m.must(m.write("config", map[string]any{"allowed_contexts": allowed}))
				for what, request := range m.contextRequests("internal_id", unitContext) {
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
		withMount(t, simulator.Options{}, func(_ *testing.T, m *mount) {
			m.must(m.read("tokens", map[string]any{"nip": testNIP}))
		})
	})
	t.Run("of_a_role", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			m.must(m.read("tokens", nil))
			require.Contains(t, m.refused(m.read("tokens", map[string]any{"internal_id": unitContext})), "allowed_contexts")
			m.must(m.write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": unitContext}))
			issued := m.must(m.read("creds/unit", nil))
			reference := issued.Data["reference_number"].(string)
			// Now there is an open record: it can be read and revoked, and nothing more.
			m.must(m.read("tokens", map[string]any{"internal_id": unitContext}))
			m.must(m.read("tokens/"+reference, nil))
			requests := m.contextRequests("internal_id", unitContext)
			require.Contains(t, m.refused(requests["make a token"]()), "allowed_contexts")
			require.Contains(t, m.refused(requests["begin a login"]()), "allowed_contexts")
			m.must(m.delete("tokens/" + reference))
			m.elapse(2 * time.Minute)
			require.Contains(t, m.refused(m.read("tokens", map[string]any{"internal_id": unitContext})), "allowed_contexts")
			require.Contains(t, m.refused(m.read("tokens/"+reference, nil)), "allowed_contexts")
		})
	})
	t.Run("record_of_a_process_before", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(_ *testing.T, m *mount) {
			m.must(m.write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": unitContext}))
			m.must(m.read("creds/unit", nil))
			m.stop()
			m.start()
			m.must(m.read("tokens", map[string]any{"internal_id": unitContext}))
		})
	})
	t.Run("field", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			require.Equal(t, []string{}, m.must(m.read("config", nil)).Data["allowed_contexts"])
			for _, bad := range []any{"5265877636", "5265877635-12345", "x", "*,x", []any{"5265877635", "**"}} {
				require.Contains(t, m.refused(m.write("config", map[string]any{"allowed_contexts": bad})), "allowed_contexts: has at place")
			}
			m.must(m.write("config", map[string]any{"allowed_contexts": []any{unitContext, otherSubjectNIP, unitContext}}))
			m.must(m.write("config", map[string]any{"activation_timeout": "7s"}))
			require.Equal(t, []string{unitContext, otherSubjectNIP}, m.must(m.read("config", nil)).Data["allowed_contexts"])
			m.must(m.write("config", map[string]any{"allowed_contexts": ""}))
			require.Contains(t, m.refused(m.read("tokens", map[string]any{"internal_id": unitContext})), "allowed_contexts")
		})
	})
}

// Under * a minute has room for ten contexts that need a login.
func TestContextsFirstLogins(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.must(m.write("config", map[string]any{"allowed_contexts": "*"}))
		all := units(firstLoginsAtMost + 2)
		for _, unit := range all[:firstLoginsAtMost] {
			m.must(m.read("tokens", map[string]any{"internal_id": unit}))
		}
		sent, stored := m.allRequests(), m.keys("")
		for range 100 {
			_, err := m.read("tokens", map[string]any{"internal_id": all[firstLoginsAtMost]})
			var coded logical.HTTPCodedError
			require.ErrorAs(t, err, &coded)
			require.Equal(t, http.StatusTooManyRequests, coded.Code())
			require.ErrorContains(t, err, "next slot at 2000-01-01T00:01:00Z, in 60 s")
		}
		require.Equal(t, sent, m.allRequests())
		require.Equal(t, stored, m.keys(""))
		require.Len(t, m.backend.firstLogins.admitted, firstLoginsAtMost)
		m.must(m.read("tokens", map[string]any{"internal_id": all[0]}))
		m.must(m.write("config", map[string]any{"allowed_contexts": []any{"*", all[firstLoginsAtMost+1]}}))
		m.must(m.read("tokens", map[string]any{"internal_id": all[firstLoginsAtMost+1]}))
		m.elapse(firstLoginsWithin)
		m.must(m.read("tokens", map[string]any{"internal_id": all[firstLoginsAtMost]}))
	})
}

// A login that fails and is tried again is another one of the minute's ten.
func TestContextsFirstLoginsThatFail(t *testing.T) {
	const redeem = "POST /auth/token/redeem"
	for name, fault := range map[string]simulator.Fault{
		"its last reply is lost": {Endpoint: redeem, Kind: simulator.FaultDropReply, Times: -1},
		"its caller goes":        {Endpoint: redeem, Kind: simulator.FaultDelay, Delay: 5 * time.Second, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
				m.must(m.write("config", map[string]any{"allowed_contexts": "*"}))
				m.fault(fault)
				before := m.requests("POST /auth/xades-signature")
				background := m.ctx
				for range 14 {
					ctx, cancel := context.WithTimeout(background, time.Second)
					m.ctx = ctx
					_, err := m.read("tokens", map[string]any{"internal_id": unitContext})
					require.Error(t, err)
					cancel()
					m.elapse(3 * time.Second)
				}
				m.ctx = background
				require.Equal(t, firstLoginsAtMost, m.requests("POST /auth/xades-signature")-before)
			})
		})
	}
}
