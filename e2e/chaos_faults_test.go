// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"syscall"
	"time"

	"vault-plugin-secrets-ksef/simulator"
)

// faultInjector makes KSeF fail, and kills processes.
type faultInjector struct {
	vault  *server
	ksef   *simulator.Simulator
	killer *killer
	// traffic records the kills.
	traffic *traffic
	mount   string
	// orphans counts the plugin processes that ran on without their Vault.
	orphans int
}

// injectFaults adds a fault at intervals until ctx ends: each kind at each endpoint, in random
// order, repeatedly.
func (s *faultInjector) injectFaults(ctx context.Context, dice *rand.Rand) error {
	var faults []simulator.Fault
	for _, endpoint := range []string{"POST /tokens", "GET /tokens", "GET /tokens/{referenceNumber}", "DELETE /tokens/{referenceNumber}"} {
		faults = append(faults,
			simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultDropResponse},
			simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultDropRequest},
			simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultDelay, Delay: upTo(dice, 3*time.Second)},
			simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultGarbage},
			simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultTruncate},
			simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: http.StatusServiceUnavailable},
			simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: http.StatusTooManyRequests, RetryAfter: 1 + dice.IntN(4)},
		)
	}
	for ctx.Err() == nil {
		dice.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		for _, fault := range faults {
			if pause(ctx, upTo(dice, 3*time.Second)) != nil {
				break
			}
			if err := s.ksef.AddFault(fault); err != nil {
				return err
			}
		}
	}
	return nil
}

// killProcesses kills the plugin and Vault so many times, in random order and at random moments.
func (s *faultInjector) killProcesses(ctx context.Context, dice *rand.Rand, plugins, vaults int) error {
	for plugins+vaults > 0 {
		if err := pause(ctx, upTo(dice, 4*time.Second)); err != nil {
			return err
		}
		// Vault restarts the plugin when it is needed.
		_, _ = s.vault.Logical().ReadWithContext(ctx, s.mount+"/status")
		kill, left := s.killPlugin, &plugins
		if dice.IntN(plugins+vaults) < vaults {
			kill, left = s.killVault, &vaults
		}
		if err := s.killAtRandom(ctx, dice, kill); err != nil {
			return err
		}
		if left == &vaults {
			s.orphans += len(processesOf(s.vault.plugin))
			if err := s.vault.restart(ctx); err != nil {
				return err
			}
			s.traffic.record("Vault is back; plugin processes: %v", processesOf(s.vault.plugin))
		}
		*left--
	}
	return nil
}

func (s *faultInjector) killVault() error {
	s.traffic.record("Vault is killed; plugin processes: %v", processesOf(s.vault.plugin))
	return s.vault.kill()
}

// errNoPlugin is returned while Vault has no plugin process: it starts one for the next request.
var errNoPlugin = errors.New("vault has no plugin process")

// killPlugin kills the process that serves all mounts, and waits for its end.
func (s *faultInjector) killPlugin() error {
	children := childrenOf(s.vault.process.Process.Pid, processesOf(s.vault.plugin))
	if len(children) == 0 {
		return errNoPlugin
	}
	s.traffic.record("the plugin is killed: %v", children)
	for _, child := range children {
		if err := syscall.Kill(child.pid, syscall.SIGKILL); err != nil {
			return fmt.Errorf("killing the plugin: %w", err)
		}
	}
	return waitFor(context.Background(), startLimit, "the plugin's end", func() error {
		for _, left := range processesOf(s.vault.plugin) {
			if slices.Contains(children, left) {
				return fmt.Errorf("process %d still runs", left.pid)
			}
		}
		return nil
	})
}

// killAtRandom kills now, or during a request to KSeF.
func (s *faultInjector) killAtRandom(ctx context.Context, dice *rand.Rand, kill func() error) error {
	moments := []moment{rightNow, beforeRequest, beforeResponse, beforeResponse}
	at := moments[dice.IntN(len(moments))]
	if at != rightNow && s.killer.run(ctx, at, kill) {
		return nil
	}
	return waitFor(ctx, startLimit, "a process to kill", kill)
}

func upTo(dice *rand.Rand, longest time.Duration) time.Duration {
	return 1 + time.Duration(dice.Int64N(int64(longest)))
}
