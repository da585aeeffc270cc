// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// documentedWindows are the limits of an operation by the OpenAPI (x-rate-limits).
type documentedWindows struct{ PerSecond, PerMinute int }

// newerWindows came after OpenAPI 2.7.0: closing has had its own groups since 2.8.
func newerWindows() map[string]documentedWindows {
	return map[string]documentedWindows{
		"POST /sessions/online/{referenceNumber}/close": {20, 60},
		"POST /sessions/batch/{referenceNumber}/close":  {20, 40},
	}
}

// Each endpoint accepts as many requests in a second and in a minute as the OpenAPI says.
func TestContractRateLimits(t *testing.T) {
	contract, err := loadContract()
	require.NoError(t, err)
	if contract == nil {
		return // the checks are off
	}
	for template, item := range contract.Paths.Map() {
		for method, operation := range item.Operations() {
			name := method + " " + template
			if slices.Contains(leftOut(), name) {
				continue
			}
			data, err := json.Marshal(operation.Extensions["x-rate-limits"])
			require.NoError(t, err)
			want, newer := newerWindows()[name]
			if !newer {
				require.NoError(t, json.Unmarshal(data, &want), name)
			}
			require.NotZero(t, want.PerSecond, name)
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { checkWindows(t, method, template, want) })
			})
		}
	}
}

func checkWindows(t *testing.T, method, path string, want documentedWindows) {
	t.Helper()
	a := newAPI(t, simulator.Options{})
	s := a.login(seal(t), nipXML)
	a.sim.Advance(2 * time.Minute) // the login has used some
	send := func(status int) response {
		got := a.do(method, path, s.access, nil)
		require.Equal(t, status == http.StatusTooManyRequests, got.status == http.StatusTooManyRequests, "%v", got.body)
		return got
	}
	refused := func(limit int, window string) {
		details := send(http.StatusTooManyRequests).body["status"].(object)["details"].([]any)
		require.Contains(t, details[0], fmt.Sprintf("Przekroczono limit %d żądań na %s.", limit, window))
	}
	for range want.PerSecond {
		send(http.StatusOK)
	}
	refused(want.PerSecond, "sekundę")
	a.sim.Advance(time.Second)
	if want.PerMinute == 0 {
		return
	}
	for sent := want.PerSecond; sent < want.PerMinute; sent++ {
		send(http.StatusOK)
		a.sim.Advance(time.Second / time.Duration(want.PerSecond))
	}
	refused(want.PerMinute, "minutę")
}
