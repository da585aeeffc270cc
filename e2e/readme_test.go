// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestReadme runs the README's quick start, word for word, on a Vault without the plugin.
func TestReadme(t *testing.T) {
	t.Parallel()
	blocks := readmeBlocks(t, "Quick start")
	require.Greater(t, len(blocks), 4, "the quick start has blocks of commands")
	runReadme(t, blocks, "stdout 'login accepted'", "stdout 'login refused: 450'")
}

// TestReadmeInProduction runs the README's section on production, after the plugin has been
// registered and mounted as in the quick start. The simulator stands for production.
func TestReadmeInProduction(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("xmlsec1"); err != nil && os.Getenv("CI") == "" {
		t.Skip("xmlsec1 signs here as a person would, and is not installed")
	}
	quickStart := readmeBlocks(t, "Quick start")
	mounted := slices.IndexFunc(quickStart, func(block string) bool { return strings.Contains(block, "vault secrets enable") })
	require.Positive(t, mounted)
	production := readmeBlocks(t, "Production")
	require.Len(t, production, 6)
	require.Contains(t, production[0], "environment=production")
	production[0] = strings.ReplaceAll(production[0], "environment=production", `url="$KSEF_URL"`)
	blocks := slices.Concat(quickStart[:mounted+1], production)
	runReadme(t, blocks, "stdout 'status +active'", "stdout 'status +done'", "stdout 'certificate_issuer +CN=TEST CCK KSeF'", "stdout 'signing +certificate'")
}

// readmeBlocks returns the commands of a section of the README.
func readmeBlocks(t *testing.T, section string) []string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	require.NoError(t, err)
	_, text, found := strings.Cut(string(readme), "## "+section)
	require.True(t, found)
	text, _, _ = strings.Cut(text, "\n## ")
	var blocks []string
	for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, block[1])
	}
	return blocks
}

// runReadme runs blocks of commands, and expects lines of their output.
func runReadme(t *testing.T, blocks []string, expected ...string) {
	t.Helper()
	checkout := copyTree(t)
	plugins := t.TempDir()
	script := filepath.Join(t.TempDir(), "quick_start.sh")
	require.NoError(t, os.WriteFile(script, []byte("set -euo pipefail\n"+strings.Join(blocks, "\n")), 0o600))
	testscript.Run(t, testscript.Params{
		Files: []string{writeScript(t, script, checkout, expected)},
		Setup: func(env *testscript.Env) error {
			secrets := &secrets{}
			env.Setenv("KSEF_URL", startKSeFOfScript(t, env, secrets))
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

// writeScript returns the lines of testscript that run the shell and check its output.
func writeScript(t *testing.T, script, checkout string, expected []string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "readme.txtar")
	text := "cd " + checkout + "\nexec bash " + script + "\n" + strings.Join(expected, "\n") + "\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// copyTree copies the files in git, so that the commands can build and leave files.
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
