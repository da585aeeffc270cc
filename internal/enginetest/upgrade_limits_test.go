// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
)

// upgradeLimits has KSeF's hour used up at 00:12, of which the first request falls out at 01:00.
// The limits are KSeF's of the time before and lower than usual.
func upgradeLimits(t *testing.T, m *upgraded) {
	for range 4 {
		_, err := m.Read("creds/invoices", nil)
		require.ErrorContains(t, err, "limit")
		m.Elapse(11 * time.Minute)
	}
	require.Zero(t, m.former.sent.count(IssueEndpoint))
	m.Elapse(10 * time.Minute)
	m.Must(m.Read("creds/invoices", nil))
}

// upgradeLimitsCrash has 8 of 12 requests in an hour that count: one that was sent, and 7 that may
// have been.
func upgradeLimitsCrash(t *testing.T, m *upgraded) {
	for range 50 {
		_, _ = m.Read("creds/invoices", nil)
		m.Elapse(time.Minute)
	}
	require.Equal(t, 4, m.former.sent.count(IssueEndpoint))
}

// upgradeLimitsBlock has a block until 00:22:03.65.
func upgradeLimitsBlock(t *testing.T, m *upgraded) {
	m.requireRefused("creds/invoices", IssueEndpoint, "2000-01-01T00:21:00Z")
	m.requireNoLogin()
	require.Equal(t, 1, m.former.sent.count(IssueEndpoint))
}

// upgradeLimitsBlockLogins has a block of the address until 00:32:04.25.
func upgradeLimitsBlockLogins(_ *testing.T, m *upgraded) {
	m.requireRefused("creds/unit", client.EndpointChallenge, "2000-01-01T00:31:00Z")
}

// requireRefused reads a role until a time, without a request to an endpoint, and with success
// after it.
func (m *upgraded) requireRefused(path, endpoint, until string) {
	m.T.Helper()
	end, err := time.Parse(time.RFC3339, until)
	require.NoError(m.T, err)
	for time.Now().Before(end) {
		_, err := m.Read(path, nil)
		require.ErrorContains(m.T, err, "limit")
		require.Zero(m.T, m.former.sent.count(endpoint))
		m.Elapse(min(4*time.Minute, time.Until(end)))
	}
	m.Elapse(2 * time.Minute)
	m.Must(m.Read(path, nil))
}
