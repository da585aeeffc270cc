// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestReadme does what the README's quick start says, word for word, on a Vault
// that knows nothing of the plugin yet.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	require.NoError(t, err)
	_, quickStart, found := strings.Cut(string(readme), "## Quick start")
	require.True(t, found)
	quickStart, _, _ = strings.Cut(quickStart, "\n## ")
	commands := []string{"set -euo pipefail"}
	for _, block := range shellBlock.FindAllStringSubmatch(quickStart, -1) {
		commands = append(commands, block[1])
	}
	require.Greater(t, len(commands), 4, "the quick start has blocks of commands")

	checkout := copyTree(t)
	plugins := t.TempDir()
	script := filepath.Join(t.TempDir(), "quick_start.sh")
	require.NoError(t, os.WriteFile(script, []byte(strings.Join(commands, "\n")), 0o600))
	testscript.Run(t, testscript.Params{
		Files: []string{writeScript(t, script, checkout)},
		Setup: func(env *testscript.Env) error {
			secrets := &secrets{}
			env.Setenv("KSEF_URL", startKSeF(t, env, secrets))
			env.Setenv("PLUGIN_DIRECTORY", plugins)
			for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPATH"} {
				env.Setenv(name, goEnv(t, name))
			}
			programs := findPrograms(t)
			programs.plugins = plugins
			return startVault(env, programs, secrets)
		},
	})
}

// writeScript makes the one line of testscript that runs the shell.
func writeScript(t *testing.T, script, checkout string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "readme.txtar")
	text := "cd " + checkout + "\nexec bash " + script + "\nstdout 'login accepted'\nstdout 'login refused: 450'\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// copyTree copies what git knows of the repository, so that the commands can
// build and leave files without touching it.
func copyTree(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	listed, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-co", "--exclude-standard").Output()
	require.NoError(t, err)
	target := t.TempDir()
	for name := range strings.Lines(string(listed)) {
		name = strings.TrimSpace(name)
		content, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		info, err := os.Stat(filepath.Join(root, name))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(target, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(target, name), content, info.Mode()))
	}
	return target
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(value))
}
