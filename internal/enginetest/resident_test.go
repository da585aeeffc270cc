// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/vault/sdk/helper/pluginutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// BenchmarkResident compares the memory of two plugin processes, as Vault runs them, at its peak:
// one has many live records, the other none.
func BenchmarkResident(b *testing.B) {
	for range b.N {
		full, empty := peakOfAPlugin(b, manyRecords), peakOfAPlugin(b, 0)
		b.ReportMetric(float64(full-empty)/(1<<20), "MiB-over-empty")
		b.ReportMetric(float64(empty)/(1<<20), "MiB-empty")
	}
}

// peakOfAPlugin starts the plugin on a storage with so many live records, makes it do each kind of
// work once, and returns its peak resident memory in bytes. The storage is in this process.
func peakOfAPlugin(b *testing.B, records int) int {
	env := NewEnv(b, simulator.Options{ActivationDelay: -1, Limits: NoLimits()})
	server := httptest.NewServer(env.KSeF.Handler())
	defer server.Close()
	storage := &logical.InmemStorage{}
	addLiveRecords(b, storage, server.URL+"/v2", records)

	p := startPlugin(b, storage)
	defer p.Cleanup(context.Background())
	p.must(logical.CreateOperation, "config", map[string]any{
		"url": server.URL + "/v2", "nip": NIP, "certificate": env.Cert, "private_key": env.Key, "activation_timeout": 0,
	})
	p.must(logical.CreateOperation, "roles/invoices", map[string]any{"permissions": "InvoiceRead"})
	require.NoError(b, p.Initialize(b.Context(), &logical.InitializationRequest{Storage: storage}))
	require.Eventually(b, func() bool {
		details := p.must(logical.ReadOperation, "status", nil).Data["verbose"].(map[string]any)
		return details["revocation_queue"].(map[string]any)["reviewed_at"] != nil
	}, time.Minute, 100*time.Millisecond)
	for range 20 {
		number := p.must(logical.ReadOperation, "creds/invoices", nil).Data["reference_number"].(string)
		p.must(logical.DeleteOperation, "tokens/"+number, nil)
	}
	p.must(logical.RollbackOperation, "", nil)
	keys := p.must(logical.ListOperation, "tokens/", nil).Data["keys"]
	if records > 0 {
		require.GreaterOrEqual(b, len(keys.([]any)), records)
	}
	return p.peak()
}

// pluginProcess is the built plugin in a process of its own.
type pluginProcess struct {
	logical.Backend
	b       *testing.B
	storage logical.Storage
	pid     int
}

// startPlugin does what Vault does to start a plugin and to mount it.
func startPlugin(b *testing.B, storage logical.Storage) *pluginProcess {
	program, err := filepath.Abs(filepath.Join("..", "..", "bin", "vault-plugin-secrets-ksef"))
	require.NoError(b, err)
	require.FileExists(b, program, "run make build first")
	command := exec.Command(program) //nolint:noctx // go-plugin ends it
	command.Env = append(os.Environ(), pluginutil.PluginAutoMTLSEnv+"=true")
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Error})
	started := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig, VersionedPlugins: plugin.PluginSet, Cmd: command,
		AutoMTLS: true, AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, Logger: logger,
	})
	b.Cleanup(started.Kill)
	protocol, err := started.Client()
	require.NoError(b, err)
	mounted, err := plugin.Dispense(protocol, multiplexed{protocol.(*goplugin.GRPCClient)})
	require.NoError(b, err)
	require.NoError(b, mounted.Setup(b.Context(), &logical.BackendConfig{
		StorageView: storage, Logger: logger, BackendUUID: "resident",
		System: &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 24 * time.Hour},
	}))
	return &pluginProcess{Backend: mounted, b: b, storage: storage, pid: command.Process.Pid}
}

func (p *pluginProcess) must(operation logical.Operation, path string, data map[string]any) *logical.Response {
	response, err := p.HandleRequest(p.b.Context(), &logical.Request{
		Operation: operation, Path: path, Data: data, Storage: p.storage, MountPoint: "ksef/",
	})
	require.NoError(p.b, err)
	if response != nil {
		require.NoError(p.b, response.Error())
	}
	return response
}

// peak is the peak resident memory of the process (proc(5), VmHWM).
func (p *pluginProcess) peak() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	require.NoError(p.b, err)
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kibibytes, err := strconv.Atoi(strings.Fields(value)[0])
			require.NoError(p.b, err)
			return kibibytes << 10
		}
	}
	require.FailNow(p.b, "the process has no VmHWM")
	return 0
}

// multiplexed names the mount in each call to the process, which may serve several.
type multiplexed struct{ *goplugin.GRPCClient }

const mountInCalls = "1"

// Conn implements pluginutil.PluginClient.
func (m multiplexed) Conn() grpc.ClientConnInterface { return m }

// Reload implements pluginutil.PluginClient.
func (m multiplexed) Reload() error { return nil }

// Invoke implements grpc.ClientConnInterface.
func (m multiplexed) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	ctx = metadata.AppendToOutgoingContext(ctx, pluginutil.MultiplexingCtxKey, mountInCalls)
	return m.GRPCClient.Conn.Invoke(ctx, method, args, reply, options...)
}

// NewStream implements grpc.ClientConnInterface.
func (m multiplexed) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, pluginutil.MultiplexingCtxKey, mountInCalls)
	return m.GRPCClient.Conn.NewStream(ctx, desc, method, options...)
}
