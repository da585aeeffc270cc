// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

// Package e2e runs scripts against a real Vault with the real plugin process.
//
// Each script has a Vault and a KSeF of its own on loopback. VAULT_BIN names the Vault, and bin/ at
// the top of the repository holds the plugin and the simulator's program: make test sees to both.
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

// TestAcceptance is the main job from the outside. It runs against the simulator, or against the
// KSeF that KSEF_URL names: its TEST environment accepts certificates that anybody has made.
func TestAcceptance(t *testing.T) {
	runScripts(t, "acceptance", os.Getenv("KSEF_URL"))
}

// runScripts runs the scripts of a folder, each with a Vault of its own, and with a simulator of
// its own unless there is a KSeF to talk to.
func runScripts(t *testing.T, folder, ksefURL string) {
	programs := findPrograms(t)
	testscript.Run(t, testscript.Params{
		Dir:                 folder,
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
			"testdata":     testdata,
		},
	})
}

// condition knows where nothing may be missing: [ci].
func condition(name string) (bool, error) {
	if name != "ci" {
		return false, fmt.Errorf("the condition %q is not known", name)
	}
	return os.Getenv("CI") != "", nil
}

// programs are the files that a script's PATH and Vault's plugin folder need.
type programs struct {
	vault, folder string
	// plugins is Vault's plugin folder.
	plugins string
}

func findPrograms(t *testing.T) programs {
	t.Helper()
	vault := os.Getenv("VAULT_BIN")
	require.NotEmpty(t, vault, "VAULT_BIN must name the vault to test with: run make test")
	folder, err := filepath.Abs(filepath.Join("..", "bin"))
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(folder, "vault-plugin-secrets-ksef"), "run make build first")
	return programs{vault: vault, folder: folder, plugins: folder}
}
