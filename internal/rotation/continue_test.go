// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/enrollment/enrollmenttest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestCrash has the process crash at each request, write, login and commit of a rotation, before
// and after it takes effect, and the next process continue.
func TestCrash(t *testing.T) {
	for name, after := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			crashes := 0
			for at := 1; crashesAt(t, at, after); at++ {
				crashes++
			}
			require.Greater(t, crashes, 10)
		})
	}
}

// crashesAt returns false where a rotation has fewer actions.
func crashesAt(t *testing.T, at int, after bool) (crashed bool) {
	t.Run(fmt.Sprint(at), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newMount(t)
			before := m.serialInForce()
			m.crashAt, m.crashAfter = at, after
			err := m.begin()
			if err == nil {
				_, err = m.Advance(t.Context())
			}
			if crashed = err != nil; !crashed {
				m.requireRotated(before)
				return
			}
			m.restart()
			if m.recorded().Current == nil && m.recorded().Last == nil {
				require.Equal(t, []string{before}, m.Active(), "a rotation that has left no record has left no certificate")
				require.NoError(t, m.begin())
			}
			m.finish()
			m.requireRotated(before)
		})
	})
	return crashed
}

// TestStoredRecord continues from entries as the version before this package's split has written
// them.
func TestStoredRecord(t *testing.T) {
	const head = `{"version":1,"current":{"step":%q,"began":"2000-01-01T00:00:00Z","automatic":true,` +
		`"subject":"Nip:5265877635","subject_name":"Firma","previous_serial":%q,"previous_digest":%q,"name":"Vault 0a1b2c3d4e5f",`
	const asked = `"private_key":%q,"request":%s,"asked":"2000-01-01T00:00:00Z","remaining":9`
	for step, rest := range map[Step]string{
		StepEnroll: asked,
		StepAwait:  asked + `,"reference_number":"request-2"`,
		StepProve:  asked + `,"reference_number":"request-2","serial_number":%q,"certificate":%q`,
		StepRetire: `"asked":"2000-01-01T00:00:00Z","remaining":9,"reference_number":"request-2","serial_number":%q,"certificate":%q`,
	} {
		t.Run(string(step), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMount(t)
				before := m.serialInForce()
				one := &enrollment.Enrollment{Subject: enrollmenttest.Subject}
				require.NoError(t, one.Prepare(t.Context(), m, enrollment.Request{KeyType: enrollment.KeyP256, Name: "Vault"}))
				one.Name = "Vault 0a1b2c3d4e5f"
				require.NoError(t, one.Ask(t.Context(), m))
				serial, err := one.Await(t.Context(), m)
				require.NoError(t, err)
				require.NoError(t, one.Fetch(t.Context(), m, serial))
				csr, err := json.Marshal(one.CSR)
				require.NoError(t, err)
				values := []any{string(step), before, enrollment.Digest(m.inForce)}
				if step != StepRetire {
					values = append(values, one.PrivateKey, string(csr))
				} else {
					m.inForce = m.Certificates[serial].Issued
				}
				if step == StepProve || step == StepRetire {
					values = append(values, serial, one.Certificate)
				}
				text := fmt.Sprintf(head+rest+"}}", values...)
				require.NoError(t, m.Put(t.Context(), &logical.StorageEntry{Key: StorageKey, Value: []byte(text)}))
				m.restart()

				found := m.recorded().Current
				require.Equal(t, step, found.Step)
				written, err := json.Marshal(m.recorded())
				require.NoError(t, err)
				require.JSONEq(t, text, string(written), "it is written as it was read")
				m.finish()
				m.requireRotated(before)
				require.Equal(t, serial, m.serialInForce())
				require.Equal(t, 1, m.Count(client.EndpointEnroll), "no other certificate is asked for")
				require.True(t, m.recorded().Last.Automatic)
			})
		})
	}
}
