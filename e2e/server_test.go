// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// server is a Vault as in production: with storage on disk, initialized and unsealed.
type server struct {
	*api.Client
	program, dir, address string
	// plugin is the server's own copy of the plugin, to tell its processes from others.
	plugin    string
	unsealKey string
	log       *os.File
	process   *exec.Cmd
}

// startServer starts a Vault with an audit log and the plugin in its catalogue. When the test ends,
// its logs and its storage are searched for secrets.
func startServer(t testing.TB, secrets *secrets) *server {
	t.Helper()
	programs := findPrograms(t)
	s := &server{program: programs.vault, dir: t.TempDir()}
	s.plugin = filepath.Join(s.dir, "plugins", "vault-plugin-secrets-ksef")
	content, err := os.ReadFile(filepath.Join(programs.plugins, filepath.Base(s.plugin)))
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Dir(s.plugin), 0o755))
	require.NoError(t, os.WriteFile(s.plugin, content, 0o755))
	s.configure(t)
	require.NoError(t, s.start())
	t.Cleanup(func() {
		s.end()
		logs, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
		require.NoError(t, err)
		require.Subset(t, logs, []string{filepath.Join(s.dir, "vault.log"), filepath.Join(s.dir, "audit.log")})
		secrets.requireAbsent(t, logs...)
		requireNoneBelow(t, filepath.Join(s.dir, "raft"))
	})
	require.NoError(t, s.initialize(t.Context()))
	require.NoError(t, s.unseal(t.Context()))
	require.NoError(t, s.Sys().EnableAuditWithOptionsWithContext(t.Context(), "file", &api.EnableAuditOptions{
		Type: "file", Options: map[string]string{"file_path": filepath.Join(s.dir, "audit.log")},
	}))
	sum, err := checksum(s.plugin)
	require.NoError(t, err)
	require.NoError(t, s.Sys().RegisterPluginWithContext(t.Context(), &api.RegisterPluginInput{
		Name: filepath.Base(s.plugin), Type: api.PluginTypeSecrets, Command: filepath.Base(s.plugin), SHA256: sum,
	}))
	return s
}

// configure writes Vault's configuration and prepares the client.
func (s *server) configure(t testing.TB) {
	address, err := freeAddress()
	require.NoError(t, err)
	cluster, err := freeAddress()
	require.NoError(t, err)
	s.address = "http://" + address
	storage := filepath.Join(s.dir, "raft")
	require.NoError(t, os.Mkdir(storage, 0o700))
	config := fmt.Sprintf(`
storage "raft" {
  path                   = %q
  node_id                = "one"
  performance_multiplier = 1
}
listener "tcp" {
  address     = %q
  tls_disable = true
}
api_addr         = %q
cluster_addr     = "http://%s"
plugin_directory = %q
disable_mlock    = true
log_level        = "trace"
%s`, storage, address, s.address, cluster, filepath.Dir(s.plugin), auditByAPI)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "vault.hcl"), []byte(config), 0o600))
	s.log, err = os.Create(filepath.Join(s.dir, "vault.log"))
	require.NoError(t, err)

	clientConfig := api.DefaultConfig()
	clientConfig.Address, clientConfig.MaxRetries, clientConfig.Timeout = s.address, 0, time.Minute
	s.Client, err = api.NewClient(clientConfig)
	require.NoError(t, err)
}

func (s *server) start() error {
	s.process = exec.Command(s.program, "server", "-config="+filepath.Join(s.dir, "vault.hcl")) //nolint:noctx // ended by kill and end
	s.process.Stdout, s.process.Stderr = s.log, s.log
	s.process.Env = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH")}
	if err := s.process.Start(); err != nil {
		return fmt.Errorf("starting vault: %w", err)
	}
	return nil
}

func (s *server) initialize(ctx context.Context) error {
	return waitFor(ctx, startLimit, "vault to be initialized", func() error {
		answer, err := s.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
		if err != nil {
			return err
		}
		s.unsealKey = answer.KeysB64[0]
		s.SetToken(answer.RootToken)
		return nil
	})
}

// unseal waits until Vault serves requests.
func (s *server) unseal(ctx context.Context) error {
	if err := waitFor(ctx, startLimit, "vault to be unsealed", func() error {
		_, err := s.Sys().UnsealWithContext(ctx, s.unsealKey)
		return err
	}); err != nil {
		return err
	}
	return awaitVault(s.address)
}

func (s *server) end() {
	_ = s.process.Process.Signal(syscall.SIGTERM)
	_ = s.process.Wait()
	for _, left := range processesOf(s.plugin) {
		_ = syscall.Kill(left.pid, syscall.SIGKILL)
	}
	_ = s.log.Close()
}

// enable mounts the engine and configures it for a KSeF.
func (s *server) enable(t testing.TB, mount, ksefURL string, settings map[string]any) {
	t.Helper()
	require.NoError(t, s.Sys().MountWithContext(t.Context(), mount, &api.MountInput{Type: filepath.Base(s.plugin)}))
	certificate, key := testCertificate(t)
	config := map[string]any{"url": ksefURL, "nip": testNIP, "certificate": certificate, "private_key": key}
	for name, value := range settings {
		config[name] = value
	}
	_, err := s.Logical().WriteWithContext(t.Context(), mount+"/config", config)
	require.NoError(t, err)
}

// write writes to a path.
func (s *server) write(t *testing.T, path string, data map[string]any) {
	t.Helper()
	_, err := s.Logical().WriteWithContext(t.Context(), path, data)
	require.NoError(t, err)
}

// testNIP is a NIP with a valid checksum.
const testNIP = "5265877635"

// testCertificate makes a seal of the taxpayer with the simulator's program.
func testCertificate(t testing.TB) (certificate, key string) {
	t.Helper()
	dir := t.TempDir()
	certificateFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	program := filepath.Join(findPrograms(t).dir, "ksef-simulator")
	output, err := exec.CommandContext(t.Context(), program, "certificate", "--nip", testNIP, "--key", "ec",
		"--out-cert", certificateFile, "--out-key", keyFile).CombinedOutput()
	require.NoError(t, err, "%s", output)
	certificatePEM, err := os.ReadFile(certificateFile)
	require.NoError(t, err)
	keyPEM, err := os.ReadFile(keyFile)
	require.NoError(t, err)
	return string(certificatePEM), string(keyPEM)
}

// statusOf returns the HTTP status of Vault's response, 0 without one.
func statusOf(err error) int {
	var answer *api.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// waitFor repeats an action until it succeeds, within the limit, and otherwise returns its last
// error.
func waitFor(ctx context.Context, limit time.Duration, what string, action func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := action()
		if err == nil {
			return nil
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("waited %s in vain for %s: %w", limit, what, err)
		}
	}
}

func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-time.After(length):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
