// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/stretchr/testify/require"
)

func taxpayer(number int) client.ContextIdentifier {
	return client.ContextIdentifier{Type: client.ContextNIP, Value: fmt.Sprint(number)}
}

// full returns first logins that have used up the window's room.
func full(t *testing.T) *FirstLogins {
	var logins FirstLogins
	for number := range MaxFirstLogins {
		require.Zero(t, logins.Admit(taxpayer(number), time.Time{}))
	}
	return &logins
}

func TestFirstLogins(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"beyond_the_bound_wait": func(t *testing.T) {
			logins := full(t)
			time.Sleep(20 * time.Second)
			for number := range 100 {
				require.Equal(t, 40*time.Second, logins.Admit(taxpayer(100+number), time.Time{}))
			}
			require.Len(t, logins.admitted, MaxFirstLogins)
		},
		"have_room_after_the_window": func(t *testing.T) {
			logins := full(t)
			time.Sleep(FirstLoginsWindow)
			require.Zero(t, logins.Admit(taxpayer(100), time.Time{}))
			require.Len(t, logins.admitted, 1)
		},
		"count_a_taxpayer_once": func(t *testing.T) {
			require.Zero(t, full(t).Admit(taxpayer(0), time.Time{}))
		},
		"count_a_failed_login_again": func(t *testing.T) {
			logins := full(t)
			time.Sleep(time.Second)
			require.Equal(t, 59*time.Second, logins.Admit(taxpayer(0), time.Now()))
		},
		"ignore_a_failure_before_the_login": func(t *testing.T) {
			require.Zero(t, full(t).Admit(taxpayer(0), time.Now().Add(-time.Second)))
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

func TestOpenTargets(t *testing.T) {
	one, other := ledger.Target{API: "https://ksef.test/v2", Context: taxpayer(1)}, ledger.Target{API: "https://ksef.test/v2", Context: taxpayer(2)}
	for name, test := range map[string]func(t *testing.T){
		"are_known_if_added_while_the_ledger_is_read": func(t *testing.T) {
			var targets *OpenTargets
			targets = NewOpenTargets(func(context.Context) (map[ledger.Target]struct{}, error) {
				targets.Add(other)
				return map[ledger.Target]struct{}{one: {}}, nil
			})
			requireHas(t, targets, one, true)
			requireHas(t, targets, other, true)
		},
		"are_read_once_a_minute": func(t *testing.T) {
			readings := 0
			targets := NewOpenTargets(func(context.Context) (map[ledger.Target]struct{}, error) {
				readings++
				return map[ledger.Target]struct{}{one: {}}, nil
			})
			for range 100 {
				requireHas(t, targets, one, true)
				requireHas(t, targets, other, false)
			}
			require.Equal(t, 1, readings)
			time.Sleep(openTargetsLast)
			requireHas(t, targets, one, true)
			require.Equal(t, 2, readings)
		},
		"include_what_was_added_since": func(t *testing.T) {
			targets := NewOpenTargets(func(context.Context) (map[ledger.Target]struct{}, error) {
				return map[ledger.Target]struct{}{}, nil
			})
			targets.Add(one)
			requireHas(t, targets, one, false)
			targets.Add(one)
			requireHas(t, targets, one, true)
			time.Sleep(openTargetsLast)
			requireHas(t, targets, one, false)
		},
		"are_read_again_after_a_failure": func(t *testing.T) {
			failure := errors.New("the storage has failed")
			targets := NewOpenTargets(func(context.Context) (map[ledger.Target]struct{}, error) {
				return map[ledger.Target]struct{}{one: {}}, failure
			})
			_, err := targets.Has(t.Context(), one)
			require.ErrorIs(t, err, failure)
			failure = nil
			requireHas(t, targets, one, true)
		},
		"are_read_by_one_caller_at_a_time": func(t *testing.T) {
			targets := NewOpenTargets(func(ctx context.Context) (map[ledger.Target]struct{}, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			go func() { _, _ = targets.Has(ctx, one) }()
			synctest.Wait()
			impatient, cancelImpatient := context.WithTimeout(t.Context(), time.Second)
			defer cancelImpatient()
			_, err := targets.Has(impatient, one)
			require.ErrorContains(t, err, "waiting for the reading of the ledger")
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

func requireHas(t *testing.T, targets *OpenTargets, target ledger.Target, want bool) {
	t.Helper()
	has, err := targets.Has(t.Context(), target)
	require.NoError(t, err)
	require.Equal(t, want, has)
}
