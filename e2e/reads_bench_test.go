// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

const (
	connections = 8
	// readsInTurn is how many reads a path has in one round, and rounds how many there are.
	readsInTurn = 200
	rounds      = 80
)

// BenchmarkReads compares reads of an access token and of a static token with those of a path of
// the same plugin that does nothing, and of a KV store, through one Vault with an audit log.
func BenchmarkReads(b *testing.B) {
	secrets := &secrets{}
	none := simulator.Windows{PerSecond: -1, PerMinute: -1, PerHour: -1}
	_, url := startKSeF(b, secrets, simulator.Options{Limits: simulator.Limits{Context: none, Client: none}})
	vault := startServer(b, secrets)
	vault.registerBenchPlugin(b)
	vault.enable(b, "ksef", url, nil)
	require.NoError(b, vault.Sys().MountWithContext(b.Context(), "kv", &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}))
	for path, data := range map[string]map[string]any{
		"ksef/roles/reports":    {"permissions": "InvoiceRead", "credential_type": "access_token"},
		"ksef/static-roles/erp": {"permissions": "InvoiceRead"},
		"kv/data/erp":           {"data": map[string]any{"token": "20260101-EC-0000000000-0000000000-00|nip-5265877635|0000"}},
	} {
		require.NoError(b, waitFor(b.Context(), startLimit, path, func() error {
			_, err := vault.Logical().WriteWithContext(b.Context(), path, data)
			return err
		}))
	}
	const access, static, kv = "ksef/creds/reports", "ksef/static-creds/erp", "kv/data/erp"
	const noAccess, noStatic, empty = "ksef/noop/creds/reports", "ksef/noop/static-creds/erp", "ksef/noop"
	paths := []string{access, noAccess, static, noStatic, empty, kv}
	took := make(map[string][]time.Duration)
	for range b.N {
		for round := range rounds + 1 {
			for n := range paths {
				path := paths[(n+round)%len(paths)]
				if length := vault.timeReads(b, path); round > 0 { // the first has warmed all up
					took[path] = append(took[path], length)
				}
			}
		}
	}
	b.StopTimer()
	for name, of := range map[string][2]string{
		"access/noop": {access, noAccess}, "access/empty": {access, empty}, "access/kv": {access, kv},
		"static/noop": {static, noStatic}, "static/empty": {static, empty}, "static/kv": {static, kv},
	} {
		b.ReportMetric(speed(took[of[0]], took[of[1]]), name)
	}
}

// speed is how many times as fast the first reads were: the median over the rounds, within which
// both meet the same load of the machine.
func speed(took, others []time.Duration) float64 {
	var ratios []float64
	for round := range took {
		ratios = append(ratios, float64(others[round])/float64(took[round]))
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// registerBenchPlugin replaces the plugin in Vault's catalogue by the one with the path noop.
func (s *server) registerBenchPlugin(t testing.TB) {
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "e2e", "-o", s.plugin, "./benchplugin")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	sum, err := checksum(s.plugin)
	require.NoError(t, err)
	require.NoError(t, s.Sys().RegisterPluginWithContext(t.Context(), &api.RegisterPluginInput{
		Name: filepath.Base(s.plugin), Type: api.PluginTypeSecrets, Command: filepath.Base(s.plugin), SHA256: sum,
	}))
}

// timeReads reads a path over all connections, and returns how long that takes.
func (s *server) timeReads(t testing.TB, path string) time.Duration {
	began := time.Now()
	failures := make(chan error, connections)
	var all sync.WaitGroup
	for range connections {
		all.Go(func() { failures <- s.readOften(path, readsInTurn/connections) })
	}
	all.Wait()
	took := time.Since(began)
	for range connections {
		require.NoError(t, <-failures)
	}
	return took
}

func (s *server) readOften(path string, count int) error {
	for range count {
		request, err := http.NewRequest(http.MethodGet, s.address+"/v1/"+path, nil) //nolint:noctx // Vault answers
		if err != nil {
			return err
		}
		request.Header.Set("X-Vault-Token", s.Token())
		response, err := keptAlive.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode > 299 {
			return fmt.Errorf("%s: %s %w", path, response.Status, err)
		}
	}
	return nil
}

var keptAlive = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
