// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// fakeKSeF is a ledger.Upstream.
type fakeKSeF struct {
	mu     sync.Mutex
	disk   *fakeDisk
	tokens []client.Token
}

func (k *fakeKSeF) Ready(context.Context) error { return k.disk.hasCrashed() }

func (k *fakeKSeF) Subject() string { return testTaxpayer.Value }

// do has one request act, unless the process has crashed.
func (k *fakeKSeF) do(endpoint string, act func() error) error {
	if err := k.disk.hasCrashed(); err != nil {
		return &client.TransportError{Endpoint: endpoint, Err: err}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return act()
}

func (k *fakeKSeF) GenerateToken(_ context.Context, request client.TokenRequest) (made *client.NewToken, err error) {
	err = k.do(client.EndpointGenerateToken, func() error {
		number := k.add(request.Description)
		made = &client.NewToken{ReferenceNumber: number, Token: client.Secret("secret of " + number)}
		return nil
	})
	return made, err
}

func (k *fakeKSeF) add(description string) (number string) {
	number = fmt.Sprintf("20251010-EC-1DCE3E3000-%010X-45", len(k.tokens)+1)
	k.tokens = append(k.tokens, client.Token{
		ReferenceNumber: number, Description: description, Status: client.StatusActive, Created: time.Now(), Permissions: []string{"InvoiceRead"},
		Context: client.Identifier{Type: string(testTaxpayer.Type), Value: testTaxpayer.Value},
	})
	return number
}

func (k *fakeKSeF) QueryTokens(_ context.Context, query client.TokenQuery) (*client.TokenPage, error) {
	page := &client.TokenPage{}
	return page, k.do(client.EndpointQueryTokens, func() error {
		for _, token := range slices.Backward(k.tokens) {
			if strings.Contains(token.Description, query.Description) {
				page.Tokens = append(page.Tokens, token)
			}
		}
		return nil
	})
}

// with calls do with a token, which KSeF must know.
func (k *fakeKSeF) with(endpoint, number string, do func(*client.Token) error) error {
	return k.do(endpoint, func() error {
		for i := range k.tokens {
			if k.tokens[i].ReferenceNumber == number {
				return do(&k.tokens[i])
			}
		}
		return &client.APIError{Endpoint: endpoint, Status: http.StatusBadRequest, Problems: []client.Problem{{Code: client.CodeInvalidValue}}}
	})
}

func (k *fakeKSeF) Token(_ context.Context, number string) (token *client.Token, err error) {
	err = k.with(client.EndpointToken, number, func(found *client.Token) error {
		token = new(*found)
		return nil
	})
	return token, err
}

func (k *fakeKSeF) RevokeToken(_ context.Context, number string) error {
	return k.with(client.EndpointRevokeToken, number, func(token *client.Token) error {
		if token.Status.Dead() {
			return &client.APIError{Endpoint: client.EndpointRevokeToken, Status: http.StatusBadRequest}
		}
		token.Status = client.StatusRevoked
		return nil
	})
}

func (k *fakeKSeF) alive() (numbers []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, token := range k.tokens {
		if !token.Status.Dead() {
			numbers = append(numbers, token.ReferenceNumber)
		}
	}
	return numbers
}

// ledgerEnv is holders over the ledger itself: both write to the disk that can crash.
type ledgerEnv struct {
	*env
	ksef   *fakeKSeF
	ledger *ledger.Ledger
}

func newLedgerEnv(t *testing.T) *ledgerEnv {
	e := &ledgerEnv{env: newEnv(t), ksef: &fakeKSeF{}}
	e.env.requestOf = func(Key) (ledger.IssueRequest, error) {
		return ledger.IssueRequest{Target: testTarget, Permissions: []string{"InvoiceRead"}, Description: "static", ActivationTimeout: time.Minute}, nil
	}
	e.open()
	return e
}

// open has a process take over what is stored.
func (e *ledgerEnv) open() {
	e.stop()
	e.disk = &fakeDisk{Storage: e.disk.Storage}
	e.ksef.mu.Lock()
	e.ksef.disk = e.disk
	e.ksef.mu.Unlock()
	e.ledger = ledger.New(ledger.Options{
		Storage:      e.disk,
		Upstream:     func(context.Context, ledger.Target, ratelimit.Wait) (ledger.Upstream, error) { return e.ksef, nil },
		NextPermit:   func(ledger.Target, string, int) time.Time { return time.Now() },
		Probe:        func(context.Context, string) error { return nil },
		OnEvent:      func(ledger.Event) {},
		OnUnreadable: func(*logical.StorageEntry, error) {},
		Logger:       hclog.NewNullLogger(),
	})
	e.ledger.Start()
	e.env.tokens = e.ledger
	e.start()
}

func (e *ledgerEnv) stop() {
	e.loop.Stop()
	if e.ledger != nil {
		e.ledger.Stop()
	}
}

func (e *ledgerEnv) imported() ledger.ImportRequest {
	e.ksef.mu.Lock()
	defer e.ksef.mu.Unlock()
	number := e.ksef.add("by hand")
	return ledger.ImportRequest{
		Target: testTarget, ReferenceNumber: number, Permissions: []string{"InvoiceRead"}, Description: "by hand", Created: time.Now(),
		Token: client.Secret("secret of " + number),
	}
}

// TestLedger stops flows at each write of the holders and of the ledger. Afterwards exactly the
// tokens live that the states name.
func TestLedger(t *testing.T) {
	apply := func(e *ledgerEnv) { e.mustApply(static) }
	keptAlive := func(t *testing.T, e *ledgerEnv) { require.Len(t, e.ksef.alive(), 1) }
	for name, flow := range map[string]struct {
		prepare func(e *ledgerEnv)
		do      func(ctx context.Context, e *ledgerEnv) error
		settled func(t *testing.T, e *ledgerEnv)
	}{
		"first": {nil, func(ctx context.Context, e *ledgerEnv) error {
			_, err := e.Token(ctx, access)
			return err
		}, func(t *testing.T, e *ledgerEnv) {
			number := e.number(access)
			e.elapse(time.Minute)
			require.Equal(t, []string{number}, e.ksef.alive())
		}},
		"rotate": {apply, func(ctx context.Context, e *ledgerEnv) error {
			_, err := e.Rotate(ctx, static, RotateOptions{RevokePrevious: true})
			return err
		}, func(t *testing.T, e *ledgerEnv) { require.Equal(t, []string{e.number(static)}, e.ksef.alive()) }},
		"import": {nil, func(ctx context.Context, e *ledgerEnv) error {
			_, err := e.Import(ctx, static, e.imported())
			return err
		}, keptAlive},
		"delete": {apply, func(ctx context.Context, e *ledgerEnv) error {
			_, err := e.Delete(ctx, static, false)
			return err
		}, func(t *testing.T, e *ledgerEnv) { require.Len(t, e.ksef.alive(), len(e.named())) }},
		"keep": {apply, func(ctx context.Context, e *ledgerEnv) error {
			_, err := e.Delete(ctx, static, true)
			return err
		}, keptAlive},
	} {
		for _, written := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/written=%t", name, written), func(t *testing.T) {
				stopped := true
				for at := 1; stopped; at++ {
					require.Less(t, at, 30, "it ends")
					synctest.Test(t, func(t *testing.T) {
						e := newLedgerEnv(t)
						defer func() { e.stop() }()
						e.elapse(time.Minute)
						if flow.prepare != nil {
							flow.prepare(e)
						}
						e.elapse(time.Minute)
						stopped = e.crashAt(at, written, func() error { return flow.do(t.Context(), e) })
						e.open()
						e.elapse(4 * time.Hour)
						flow.settled(t, e)
					})
				}
			})
		}
	}
}

// crashAt returns false where do has fewer writes.
func (e *ledgerEnv) crashAt(at int, written bool, do func() error) (crashed bool) {
	e.disk.mu.Lock()
	e.disk.writes, e.disk.crashAt, e.disk.written = 0, at, written
	e.disk.mu.Unlock()
	err := do()
	e.elapse(time.Second)
	if e.disk.hasCrashed() != nil {
		return true
	}
	require.NoError(e.t, err)
	return false
}
