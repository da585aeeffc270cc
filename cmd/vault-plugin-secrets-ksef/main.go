// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Command vault-plugin-secrets-ksef is the secrets engine as Vault runs it: a process that Vault
// starts, one for all mounts.
package main

import (
	"flag"
	"fmt"
	"os"

	ksef "vault-plugin-secrets-ksef"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"
)

// version is set by the build. Vault takes it as the plugin's running version only where it is
// semantic with a leading v.
var version = "v0.1.0-dev"

func main() {
	if err := run(os.Args[1:]); err != nil {
		hclog.New(&hclog.LoggerOptions{}).Error("plugin shutting down", "error", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	meta := &api.PluginAPIClientMeta{}
	flags := meta.FlagSet()
	flags.Init("vault-plugin-secrets-ksef", flag.ExitOnError)
	showVersion := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *showVersion {
		_, err := fmt.Fprintln(os.Stdout, version)
		return err
	}

	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: ksef.NewFactory(version),
		TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
}
