// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// fewRecords and manyRecords are how many live records a small and a large mount have.
const (
	fewRecords  = 1_000
	manyRecords = 100_000 / raceDivisor
)

// addLiveRecords adds live records to a storage, through the ledger. Their leases end in an hour to
// a day. Every other lease has been renewed, at any age.
func addLiveRecords(t TB, storage logical.Storage, api string, count int) {
	ctx := t.Context()
	target := ledger.Target{API: api, Context: client.ContextIdentifier{Type: client.ContextNIP, Value: NIP}}
	ksef := &numberedUpstream{}
	records := ledger.New(ledger.Options{
		Storage:    storage,
		Upstream:   func(context.Context, ledger.Target, ratelimit.Wait) (ledger.Upstream, error) { return ksef, nil },
		NextPermit: func(ledger.Target, string, int) time.Time { return time.Now() }, OnEvent: func(ledger.Event) {}, Logger: hclog.NewNullLogger(),
	})
	defer records.Stop()
	share := func(i int) time.Duration { return Day * time.Duration(i) / time.Duration(count) }
	for i := range count {
		left, age := time.Hour+share(i), time.Duration(0)
		if i%2 == 1 {
			age = share(i * stride % count)
		}
		issued, err := records.Issue(ctx, func() (ledger.IssueRequest, error) {
			return ledger.IssueRequest{
				Target: target, Role: "invoices", Permissions: []string{"InvoiceRead", "InvoiceWrite"},
				Description: "Vault role invoices", TTL: left - age,
			}, nil
		})
		require.NoError(t, err)
		if age > 0 {
			require.NoError(t, records.Renew(ctx, issued.Record.Lease(), func(time.Time) (time.Time, error) { return time.Now().Add(left), nil }))
		}
	}
}

// stride mixes the ages of leases with their ends.
const stride = 7919

// numberedUpstream is a KSeF that only numbers tokens.
type numberedUpstream struct {
	ledger.Upstream
	issued int
}

// Ready implements ledger.Upstream.
func (n *numberedUpstream) Ready(context.Context) error { return nil }

// Subject implements ledger.Upstream.
func (n *numberedUpstream) Subject() string { return "" }

// GenerateToken implements ledger.Upstream.
func (n *numberedUpstream) GenerateToken(context.Context, client.TokenRequest) (*client.NewToken, error) {
	n.issued++
	return &client.NewToken{ReferenceNumber: fmt.Sprintf("20260101-EC-%010X-0000000000-00", n.issued), Token: "none"}, nil
}
