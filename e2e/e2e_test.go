// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

// Package e2e runs scripts against a real Vault with the real plugin process.
//
// Each script has a Vault and a KSeF of its own on loopback. VAULT_BIN names the Vault; bin/ at the
// top of the repository has the programs of the plugin and the simulator. make test provides both.
package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "scripts", "")
}

// TestAcceptance issues and revokes a token. It runs against the simulator, or against the KSeF
// that KSEF_URL names: its TEST environment accepts self-made certificates.
func TestAcceptance(t *testing.T) {
	runScripts(t, "acceptance", os.Getenv("KSEF_URL"))
}

// runScripts runs the scripts of a directory, each with a Vault of its own, and with a simulator of
// its own unless KSEF_URL is set.
func runScripts(t *testing.T, dir, ksefURL string) {
	programs := findPrograms(t)
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Condition:           condition,
		Setup: func(env *testscript.Env) error {
			secrets := &secrets{}
			url := ksefURL
			if url == "" {
				url = startKSeFOfScript(t, env, secrets)
			}
			env.Setenv("KSEF_URL", url)
			return startVault(env, programs, secrets)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"capture":      capture,
			"issue":        issue,
			"await":        await,
			"await-status": awaitStatus,
			"await-ksef":   awaitKSeF,
			"control":      control,
			"ask-vault":    askVault,
			"ask-ksef":     askKSeF,
			"testdata":     testdata,
		},
	})
}

// condition is [ci], where nothing may be missing.
func condition(name string) (bool, error) {
	if name != "ci" {
		return false, fmt.Errorf("the condition %q is not known", name)
	}
	return os.Getenv("CI") != "", nil
}

// programs are the files for a script's PATH and Vault's plugin directory.
type programs struct {
	vault, dir string
	// plugins is Vault's plugin directory.
	plugins string
}

func findPrograms(t testing.TB) programs {
	t.Helper()
	vault := os.Getenv("VAULT_BIN")
	require.NotEmpty(t, vault, "VAULT_BIN must name the vault to test with: run make test")
	dir, err := filepath.Abs(filepath.Join("..", "bin"))
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, "vault-plugin-secrets-ksef"), "run make build first")
	return programs{vault: vault, dir: dir, plugins: dir}
}
