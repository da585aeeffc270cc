// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

const (
	// agentLifetime is that of the access tokens. The engine refreshes them each fifth of it, so
	// that 40 s are left to the oldest at the end of an outage of two thirds. Vault Agent gets
	// errors from 60 s before an access token's end, and doubles its pauses: 16 s after 15 s.
	agentLifetime = 5 * time.Minute
	agentOutage   = agentLifetime * 2 / 3
	// agentDelay bounds how long after a refresh of the engine a reader has the new access token.
	agentDelay = 10 * time.Second
)

// TestAccessTokensInAnOutage takes KSeF away for two thirds of an access token's life, from just
// before a refresh on. What Vault Agent has rendered, from a secret without a lease and from one
// with a lease, and what a program holds that reads again at the end of each lease, is never dead.
func TestAccessTokensInAnOutage(t *testing.T) {
	t.Parallel()
	secrets := &secrets{}
	ksef, ksefURL := startKSeF(t, secrets, simulator.Options{AccessTokenLifetime: agentLifetime})
	vault := startServer(t, secrets)
	vault.enable(t, "ksef", ksefURL, nil)
	vault.write(t, "ksef/roles/invoices", map[string]any{"permissions": "InvoiceRead", "credential_type": "access_token"})
	vault.write(t, "ksef/roles/leased", map[string]any{"permissions": "InvoiceRead", "credential_type": "access_token", "leased": true})

	unleased, leased := vault.programFor(t, "ksef/creds/invoices"), vault.programFor(t, "ksef/creds/leased")
	anew := &rereader{vault: leased, path: "ksef/creds/leased"}
	reading, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	work.Go(func() { anew.run(reading) })
	readers := map[string]func() string{
		"Vault Agent, without a lease": startAgent(t, vault, unleased, "ksef/creds/invoices"),
		"Vault Agent, with a lease":    startAgent(t, vault, leased, "ksef/creds/leased"),
		"a program, with a lease":      anew.accessToken,
	}
	require.NoError(t, waitFor(t.Context(), startLimit, "the first access tokens", func() error {
		for name, rendered := range readers {
			if _, err := parseJWT(rendered()); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}))

	watch := &jwtWatch{readers: readers, ksefURL: ksefURL}
	watch.queryInvoices(t)
	watch.until(t, vault.nextRefresh(t, "ksef/creds/invoices", "ksef/creds/leased").Add(-2*time.Second), agentLifetime/5+agentDelay)
	require.NoError(t, ksef.AddFault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1}))
	watch.until(t, time.Now().Add(agentOutage), agentLifetime)
	ksef.ClearFaults()
	returned := time.Now()
	watch.until(t, returned.Add(agentLifetime/5), agentLifetime)
	for name, rendered := range readers {
		token, err := parseJWT(rendered())
		require.NoError(t, err)
		require.True(t, token.issued.After(returned.Add(-time.Second)), "%s has an access token of before KSeF's return", name)
	}
	watch.until(t, time.Now().Add(agentLifetime/5), agentLifetime/5+agentDelay)
	watch.queryInvoices(t)
	for _, answers := range ksef.State().Requests {
		require.Zero(t, answers["429"])
	}
}

// jwtWatch looks at the access tokens that readers hold.
type jwtWatch struct {
	readers map[string]func() string
	ksefURL string
}

// until looks each second, until a moment, that no reader holds a dead access token, nor one that
// is older than oldest.
func (w *jwtWatch) until(t *testing.T, end time.Time, oldest time.Duration) {
	t.Helper()
	for ; time.Now().Before(end); <-time.After(time.Second) {
		for name, rendered := range w.readers {
			token, err := parseJWT(rendered())
			require.NoError(t, err, name)
			require.Positive(t, time.Until(token.expires), "%s holds a dead access token", name)
			require.LessOrEqual(t, time.Since(token.issued), oldest, "%s holds an old access token", name)
		}
	}
}

// queryInvoices uses the access tokens.
func (w *jwtWatch) queryInvoices(t *testing.T) {
	t.Helper()
	for name, rendered := range w.readers {
		status, err := queryInvoices(t.Context(), w.ksefURL, rendered())
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, name)
	}
}

// nextRefresh returns when the engine refreshes the first of the access tokens.
func (s *server) nextRefresh(t *testing.T, paths ...string) (first time.Time) {
	t.Helper()
	for _, path := range paths {
		answer, err := s.Logical().ReadWithContext(t.Context(), path)
		require.NoError(t, err)
		last, err := time.Parse(time.RFC3339, answer.Data["last_vault_rotation"].(string))
		require.NoError(t, err)
		period, err := answer.Data["rotation_period"].(json.Number).Int64()
		require.NoError(t, err)
		if next := last.Add(time.Duration(period) * time.Second); first.IsZero() || next.Before(first) {
			first = next
		}
	}
	return first
}

// programFor returns a client with a policy for one path, beside Vault's default policy.
func (s *server) programFor(t *testing.T, path string) *api.Client {
	t.Helper()
	name := strings.ReplaceAll(path, "/", "-")
	require.NoError(t, s.Sys().PutPolicyWithContext(t.Context(), name, fmt.Sprintf("path %q { capabilities = [\"read\"] }", path)))
	made, err := s.Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{Policies: []string{name}})
	require.NoError(t, err)
	program, err := s.Clone()
	require.NoError(t, err)
	program.SetToken(made.Auth.ClientToken)
	return program
}

// startAgent starts a Vault Agent that renders the access token of a path, and returns what reads
// the rendered file. The interval that is set for secrets of which Agent knows no end is longer
// than the test.
func startAgent(t *testing.T, vault *server, program *api.Client, path string) (rendered func() string) {
	t.Helper()
	dir := t.TempDir()
	token, file := filepath.Join(dir, "token"), filepath.Join(dir, "access_token")
	require.NoError(t, os.WriteFile(token, []byte(program.Token()), 0o600))
	config := filepath.Join(dir, "agent.hcl")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
vault { address = %q }
auto_auth {
  method "token_file" {
    config = { token_file_path = %q }
  }
}
template_config { static_secret_render_interval = "1h" }
template {
  destination = %q
  contents    = "{{ with secret \"%s\" }}{{ .Data.access_token }}{{ end }}"
}
`, vault.address, token, file, path), 0o600))
	log, err := os.Create(filepath.Join(vault.dir, "agent-"+filepath.Base(path)+".log"))
	require.NoError(t, err)
	agent := exec.Command(vault.program, "agent", "-config="+config, "-log-level=trace") //nolint:noctx // ended by Cleanup
	agent.Stdout, agent.Stderr = log, log
	agent.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	require.NoError(t, agent.Start())
	t.Cleanup(func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		_ = agent.Wait()
		_ = log.Close()
	})
	return func() string {
		content, _ := os.ReadFile(file) // empty before the first rendering
		return string(content)
	}
}

// rereader is a program that reads a leased secret again at the end of each lease, by vault/api's
// LifetimeWatcher.
type rereader struct {
	vault *api.Client
	path  string

	mu   sync.Mutex
	kept string
}

func (r *rereader) accessToken() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept
}

func (r *rereader) keep(accessToken string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = accessToken
}

// run reads until ctx ends. After an error it keeps what it has, and tries again.
func (r *rereader) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.readOnce(ctx); err != nil {
			_ = pause(ctx, time.Second)
		}
	}
}

// readOnce reads, and waits for the end of the lease.
func (r *rereader) readOnce(ctx context.Context) error {
	secret, err := r.vault.Logical().ReadWithContext(ctx, r.path)
	if err != nil {
		return err
	}
	r.keep(secret.Data["access_token"].(string))
	watcher, err := r.vault.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: secret})
	if err != nil {
		return err
	}
	go watcher.Start()
	defer watcher.Stop()
	select {
	case err := <-watcher.DoneCh():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
