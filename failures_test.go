// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestFailures(t *testing.T) {
	t.Run("resolvedBy", testFailureResolvedBy)
	t.Run("last", testFailuresLast)
	t.Run("status", testFailureInStatus)
}

func testFailureResolvedBy(t *testing.T) {
	here, elsewhere := client.ContextIdentifier{Type: client.ContextNIP, Value: NIP}, client.ContextIdentifier{Type: client.ContextNIP, Value: "1111111111"}
	login := activity{kind: kindLogin, taxpayer: here}
	issue, otherRole := activity{kindIssue, here, "a"}, activity{kindIssue, here, "b"}
	issueElsewhere := activity{kindIssue, elsewhere, "a"}
	revoke, otherToken := activity{kindRevoke, here, "1"}, activity{kindRevoke, here, "2"}
	rotate := activity{kind: kindRotation}

	refused := &client.APIError{Status: http.StatusBadRequest}
	limited := &client.APIError{Status: http.StatusTooManyRequests}
	fault := &client.APIError{Status: http.StatusInternalServerError}
	lost := &ledger.LostReplyError{Err: &client.TransportError{Sent: true, Err: errors.New("reset")}}
	storage := errors.New("no space left")
	for name, test := range map[string]struct {
		failed   activity
		err      error
		resolves []activity
		not      []activity
	}{
		"login":              {login, &client.LoginError{}, []activity{login, issue, revoke}, []activity{issueElsewhere, rotate}},
		"role":               {issue, refused, []activity{issue}, []activity{login, otherRole, revoke, issueElsewhere}},
		"limit":              {issue, limited, []activity{issue, otherRole}, []activity{login, revoke, issueElsewhere}},
		"fault of KSeF":      {issue, fault, []activity{issue, otherRole, revoke, login}, []activity{issueElsewhere, rotate}},
		"lost reply":         {issue, lost, []activity{issue, otherRole, revoke, login}, []activity{issueElsewhere, rotate}},
		"storage":            {issue, storage, []activity{issue, otherRole}, []activity{login, revoke, issueElsewhere}},
		"token":              {revoke, refused, []activity{revoke}, []activity{otherToken, issue, login}},
		"limit of the token": {revoke, limited, []activity{revoke, otherToken}, []activity{issue, login}},
		"rotation":           {rotate, fault, []activity{rotate}, []activity{issue, login, revoke}},
	} {
		failed := failure{activity: test.failed, err: fmt.Errorf("wrapped: %w", test.err)}
		for _, success := range test.resolves {
			require.True(t, failed.resolvedBy(success), "%s by %v", name, success)
		}
		for _, success := range test.not {
			require.False(t, failed.resolvedBy(success), "%s by %v", name, success)
		}
	}
}

func testFailuresLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all failures
		require.Nil(t, all.last())
		first, second := activity{kind: kindRotation, object: "1"}, activity{kind: kindRotation, object: "2"}
		all.failed(first, errors.New("first"))
		all.failed(second, errors.New("second"))
		<-time.After(time.Minute)
		all.succeeded(second)
		require.ErrorContains(t, all.last().err, "first", "it is not over")
		all.succeeded(first)
		require.ErrorContains(t, all.last().err, "second")
		require.Equal(t, time.Now(), all.last().resolvedAt)
		all.failed(first, errors.New("again"))
		require.Len(t, all, 2)
		require.Zero(t, all.last().resolvedAt)
		for i := range 2 * maxFailures {
			all.failed(activity{kind: kindIssue, object: fmt.Sprint(i)}, errors.New("many"))
		}
		require.Len(t, all, maxFailures)
	})
}

func testFailureInStatus(t *testing.T) {
	resolved := func(m *Mount) any { return m.Status()["last_error_resolved_at"] }
	t.Run("issue", func(t *testing.T) {
		WithMount(t, simulator.Options{OwnerPermissions: []string{"InvoiceRead"}}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("roles/reader", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceWrite", "ttl": "1h"}))
			m.Refused(m.Read("creds/writer", nil))
			failedAt := inUTC(time.Now())
			m.Must(m.Read("creds/reader", nil))
			require.Nil(t, resolved(m), "another role says nothing of this one")
			m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceRead"}))
			m.Elapse(time.Minute)
			m.Must(m.Read("creds/writer", nil))
			require.Equal(t, inUTC(time.Now()), resolved(m))
			require.Equal(t, failedAt, m.Status()["last_error_at"])
			require.Contains(t, m.Status()["last_error"], "26001")
			require.Contains(t, m.StatusSummary(), "All is well.")
		})
		WithMount(t, simulator.Options{OwnerPermissions: []string{"InvoiceRead"}}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceWrite", "ttl": "1h"}))
			m.Refused(m.Read("creds/writer", nil))
			require.Nil(t, resolved(m))
			m.Must(m.Delete("roles/writer"))
			require.Equal(t, inUTC(time.Now()), resolved(m), "nobody can try it again")
		})
	})
	t.Run("revoke", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			issued := m.Issue()
			m.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultStatus, Status: http.StatusForbidden, Times: 1})
			require.Error(t, m.Revoke(m.Lease(issued)))
			require.Nil(t, resolved(m))
			m.Issue()
			require.Nil(t, resolved(m))
			m.Elapse(2 * time.Minute)
			require.NotNil(t, resolved(m))
		})
	})
	t.Run("login", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "nip": "1111111111"}))
			m.Refused(m.Read("creds/other", nil))
			m.Issue()
			require.Nil(t, resolved(m), "it concerns another taxpayer")
		})
		WithMount(t, simulator.Options{RequireGrants: true}, func(t *testing.T, m *Mount) {
			certificate, key := m.NewCertificate(simulator.CertificateOptions{PESEL: PESEL})
			m.Refused(m.Write("config", map[string]any{"certificate": certificate, "private_key": key}))
			require.Nil(t, m.Status()["last_error"], "a configuration that is not stored is no trouble of the mount")
			m.Must(m.Write("config", map[string]any{"certificate": certificate, "private_key": key, "verify": false}))
			m.Refused(m.Read("tokens", nil))
			require.Contains(t, m.Status()["last_error"], "415")
			require.Nil(t, resolved(m))
			certificate, key = m.NewCertificate(simulator.CertificateOptions{NIP: NIP})
			m.Must(m.Write("config", map[string]any{"certificate": certificate, "private_key": key}))
			require.Equal(t, inUTC(time.Now()), resolved(m), "the login that is configured has been proven")
		})
	})
	t.Run("login of a taxpayer whom config no longer names", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("config", map[string]any{"nip": "1111111111", "verify": false}))
			m.Refused(m.Read("tokens", nil))
			require.Nil(t, resolved(m))
			m.Must(m.Write("config", map[string]any{"nip": NIP}))
			require.NotNil(t, resolved(m))
		})
	})
	t.Run("rotation that was given up", func(t *testing.T) {
		WithMount(t, simulator.Options{EnrollmentDelay: 10 * time.Minute}, func(t *testing.T, m *Mount) {
			require.Equal(t, "pending", m.Rotate(nil)["status"])
			m.Must(m.Write("config", map[string]any{"force": "rotation"}))
			require.Nil(t, m.Status()["last_error"])
			require.Contains(t, m.StatusSummary(), "All is well.")
		})
	})
	t.Run("rotation", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			m.Fault(simulator.Fault{Endpoint: "POST /certificates/enrollments", Kind: simulator.FaultFailEnrollment, Status: 550, Times: 1})
			m.Refused(m.Write("config/rotate-root", nil))
			require.Contains(t, m.Status()["last_error"], "550")
			m.Issue()
			require.Nil(t, resolved(m))
			m.Must(m.Write("config/rotate-root", nil))
			require.NotNil(t, resolved(m))
		})
	})
}
