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
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/enrollment/enrollmenttest"

	"github.com/hashicorp/go-hclog"
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
	m.Rotation = New(Options{
		Storage: m, Config: m, Logger: hclog.NewNullLogger(),
		OnEvent:      func(event Event) { m.events = append(m.events, event.Kind) },
		OnUnreadable: func(*logical.StorageEntry, error) {},
	})
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
		<-time.After(time.Until(next))
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
