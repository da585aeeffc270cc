// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/contract"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

const (
	chaosLeases = 200
	// A burst at the beginning fills the limits; the other requests come over a while.
	chaosBurst  = 60
	chaosSpread = 75 * time.Second
	// chaosPerSecond is KSeF's own limit.
	chaosPerSecond = 10
	pluginKills    = 20
	vaultKills     = 3
	// chaosLimit bounds the whole run; it takes four to five minutes, and more beside other work.
	chaosLimit = 12 * time.Minute
)

// TestChaosLosesNoToken issues 200 leases on a real Vault, and has static roles and access-token
// roles read, rotated, imported and deleted beside them, while KSeF fails and processes are killed.
// In the end the live tokens in KSeF are those of the live leases in Vault, those in force of the
// roles, and those of leases that Vault itself has lost: these are in the ledger. What was read
// without a lease was alive when it was answered. KSEF_CHAOS_SEED repeats a run's choices.
func TestChaosLosesNoToken(t *testing.T) {
	t.Parallel()
	seed := chaosSeed(t)
	ctx, cancel := context.WithTimeout(t.Context(), chaosLimit)
	defer cancel()
	c := startChaos(t)

	faulty, stopFaults := context.WithCancel(ctx)
	defer stopFaults()
	var injecting, busy errgroup.Group
	injecting.Go(func() error { return c.faults.injectFaults(faulty, dice(seed, 0)) })
	busy.Go(func() error {
		defer c.log(t, "all kills are done")
		return c.faults.killProcesses(ctx, dice(seed, 1), pluginKills, vaultKills)
	})
	for number := range chaosLeases {
		busy.Go(func() error {
			dice := dice(seed, uint64(2+number))
			if number >= chaosBurst {
				if err := pause(ctx, upTo(dice, chaosSpread)); err != nil {
					return err
				}
			}
			return c.workload.run(ctx, dice)
		})
	}
	stopReading := c.readUnleased(ctx, seed)
	defer stopReading()
	busy.Go(func() error { return c.unleased.change(ctx, dice(seed, 2+chaosLeases)) })
	require.NoError(t, busy.Wait())
	c.log(t, "all leases are issued, and their ends are in progress")
	stopFaults()
	require.NoError(t, injecting.Wait())
	c.ksef.ClearFaults()

	c.settle(ctx, t)
	inForce := c.requireUnleased(ctx, t)
	stopReading()
	c.unleased.requireAnswers(t)
	c.requireAgreement(ctx, t)
	c.requireNothingLost(ctx, t, inForce)
	c.report(t)
	c.requireLimitsKept(t)
	c.requireEnd(ctx, t, inForce)
}

// chaos is a run.
type chaos struct {
	began    time.Time
	vault    *server
	ksef     *simulator.Simulator
	traffic  *traffic
	workload *workload
	unleased *unleasedWorkload
	faults   *faultInjector
}

const chaosMount = "ksef"

func startChaos(t *testing.T) *chaos {
	t.Helper()
	// Every crash uses up what the limiter had reserved, so with KSeF's own limits the run would
	// take hours.
	ksef, err := simulator.New(simulator.Options{AccessTokenLifetime: chaosAccessLife, Limits: simulator.Limits{
		Context: simulator.Windows{PerSecond: chaosPerSecond, PerMinute: 600, PerHour: 5000},
	}})
	require.NoError(t, err)
	secrets, killer, traffic := &secrets{}, &killer{}, &traffic{}
	handler := secrets.middleware(killer.middleware(traffic.middleware(ksef.Handler())))
	listener := httptest.NewServer(underContract(t, handler, func(err error) {
		// A response with a fault violates the contract. Requests never do.
		var disagreement *contract.Disagreement
		if !errors.As(err, &disagreement) || disagreement.Status == 0 {
			t.Errorf("the request is not as KSeF's OpenAPI says: %v", err)
		}
	}))
	t.Cleanup(listener.Close)

	vault := startServer(t, secrets)
	vault.enable(t, chaosMount, listener.URL+"/v2", map[string]any{"activation_timeout": "10s"})
	_, err = vault.Logical().WriteWithContext(t.Context(), chaosMount+"/roles/invoices", map[string]any{
		"permissions": "InvoiceRead", "ttl": "1h", "max_ttl": "24h",
	})
	require.NoError(t, err)
	return &chaos{
		began: time.Now(), vault: vault, ksef: ksef, traffic: traffic, workload: newWorkload(vault, chaosMount),
		unleased: newUnleasedWorkload(t, vault, ksef, listener.URL+"/v2", chaosMount),
		faults:   &faultInjector{vault: vault, ksef: ksef, killer: killer, traffic: traffic, mount: chaosMount},
	}
}

func chaosSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("KSEF_CHAOS_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "KSEF_CHAOS_SEED")
	}
	t.Logf("KSEF_CHAOS_SEED=%d", seed)
	return seed
}

// dice returns the random source of one goroutine.
func dice(seed, number uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, number)) }

// report logs what the run was like.
func (c *chaos) report(t *testing.T) {
	t.Helper()
	c.workload.mu.Lock()
	defer c.workload.mu.Unlock()
	c.log(t, "%d leases; requests for a token by status (0: no response): %v, of which the engine itself refused %d; plugins that ran on without their Vault: %d",
		len(c.workload.leases), c.workload.responses, c.workload.exhausted, c.faults.orphans)
	for endpoint, counts := range c.ksef.State().Requests {
		c.log(t, "%s: %v", endpoint, counts)
	}
}

// log adds the time since the beginning.
func (c *chaos) log(t *testing.T, format string, arguments ...any) {
	t.Helper()
	t.Logf("after %3.f s: "+format, append([]any{time.Since(c.began).Seconds()}, arguments...)...)
}

func (c *chaos) requireLimitsKept(t *testing.T) {
	t.Helper()
	require.Empty(t, c.traffic.overruns(), "KSeF has refused requests beyond its limits")
	require.Equal(t, chaosPerSecond, c.traffic.fullestSecond(), "the limits were used to the full")
	require.Positive(t, c.ksef.State().Requests["POST /tokens"][strconv.Itoa(http.StatusTooManyRequests)], "KSeF was made to refuse some, too")
}
