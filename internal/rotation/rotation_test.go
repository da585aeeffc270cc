// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/enrollment/enrollmenttest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

var errCrash = errors.New("the process has crashed")

// mount is a mount whose credential is rotated, with KSeF and storage. It implements Config,
// Session and Change.
type mount struct {
	*enrollmenttest.KSeF
	*Rotation
	t        *testing.T
	storage  logical.InmemStorage
	inForce  *x509.Certificate
	verified *x509.Certificate
	steps    []string
	events   []string
	// refused is why no login with a new certificate works; nil where it does.
	refused error
	// crashAt is the number of the write or request at which the process crashes; 0 for never.
	crashAt, actions int
	// crashAfter has that action take effect.
	crashAfter bool
}

// newMount returns a mount with a certificate that KSeF has issued.
func newMount(t *testing.T) *mount {
	t.Helper()
	m := &mount{t: t, KSeF: enrollmenttest.New()}
	m.restart()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	subject := pkix.Name{CommonName: "Firma", ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{2, 5, 4, 97}, Value: "VATPL-" + enrollmenttest.NIP},
	}}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	require.NoError(t, err)
	_, err = m.Enroll(t.Context(), client.EnrollmentRequest{Name: "the first", CSR: csr})
	require.NoError(t, err)
	m.inForce = m.Certificates[m.Active()[0]].Issued
	m.KSeF.Requests = nil
	return m
}

// restart is a new process over the same storage.
func (m *mount) restart() {
	m.Rotation = New(Options{Storage: m, Config: m, OnEvent: func(event Event) { m.events = append(m.events, event.Kind) }})
	m.KSeF.Before = func(string) error { return m.act() }
	m.KSeF.After = func(string) error { return m.acted() }
	m.crashAt, m.actions = 0, 0
}

// act is called before an action takes effect, and fails once the process has crashed.
func (m *mount) act() error {
	m.actions++
	if m.crashAt != 0 && (m.actions > m.crashAt || (m.actions == m.crashAt && !m.crashAfter)) {
		return errCrash
	}
	return nil
}

// acted is called after an action has taken effect.
func (m *mount) acted() error {
	if m.crashAfter && m.actions == m.crashAt {
		return errCrash
	}
	return nil
}

func (m *mount) begin() error {
	return m.Begin(m.t.Context(), Request{Request: enrollment.Request{KeyType: enrollment.KeyP256, Name: "Vault"}})
}

// finish advances the rotation for three hours.
func (m *mount) finish() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 3*time.Hour)
	defer cancel()
	for {
		next, err := m.Advance(ctx)
		if next.IsZero() {
			require.NoError(m.t, err)
			return
		}
		require.NoError(m.t, ctx.Err(), "the rotation has not ended: %v", err)
		time.Sleep(time.Until(next))
	}
}

func (m *mount) recorded() (found stored) {
	m.t.Helper()
	entry, err := m.storage.Get(m.t.Context(), StorageKey)
	require.NoError(m.t, err)
	if entry != nil {
		require.NoError(m.t, entry.DecodeJSON(&found))
	}
	return found
}

// serialInForce is the serial number of the certificate in force.
func (m *mount) serialInForce() string { return enrollment.SerialNumber(m.inForce) }

// requireRotated holds that a new certificate is in force, and no other is active.
func (m *mount) requireRotated(before string) {
	m.t.Helper()
	require.NotEqual(m.t, before, m.serialInForce())
	require.Equal(m.t, []string{m.serialInForce()}, m.Active())
	require.Equal(m.t, "Superseded", m.Certificates[before].Revoked)
	require.Nil(m.t, m.recorded().Current)
	require.Equal(m.t, before, m.recorded().Last.Retired)
}

func (m *mount) List(ctx context.Context, prefix string) ([]string, error) {
	return m.storage.List(ctx, prefix)
}

func (m *mount) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	return m.storage.Get(ctx, key)
}

func (m *mount) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if err := m.act(); err != nil {
		return err
	}
	if err := m.storage.Put(ctx, entry); err != nil {
		return err
	}
	return m.acted()
}

func (m *mount) Delete(ctx context.Context, key string) error { return m.storage.Delete(ctx, key) }

func (m *mount) InForce(context.Context) (InForce, error) {
	return InForce{Certificate: m.inForce, KSeF: m}, nil
}

func (m *mount) Signer(context.Context) (string, error) { return enrollmenttest.Subject, nil }

func (m *mount) Ready(context.Context) error { return nil }

func (m *mount) Subject() string { return enrollmenttest.Subject }

func (m *mount) Supersede(context.Context) error {
	m.steps = append(m.steps, "supersede")
	if err := m.act(); err != nil {
		return err
	}
	return m.acted()
}

// change is a planned change of the mount's credential.
type change struct {
	*mount
	next *x509.Certificate
}

func (m *mount) PlanCredential(_ context.Context, certificate, privateKey string) (Change, error) {
	block, _ := pem.Decode([]byte(certificate))
	require.NotNil(m.t, block)
	require.Contains(m.t, privateKey, "PRIVATE KEY")
	next, err := x509.ParseCertificate(block.Bytes)
	require.NoError(m.t, err)
	return &change{m, next}, nil
}

func (c *change) Verify(context.Context) error {
	c.steps = append(c.steps, "verify")
	if err := c.act(); err != nil {
		return err
	}
	if c.refused != nil {
		return c.refused
	}
	c.verified = c.next
	return c.acted()
}

func (c *change) Commit(context.Context) error {
	c.steps = append(c.steps, "commit")
	require.True(c.t, c.next.Equal(c.verified), "it has logged in before")
	if err := c.act(); err != nil {
		return err
	}
	c.inForce = c.next
	return c.acted()
}

func (c *change) Close() { c.steps = append(c.steps, "close") }

func TestRotation(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, m *mount){
		"old_is_retired_as_superseded": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			require.NoError(t, m.begin())
			m.finish()
			m.requireRotated(before)
			require.Equal(t, []string{"verify", "commit", "close", "supersede"}, m.steps)
			require.Equal(t, []string{EventBegin, EventRotate}, m.events)
		},
		"intent_is_recorded_before_KSeF_is_asked": func(t *testing.T, m *mount) {
			recorded := stored{}
			m.KSeF.Before = func(endpoint string) error {
				if endpoint == client.EndpointEnroll {
					recorded = m.recorded()
				}
				return nil
			}
			require.NoError(t, m.begin())
			require.NotNil(t, recorded.Current)
			require.Equal(t, StepEnroll, recorded.Current.Step)
			require.Equal(t, m.recorded().Current.Name, recorded.Current.Name)
			require.Equal(t, m.recorded().Current.PrivateKey, recorded.Current.PrivateKey)
		},
		"asked_again_only_once_that_is_recorded": func(t *testing.T, m *mount) {
			m.KSeF.Before = lostAt(client.EndpointEnroll)
			require.Error(t, m.begin())
			first := m.recorded().Current.Asked
			m.KSeF.Before = func(endpoint string) error {
				if endpoint == client.EndpointEnroll {
					require.True(t, m.recorded().Current.Asked.After(first))
				}
				return nil
			}
			before := m.serialInForce()
			m.finish()
			m.requireRotated(before)
			require.Equal(t, 2, m.Count(client.EndpointEnroll))
		},
		"lost_reply_is_found_by_name": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			m.KSeF.After = lostAt(client.EndpointEnroll)
			var lost *enrollment.LostReplyError
			require.ErrorAs(t, m.begin(), &lost)
			m.finish()
			m.requireRotated(before)
			require.Equal(t, 1, m.Count(client.EndpointEnroll))
		},
		"forgotten_reference_number_is_found_by_name": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			require.NoError(t, m.begin())
			m.KSeF.Before = func(endpoint string) error {
				if endpoint == client.EndpointEnrollment {
					return enrollmenttest.Refused(endpoint, client.CodeUnknownEnrollment)
				}
				return nil
			}
			m.finish()
			m.requireRotated(before)
			require.Equal(t, 1, m.Count(client.EndpointEnroll))
		},
		"quota_respected": func(t *testing.T, m *mount) {
			m.Left = 0
			var input *client.InputError
			require.ErrorAs(t, m.begin(), &input)
			require.Zero(t, m.Count(client.EndpointEnroll))
			require.Nil(t, m.recorded().Current)
		},
		"refusal_leaves_no_rotation": func(t *testing.T, m *mount) {
			m.KSeF.Before = func(endpoint string) error {
				if endpoint == client.EndpointEnroll {
					return enrollmenttest.Refused(endpoint, 25003)
				}
				return nil
			}
			var refused *enrollment.RefusedError
			require.ErrorAs(t, m.begin(), &refused)
			require.Nil(t, m.recorded().Current)
			require.Equal(t, []string{EventBegin, EventFail}, m.events)
		},
		"old_stays_until_new_has_logged_in": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			require.NoError(t, m.begin())
			m.refused = errors.New("not yet valid")
			_, err := m.Await(t.Context())
			require.NoError(t, err)
			require.Equal(t, before, m.serialInForce())
			require.Len(t, m.Active(), 2)
			require.Equal(t, []string{"verify", "close"}, m.steps)
			state, err := m.State(t.Context())
			require.NoError(t, err)
			require.Equal(t, StepProve, state.Step)
			require.ErrorIs(t, state.Err, m.refused)
			m.refused = nil
			m.finish()
			m.requireRotated(before)
		},
		"old_that_is_in_force_again_is_not_revoked": func(t *testing.T, m *mount) {
			before := m.inForce
			require.NoError(t, m.begin())
			m.KSeF.Before = lostAt(client.EndpointRevokeCertificate)
			_, err := m.Await(t.Context())
			require.NoError(t, err)
			m.inForce = before
			m.finish()
			require.Contains(t, m.Active(), enrollment.SerialNumber(before))
			require.Contains(t, m.recorded().Last.Warning, "is in force again")
		},
		"another_issuers_is_not_revoked": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			delete(m.Certificates, before)
			require.NoError(t, m.begin())
			m.finish()
			require.Zero(t, m.Count(client.EndpointRevokeCertificate))
			require.Empty(t, m.recorded().Last.Retired)
		},
		"automatic_renews_only_KSeFs": func(t *testing.T, m *mount) {
			delete(m.Certificates, m.serialInForce())
			err := m.Begin(t.Context(), Request{Automatic: true})
			require.ErrorIs(t, err, ErrNotKSeFs)
			require.Equal(t, 1, m.recorded().Last.Failures)
			require.Zero(t, m.Count(client.EndpointEnroll))
		},
		"one_at_a_time": func(t *testing.T, m *mount) {
			require.NoError(t, m.begin())
			require.ErrorIs(t, m.begin(), ErrInProgress)
			require.Equal(t, 1, m.Count(client.EndpointEnroll))
		},
		"abandoned_names_what_stays_in_KSeF": func(t *testing.T, m *mount) {
			require.NoError(t, m.begin())
			release, err := m.Pause(t.Context())
			require.NoError(t, err)
			left, err := m.Abandon(t.Context())
			release()
			require.NoError(t, err)
			require.Contains(t, left, "If KSeF still issues the certificate \"Vault ")
			require.Nil(t, m.recorded().Current)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newMount(t)) })
		})
	}
}

func lostAt(endpoint string) func(string) error {
	return func(called string) error {
		if called == endpoint {
			return enrollmenttest.Lost(endpoint)
		}
		return nil
	}
}

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
