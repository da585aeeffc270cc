// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"testing"

	"vault-plugin-secrets-ksef/internal/admission"
	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestRoleContexts(t *testing.T) {
	const second = enginetest.SecondNIP
	secondGranted := simulator.Options{Grants: enginetest.SecondGrant()}
	writeRole := func(m *enginetest.Mount, fields map[string]any) {
		fields["permissions"] = "InvoiceRead"
		m.Must(m.Write("roles/office", fields))
	}
	t.Run("each_reads_its_own", func(t *testing.T) {
		enginetest.WithMount(t, secondGranted, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("config", map[string]any{"allowed_contexts": []string{second, enginetest.UnitID}}))
			writeRole(m, map[string]any{"allowed_contexts": []string{second, enginetest.UnitID}})
			for taxpayer, field := range map[string]string{second: "nip", enginetest.UnitID: "internal_id"} {
				issued := m.Must(m.Read("creds/office/"+taxpayer, nil))
				require.Equal(t, taxpayer, issued.Data[field])
				renewed, err := m.Renew(issued.Secret, 0)
				require.NoError(t, err)
				require.NotNil(t, renewed)
				require.NoError(t, m.Revoke(issued.Secret))
			}
			m.RequireEmptyLedger()
		})
	})
	t.Run("refused_without_a_login", func(t *testing.T) {
		enginetest.WithMount(t, secondGranted, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("config", map[string]any{"allowed_contexts": []string{second, enginetest.UnitID}}))
			writeRole(m, map[string]any{"allowed_contexts": enginetest.UnitID})
			sent, stored := m.AllRequests(), m.Keys("")
			for taxpayer, fault := range map[string]string{
				second:           `taxpayer: is 1111111111, which the role "office" does not allow`,
				enginetest.NIP:   `taxpayer: is 5265877635, which the role "office" does not allow`,
				"*":              "taxpayer: is neither a NIP nor the identifier of an internal unit",
				"5265877636":     "taxpayer: is neither",
				"1111111111/etc": "taxpayer: is neither",
			} {
				require.Contains(t, m.Refused(m.Read("creds/office/"+taxpayer, nil)), fault)
			}
			require.Contains(t, m.Refused(m.Read("creds/office", nil)), `role: "office" is for the taxpayers of its allowed_contexts`)
			require.Equal(t, sent, m.AllRequests(), "nothing is sent")
			require.Equal(t, stored, m.Keys(""), "nothing is stored")
		})
	})
	t.Run("own_and_that_of_config_need_no_entry", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			writeRole(m, map[string]any{})
			require.Equal(t, enginetest.NIP, m.Must(m.Read("creds/office/"+enginetest.NIP, nil)).Data["nip"])
			writeRole(m, map[string]any{"internal_id": enginetest.UnitID})
			require.Equal(t, enginetest.UnitID, m.Must(m.Read("creds/office", nil)).Data["internal_id"])
			require.Equal(t, enginetest.UnitID, m.Must(m.Read("creds/office/"+enginetest.UnitID, nil)).Data["internal_id"])
			require.Contains(t, m.Refused(m.Read("creds/office/"+enginetest.NIP, nil)), "does not allow")
		})
	})
	t.Run("within_those_of_config", func(t *testing.T) {
		enginetest.WithMount(t, secondGranted, func(t *testing.T, m *enginetest.Mount) {
			refusal := m.Refused(m.Write("roles/office", map[string]any{"permissions": "InvoiceRead", "allowed_contexts": []string{enginetest.NIP, second}}))
			require.Contains(t, refusal, "allowed_contexts: has at place 2 a context that config does not allow")
			m.Must(m.Write("config", map[string]any{"allowed_contexts": second}))
			writeRole(m, map[string]any{"allowed_contexts": second})
			m.Must(m.Read("creds/office/"+second, nil))
			m.Must(m.Write("config", map[string]any{"allowed_contexts": ""}))
			require.Contains(t, m.Refused(m.Read("creds/office/"+second, nil)), "taxpayer: is 1111111111, which config does not allow")
		})
	})
	t.Run("every_is_the_list_of_config", func(t *testing.T) {
		enginetest.WithMount(t, secondGranted, func(t *testing.T, m *enginetest.Mount) {
			writeRole(m, map[string]any{"allowed_contexts": "*"})
			require.Equal(t, enginetest.NIP, m.Must(m.Read("creds/office", nil)).Data["nip"])
			require.Contains(t, m.Refused(m.Read("creds/office/"+second, nil)), "which config does not allow")
			m.Must(m.Write("config", map[string]any{"allowed_contexts": second}))
			require.Equal(t, second, m.Must(m.Read("creds/office/"+second, nil)).Data["nip"])
		})
	})
	t.Run("first_logins_through_every_are_limited", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("config", map[string]any{"allowed_contexts": "*"}))
			all := units(admission.MaxFirstLogins + 1)
			writeRole(m, map[string]any{"allowed_contexts": "*"})
			for _, unit := range all[:admission.MaxFirstLogins] {
				m.Must(m.Read("creds/office/"+unit, nil))
			}
			_, err := m.Read("creds/office/"+all[admission.MaxFirstLogins], nil)
			require.ErrorContains(t, err, "first logins have been made within a minute")
			writeRole(m, map[string]any{"allowed_contexts": all})
			m.Must(m.Read("creds/office/"+all[admission.MaxFirstLogins], nil))
		})
	})
	t.Run("access_tokens_through_every_wait_for_their_first_login_only", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(_ *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("config", map[string]any{"allowed_contexts": "*"}))
			m.AccessRole("office", map[string]any{"allowed_contexts": "*", "login": "certificate", "full_rights": true})
			all := units(2 * admission.MaxFirstLogins)
			for at, unit := range all {
				if at == admission.MaxFirstLogins {
					m.Elapse(admission.FirstLoginsWindow)
				}
				m.AccessToken("creds/office/" + unit)
			}
			for range 2 {
				m.Elapse(2 * admission.FirstLoginsWindow)
				for _, unit := range all {
					m.AccessToken("creds/office/" + unit)
				}
				m.Stop()
				m.Start()
			}
			for _, unit := range all {
				m.AccessToken("creds/office/" + unit)
			}
		})
	})
	t.Run("written_and_read", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			writeRole(m, map[string]any{"allowed_contexts": "*,5265877635,*"})
			require.Equal(t, []string{"*", enginetest.NIP}, m.Must(m.Read("roles/office", nil)).Data["allowed_contexts"])
			require.Contains(t, m.Refused(m.Write("roles/office", map[string]any{"allowed_contexts": "123"})), "allowed_contexts: has at place 1 what is no context")
			writeRole(m, map[string]any{"allowed_contexts": nil})
			require.Empty(t, m.Must(m.Read("roles/office", nil)).Data["allowed_contexts"])
		})
	})
}
