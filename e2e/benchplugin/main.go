// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

// Command benchplugin is the plugin with more paths, which do nothing: noop has an empty answer,
// noop/<path> the one that path has given first. What their reads cost, each read through Vault
// costs that has such an answer.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"

	ksef "vault-plugin-secrets-ksef"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchplugin:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(args); err != nil {
		return err
	}
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: withNoop(ksef.NewFactory("v0.1.0-bench")),
		TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
}

// withNoop adds the paths to the mounts of a factory.
func withNoop(factory logical.Factory) logical.Factory {
	return func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		made, err := factory(ctx, conf)
		return &mount{Backend: made}, err
	}
}

type mount struct {
	logical.Backend
	first sync.Map // answers by path
}

// HandleRequest implements logical.Backend.
func (m *mount) HandleRequest(ctx context.Context, request *logical.Request) (*logical.Response, error) {
	if request.Path == "noop" {
		return &logical.Response{}, nil
	}
	path, isNoop := strings.CutPrefix(request.Path, "noop/")
	if !isNoop {
		return m.Backend.HandleRequest(ctx, request)
	}
	if answer, found := m.first.Load(path); found {
		return &logical.Response{Data: maps.Clone(answer.(map[string]any))}, nil
	}
	request.Path = path
	response, err := m.Backend.HandleRequest(ctx, request)
	if err == nil && !response.IsError() {
		m.first.Store(path, response.Data)
	}
	return response, err
}
