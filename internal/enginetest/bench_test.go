// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/pem"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/limiters"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// NoLimits lifts KSeF's limits, so that a figure shows the engine's own work.
func NoLimits() simulator.Limits {
	none := simulator.Windows{PerSecond: -1, PerMinute: -1, PerHour: -1}
	return simulator.Limits{Context: none, Client: none}
}

// BenchmarkIssue compares a read of creds/<role> with the request to KSeF that it needs:
// client.GenerateToken through a client and a session that are open. Both go over HTTPS on loopback
// and neither waits for Active.
func BenchmarkIssue(b *testing.B) {
	f := newIssuance(b)
	engine := f.Mount(&logical.InmemStorage{})
	defer engine.Stop()
	f.configure(engine)
	ratio := inTurn(b, func() { f.renew(engine) }, f.issuing(engine), f.bare(engine))
	b.ReportMetric(ratio, "time/bare")
}

// BenchmarkIssueBesideManyRecords compares a read of creds/<role> in a mount with many live records
// with one in an empty mount.
func BenchmarkIssueBesideManyRecords(b *testing.B) {
	f := newIssuance(b)
	storage := &logical.InmemStorage{}
	addLiveRecords(b, storage, f.url, manyRecords)
	full, empty := f.Mount(storage), f.Mount(&logical.InmemStorage{})
	defer full.Stop()
	defer empty.Stop()
	f.configure(full)
	f.configure(empty)
	renew := func() { f.renew(full, empty) }
	ratio := inTurn(b, renew, f.issuing(full), f.issuing(empty))
	b.ReportMetric(ratio, "time/empty")
}

// issuance is a KSeF without delays or limits, over HTTPS on loopback.
type issuance struct {
	*Env
	url, authority string
}

func newIssuance(b *testing.B) *issuance {
	env := NewEnv(b, simulator.Options{ActivationDelay: -1, Limits: NoLimits()})
	server := httptest.NewTLSServer(env.KSeF.Handler())
	b.Cleanup(server.Close)
	env.SetTransport(nil)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return &issuance{Env: env, url: server.URL + "/v2", authority: string(authority)}
}

func (f *issuance) configure(m *Mount) {
	m.Must(m.Write("config", map[string]any{
		"url": f.url, "ca_certificate": f.authority, "nip": NIP, "certificate": f.Cert, "private_key": f.Key,
		"activation_timeout": 0,
	}))
	m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead,InvoiceWrite", "ttl": "1h", "max_ttl": "24h"}))
}

// issuing returns a read of creds/<role>.
func (f *issuance) issuing(m *Mount) func() error {
	request := &logical.Request{
		Operation: logical.ReadOperation, Path: "creds/invoices", Storage: m.Storage, DisplayName: "token-app", MountPoint: "ksef/",
	}
	return func() error {
		response, err := m.Backend.HandleRequest(f.T.Context(), request)
		if err != nil {
			return err
		}
		return response.Error()
	}
}

// bare returns the request that issuing needs, made by the client alone under the mount's session.
func (f *issuance) bare(m *Mount) func() error {
	alone, err := client.New(client.Config{URL: f.url, CACertificate: f.authority})
	require.NoError(f.T, err)
	sessions := m.storedSessions()
	require.Len(f.T, sessions, 1)
	access := sessions[0].Access
	request := client.TokenRequest{
		Permissions: []string{"InvoiceRead", "InvoiceWrite"},
		Description: "Vault role invoices [vault:000000000000:0000000000000000000000]",
	}
	return func() error {
		_, err := alone.WithTokenSource(access).GenerateToken(f.T.Context(), request)
		return err
	}
}

// renew restarts the mounts as after an hour without requests, and issues once.
func (f *issuance) renew(mounts ...*Mount) {
	ctx := f.T.Context()
	for _, m := range mounts {
		m.Stop()
		// Without a session it logs in, and learns that KSeF has no limits.
		for _, folder := range []string{limiters.StoragePrefix, session.StoragePrefix} {
			require.NoError(f.T, logical.ClearView(ctx, logical.NewStorageView(m.Storage, folder)))
		}
		m.UseOwnProcess(m.Transport)
		m.Start()
		require.NoError(f.T, f.issuing(m)())
	}
}

// hourOfRequests is how many requests of one kind KSeF lets a context make in an hour: the engine
// never counts more.
const hourOfRequests = 120

// inTurn alternates between the two, so that both meet the same load of the machine, and returns
// the ratio of their median times. It renews the state before each hour of requests.
func inTurn(b *testing.B, renew func(), first, second func() error) float64 {
	times := [2][]time.Duration{}
	work := [2]func() error{first, second}
	b.ResetTimer()
	for i := range b.N {
		if i%hourOfRequests == 0 {
			b.StopTimer()
			renew()
			b.StartTimer()
		}
		for _, side := range [2]int{i % 2, 1 - i%2} {
			start := time.Now()
			err := work[side]()
			times[side] = append(times[side], time.Since(start))
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.StopTimer() // the end of mounts is not measured
	return float64(median(times[0])) / float64(median(times[1]))
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
