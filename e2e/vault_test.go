// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

const (
	rootToken  = "root"
	startLimit = 60 * time.Second
)

// auditByAPI lets OpenBao accept an audit device by its API, as Vault always does. Vault logs a
// warning about the unknown setting.
const auditByAPI = "unsafe_allow_api_audit_creation = true\n"

// startVault starts a Vault in development mode with the plugin's directory and an audit log, and
// gives the script its address and token. When the script has ended, the logs are searched for
// secrets.
func startVault(env *testscript.Env, programs programs, secrets *secrets) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(env.WorkDir, "vault.log"))
	if err != nil {
		return err
	}
	config := filepath.Join(env.WorkDir, "vault.hcl")
	if err := os.WriteFile(config, fmt.Appendf(nil, "plugin_directory = %q\n%s", programs.plugins, auditByAPI), 0o600); err != nil {
		return err
	}
	server := exec.Command(programs.vault, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id="+rootToken, //nolint:noctx // ends with the script, by Defer
		"-dev-listen-address="+address, "-log-level=trace", "-config="+config)
	server.Stdout, server.Stderr = log, log
	server.Env = []string{"HOME=" + env.WorkDir, "PATH=" + os.Getenv("PATH")}
	if err := server.Start(); err != nil {
		return fmt.Errorf("starting vault: %w", err)
	}
	env.Defer(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
		_ = log.Close()
		secrets.requireAbsent(env.T(), filepath.Join(env.WorkDir, "vault.log"), filepath.Join(env.WorkDir, "audit.log"))
	})
	path := filepath.Join(env.WorkDir, "path")
	if err := linkPrograms(path, programs); err != nil {
		return err
	}
	sum, err := checksum(filepath.Join(programs.dir, "vault-plugin-secrets-ksef"))
	if err != nil {
		return err
	}
	env.Setenv("VAULT_ADDR", "http://"+address)
	env.Setenv("VAULT_TOKEN", rootToken)
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("PLUGIN_SHA256", sum)
	env.Setenv("PATH", path+string(os.PathListSeparator)+env.Getenv("PATH"))
	return awaitVault("http://" + address)
}

func linkPrograms(path string, programs programs) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	if err := os.Symlink(programs.vault, filepath.Join(path, "vault")); err != nil {
		return err
	}
	for _, name := range []string{"sign-request", "import-env"} {
		if err := os.Symlink(filepath.Join(programs.dir, "..", "scripts", name), filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return os.Symlink(filepath.Join(programs.dir, "ksef-simulator"), filepath.Join(path, "ksef-simulator"))
}

func checksum(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]), nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func awaitVault(address string) error {
	for end := time.Now().Add(startLimit); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
		response, err := http.Get(address + "/v1/sys/health") //nolint:noctx // bounded by the loop
		if err != nil {
			continue
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("vault at %s was not ready within %s", address, startLimit)
}

// capture sets a variable to a command's output: capture NAME command args...
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: capture NAME command [args]")
	}
	ts.Check(ts.Exec(args[1], args[2:]...))
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// issue runs a vault command that returns a KSeF token, and sets NAME_TOKEN, NAME_LEASE and
// NAME_REFERENCE: issue NAME args...
func issue(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: issue NAME read|write args")
	}
	command := append([]string{args[1], "-format=json"}, args[2:]...)
	ts.Check(ts.Exec("vault", command...))
	var answer struct {
		LeaseID string `json:"lease_id"`
		Data    struct {
			Token           string `json:"token"`
			ReferenceNumber string `json:"reference_number"`
		} `json:"data"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &answer))
	ts.Setenv(args[0]+"_TOKEN", answer.Data.Token)
	ts.Setenv(args[0]+"_LEASE", answer.LeaseID)
	ts.Setenv(args[0]+"_REFERENCE", answer.Data.ReferenceNumber)
}

// awaitStatus waits until KSeF shows a status of a token: await-status REFERENCE STATUS
func awaitStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await-status REFERENCE STATUS")
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(500 * time.Millisecond) {
		if err := ts.Exec("vault", "read", "-field=status", "ksef/tokens/"+args[0]); err == nil && ts.ReadFile("stdout") == args[1] {
			return
		}
	}
	ts.Fatalf("the token %s did not become %s within a minute", args[0], args[1])
}

// await repeats a command until it succeeds, or fails if negated, for a minute: await command
// args...
func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: await command [args]")
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(200 * time.Millisecond) {
		if err := ts.Exec(args[0], args[1:]...); (err == nil) != neg {
			return
		}
	}
	ts.Fatalf("waited a minute in vain for: %s", strings.Join(args, " "))
}
