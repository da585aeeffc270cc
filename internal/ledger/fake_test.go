// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
)

// fakeKSeF keeps tokens in memory. Its requests have the names POST, LIST, GET and DELETE.
type fakeKSeF struct {
	mu      sync.Mutex
	subject string
	// tokens are newest first.
	tokens []client.Token
	// made is the status of new tokens.
	made client.TokenStatus
	// before and after a request decide whether it fails: before it has acted, or after.
	before, after func(request string) error
	requests      []string
	disk          *fakeDisk
}

func (k *fakeKSeF) Ready(context.Context) error { return nil }

func (k *fakeKSeF) Subject() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.subject
}

// login has another subject ask, to whom these tokens are visible. It returns those that were.
func (k *fakeKSeF) login(subject string, visible []client.Token) (before []client.Token) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before, k.subject, k.tokens = k.tokens, subject, visible
	return before
}

// do has one request act. It waits for no lock while the hooks run.
func (k *fakeKSeF) do(ctx context.Context, request, number string, act func() error) error {
	if ctx.Err() != nil || k.disk.hasCrashed() {
		return &client.TransportError{Endpoint: endpoints[request], Err: errCrashed}
	}
	k.mu.Lock()
	k.requests = append(k.requests, strings.TrimSpace(request+" "+number))
	before, after := k.before, k.after
	k.mu.Unlock()
	if before != nil {
		if err := before(request); err != nil {
			return err
		}
	}
	k.mu.Lock()
	err := act()
	k.mu.Unlock()
	if err == nil && after != nil {
		err = after(request)
	}
	return err
}

func (k *fakeKSeF) GenerateToken(ctx context.Context, request client.TokenRequest) (token *client.NewToken, err error) {
	err = k.do(ctx, "POST", "", func() error {
		number := k.add(request.Description, k.made)
		token = &client.NewToken{ReferenceNumber: number, Token: testSecret}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return token, nil
}

// add makes a token. The caller holds the lock, or is alone.
func (k *fakeKSeF) add(description string, status client.TokenStatus) (referenceNumber string) {
	referenceNumber = fmt.Sprintf("20251010-EC-1DCE3E3000-%010X-45", len(k.tokens)+1)
	k.tokens = slices.Insert(k.tokens, 0, client.Token{
		ReferenceNumber: referenceNumber, Description: description, Status: status, Created: time.Now(),
		Context: client.Identifier{Type: string(testTarget.Context.Type), Value: testTarget.Context.Value},
	})
	return referenceNumber
}

func (k *fakeKSeF) QueryTokens(ctx context.Context, query client.TokenQuery) (page *client.TokenPage, err error) {
	err = k.do(ctx, "LIST", "", func() error {
		page = &client.TokenPage{}
		for _, token := range k.tokens {
			if strings.Contains(token.Description, query.Description) && (query.Statuses == nil || slices.Contains(query.Statuses, string(token.Status))) {
				page.Tokens = append(page.Tokens, token)
			}
		}
		return nil
	})
	return page, err
}

func (k *fakeKSeF) Token(ctx context.Context, referenceNumber string) (token *client.Token, err error) {
	err = k.do(ctx, "GET", referenceNumber, func() error {
		found := k.find(referenceNumber)
		if found == nil {
			return refusal("GET", http.StatusBadRequest, client.CodeInvalidValue)
		}
		token = new(*found)
		return nil
	})
	return token, err
}

func (k *fakeKSeF) RevokeToken(ctx context.Context, referenceNumber string) error {
	return k.do(ctx, "DELETE", referenceNumber, func() error {
		found := k.find(referenceNumber)
		if found == nil || found.Status.Dead() {
			return refusal("DELETE", http.StatusBadRequest)
		}
		found.Status = client.StatusRevoked
		return nil
	})
}

func (k *fakeKSeF) find(referenceNumber string) *client.Token {
	at := slices.IndexFunc(k.tokens, func(token client.Token) bool { return token.ReferenceNumber == referenceNumber })
	if at < 0 {
		return nil
	}
	return &k.tokens[at]
}

func (k *fakeKSeF) status(referenceNumber string) client.TokenStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	if found := k.find(referenceNumber); found != nil {
		return found.Status
	}
	return ""
}

func (k *fakeKSeF) setStatus(referenceNumber string, status client.TokenStatus) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.find(referenceNumber).Status = status
}

// alive returns the numbers of the tokens that are not dead.
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

// count returns how often a request was sent.
func (k *fakeKSeF) count(request string) (count int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, sent := range k.requests {
		if strings.HasPrefix(sent, request) {
			count++
		}
	}
	return count
}

// fail has the hook answer requests of one name, and no others.
func (k *fakeKSeF) fail(hook *func(string) error, request string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	*hook = func(sent string) error {
		if sent == request {
			return err
		}
		return nil
	}
}

// mend ends all failures.
func (k *fakeKSeF) mend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.before, k.after = nil, nil
}

var endpoints = map[string]string{
	"POST": client.EndpointGenerateToken, "LIST": client.EndpointQueryTokens,
	"GET": client.EndpointToken, "DELETE": client.EndpointRevokeToken,
}

func refusal(request string, status int, codes ...int) error {
	refused := &client.APIError{Endpoint: endpoints[request], Status: status}
	for _, code := range codes {
		refused.Problems = append(refused.Problems, client.Problem{Code: code})
	}
	return refused
}

func lostReply(request string) error {
	return &client.TransportError{Endpoint: endpoints[request], Sent: true, Err: errors.New("connection reset")}
}

var errDisk, errCrashed = errors.New("the disk is full"), errors.New("the process has crashed")

// fakeDisk counts the writes and deletions, and fails, hangs or crashes at one of them.
type fakeDisk struct {
	logical.Storage
	mu     sync.Mutex
	writes []string
	// failAt and crashAt count from 1; 0 is never. Nothing leaves a crashed process any more.
	failAt, crashAt int
	// hangAt is the write that ends with its context.
	hangAt     int
	crashed    bool
	unreadable bool
}

func (d *fakeDisk) failReads(fail bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unreadable = fail
}

func (d *fakeDisk) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if err := d.failure(); err != nil {
		return nil, err
	}
	return d.Storage.Get(ctx, key)
}

func (d *fakeDisk) List(ctx context.Context, prefix string) ([]string, error) {
	if err := d.failure(); err != nil {
		return nil, err
	}
	return d.Storage.List(ctx, prefix)
}

func (d *fakeDisk) write(ctx context.Context, operation, key string) error {
	hangs, err := d.countWrite(operation, key)
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (d *fakeDisk) countWrite(operation, key string) (hangs bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes = append(d.writes, operation+" "+key)
	d.crashed = d.crashed || len(d.writes) == d.crashAt
	switch {
	case d.crashed:
		return false, errCrashed
	case len(d.writes) == d.failAt:
		return false, errDisk
	}
	return len(d.writes) == d.hangAt, nil
}

// failure returns why reads fail.
func (d *fakeDisk) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.crashed:
		return errCrashed
	case d.unreadable:
		return errDisk
	}
	return nil
}

func (d *fakeDisk) hasCrashed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.crashed
}

func (d *fakeDisk) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if err := d.write(ctx, "put", entry.Key); err != nil {
		return err
	}
	return d.Storage.Put(ctx, entry)
}

func (d *fakeDisk) Delete(ctx context.Context, key string) error {
	if err := d.write(ctx, "delete", key); err != nil {
		return err
	}
	return d.Storage.Delete(ctx, key)
}

func (d *fakeDisk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = true
}
