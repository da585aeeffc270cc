// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/logical"
)

var (
	errDisk    = errors.New("the disk is full")
	errCrashed = errors.New("the process has crashed")
	errKSeF    = errors.New("KSeF is away")
)

// fakeDisk fails or crashes at one of its writes. Nothing leaves a crashed process any more.
type fakeDisk struct {
	logical.Storage
	mu sync.Mutex
	// reads and writes count; failAt and crashAt count from 1, 0 is never.
	reads, writes, failAt, crashAt int
	// listed are the folders that were listed.
	listed []string
	// written says that the write that fails or crashes is done all the same.
	written bool
	crashed bool
}

func (d *fakeDisk) write(do func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashed {
		return errCrashed
	}
	d.writes++
	failed := d.writes == d.failAt
	d.crashed = d.writes == d.crashAt
	if (failed || d.crashed) && !d.written {
		return errDisk
	}
	if err := do(); err != nil {
		return err
	}
	if failed || d.crashed {
		return errDisk
	}
	return nil
}

func (d *fakeDisk) hasCrashed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashed {
		return errCrashed
	}
	return nil
}

func (d *fakeDisk) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return d.write(func() error { return d.Storage.Put(ctx, entry) })
}

func (d *fakeDisk) Delete(ctx context.Context, key string) error {
	return d.write(func() error { return d.Storage.Delete(ctx, key) })
}

func (d *fakeDisk) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashed {
		return nil, errCrashed
	}
	d.reads++
	return d.Storage.Get(ctx, key)
}

func (d *fakeDisk) List(ctx context.Context, folder string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashed {
		return nil, errCrashed
	}
	d.listed = append(d.listed, folder)
	return d.Storage.List(ctx, folder)
}

func (d *fakeDisk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reads
}

func (d *fakeDisk) lists() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.listed)
}

// fakeLedger keeps tokens in memory, as KSeF and the ledger's storage together.
type fakeLedger struct {
	mu   sync.Mutex
	disk *fakeDisk
	// tokens are in order of their making.
	tokens []*fakeToken
	// issueErr, statusErr and revokeErr fail the requests; made is the status of new tokens.
	issueErr, statusErr, revokeErr error
	made                           client.TokenStatus
	validFor                       time.Duration
	// issueWaits and statusWaits keep the requests waiting until they are closed; nil for not.
	issueWaits, statusWaits chan struct{}
	calls                   map[string]int
}

type fakeToken struct {
	ledger.Record
	secret client.Secret
	status client.TokenStatus
}

func (l *fakeLedger) begin(name string) (done func(), err error) {
	if err := l.disk.hasCrashed(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.calls[name]++
	return l.mu.Unlock, nil
}

func (l *fakeLedger) Issue(ctx context.Context, prepare func() (ledger.IssueRequest, error)) (*ledger.Issued, error) {
	request, err := prepare()
	if err != nil {
		return nil, err
	}
	if err := l.wait(ctx, func() chan struct{} { return l.issueWaits }); err != nil {
		return nil, err
	}
	done, err := l.begin("issue")
	if err != nil {
		return nil, err
	}
	defer done()
	if l.issueErr != nil {
		return nil, l.issueErr
	}
	token := l.add(request.Holder, request.Target, request.Permissions)
	token.status = l.made
	return &ledger.Issued{Record: token.Record, Token: token.secret, Status: token.status}, nil
}

func (l *fakeLedger) wait(ctx context.Context, of func() chan struct{}) error {
	l.mu.Lock()
	waits := of()
	l.mu.Unlock()
	if waits == nil {
		return nil
	}
	select {
	case <-waits:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *fakeLedger) add(holder ledger.Holder, target ledger.Target, permissions []string) *fakeToken {
	number := fmt.Sprintf("token-%d", len(l.tokens)+1)
	token := &fakeToken{
		Record: ledger.Record{State: ledger.Live, ReferenceNumber: number, Target: target, Permissions: permissions, Holder: holder, Created: time.Now()},
		secret: client.Secret("secret of " + number), status: client.StatusActive,
	}
	if l.validFor > 0 {
		token.ValidUntil = time.Now().Add(l.validFor)
	}
	l.tokens = append(l.tokens, token)
	return token
}

func (l *fakeLedger) Import(_ context.Context, request ledger.ImportRequest) error {
	done, err := l.begin("import")
	if err != nil {
		return err
	}
	defer done()
	if l.issueErr != nil {
		return l.issueErr
	}
	if found := l.find(request.ReferenceNumber); found.Holder == (ledger.Holder{}) {
		found.Holder, found.secret = request.Holder, request.Token
	}
	return nil
}

func (l *fakeLedger) find(number string) *fakeToken {
	at := slices.IndexFunc(l.tokens, func(token *fakeToken) bool { return token.ReferenceNumber == number })
	return l.tokens[at]
}

func (l *fakeLedger) Unleased(context.Context) (records []ledger.Record, err error) {
	done, err := l.begin("list")
	if err != nil {
		return nil, err
	}
	defer done()
	for _, token := range l.tokens {
		if token.Holder != (ledger.Holder{}) && (token.State == ledger.Live || token.State == ledger.Released) {
			records = append(records, token.Record)
		}
	}
	return records, nil
}

func (l *fakeLedger) Secret(_ context.Context, number string) (client.Secret, error) {
	done, err := l.begin("secret")
	if err != nil {
		return "", err
	}
	defer done()
	return l.find(number).secret, nil
}

func (l *fakeLedger) Status(ctx context.Context, _ ledger.Target, number string) (client.TokenStatus, error) {
	if err := l.wait(ctx, func() chan struct{} { return l.statusWaits }); err != nil {
		return "", err
	}
	done, err := l.begin("status")
	if err != nil {
		return "", err
	}
	defer done()
	return l.find(number).status, l.statusErr
}

func (l *fakeLedger) RevokeUnleased(_ context.Context, number, _ string) error {
	done, err := l.begin("revoke")
	if err != nil {
		return err
	}
	defer done()
	if l.revokeErr != nil && !isPending(l.revokeErr) {
		return l.revokeErr
	}
	token := l.find(number)
	token.State, token.status, token.secret = ledger.Dead, client.StatusRevoked, ""
	return l.revokeErr
}

func (l *fakeLedger) Release(_ context.Context, number string) error {
	done, err := l.begin("release")
	if err != nil {
		return err
	}
	defer done()
	token := l.find(number)
	token.State, token.secret = ledger.Released, ""
	return nil
}

// alive returns the numbers of the tokens of holders that KSeF accepts.
func (l *fakeLedger) alive() (numbers []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, token := range l.tokens {
		if !token.status.Dead() && token.Holder != (ledger.Holder{}) && token.State != ledger.Released {
			numbers = append(numbers, token.ReferenceNumber)
		}
	}
	return numbers
}

func (l *fakeLedger) count(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[name]
}

// set changes what the ledger does, or what KSeF has.
func (l *fakeLedger) set(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do()
}

func (l *fakeLedger) setStatus(number string, status client.TokenStatus) {
	l.set(func() { l.find(number).status = status })
}
