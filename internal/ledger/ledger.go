// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package ledger records every token from the intent to issue it until KSeF confirms its end.
//
// A record is written before KSeF is asked for a token and stays until KSeF has confirmed the
// token's end, so that a lost reply, a crash or a lost lease never leaves an unknown token. The
// ledger's reconciler finishes what was begun.
package ledger

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/activation"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/breaker"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

// Upstream is KSeF in one context.
type Upstream interface {
	// Ready makes sure that there is a login.
	Ready(ctx context.Context) error
	// Subject identifies who logs in. Another may not see this one's tokens.
	Subject() string
	GenerateToken(ctx context.Context, request client.TokenRequest) (*client.NewToken, error)
	QueryTokens(ctx context.Context, query client.TokenQuery) (*client.TokenPage, error)
	Token(ctx context.Context, referenceNumber string) (*client.Token, error)
	RevokeToken(ctx context.Context, referenceNumber string) error
}

// Options are what a Ledger works with. All but SelfUpstream are required.
type Options struct {
	Storage logical.Storage
	// Upstream gives access to KSeF at the target; requests wait for the limits as the Wait says.
	// It fails where the configuration no longer leads there.
	Upstream func(ctx context.Context, target Target, wait ratelimit.Wait) (Upstream, error)
	// SelfUpstream gives access to KSeF at the target by a login with a token without a lease,
	// which may read and revoke itself whatever its permissions are. nil: such a token ends only as
	// far as KSeF lets the mount's subject revoke it.
	SelfUpstream func(ctx context.Context, target Target, token client.Secret, wait ratelimit.Wait) (Upstream, error)
	// NextPermit returns when a request to the endpoint could go with so many others before it.
	NextPermit func(target Target, endpoint string, ahead int) time.Time
	// Probe sends a request that no hourly limit counts; nil means that the API replies.
	Probe func(ctx context.Context, api string) error
	// OnEvent is called with what happened to a token.
	OnEvent func(Event)
	// OnUnreadable is called with each entry that cannot be read and is skipped.
	OnUnreadable func(entry *logical.StorageEntry, err error)
	Logger       hclog.Logger
}

// Event is something that happened to a token.
type Event struct {
	// Kind is a name such as "token-revoke".
	Kind string
	// Record is the token's, as it stands now.
	Record Record
	// Err is why a kind that ends in "-fail" or "-wait" happened.
	Err error
}

// The kinds of event.
const (
	EventIssue      = "token-issue"
	EventIssueFail  = "token-issue-fail"
	EventRevoke     = "token-revoke"
	EventRevokeWait = "token-revoke-wait"
	EventRevokeFail = "token-revoke-fail"
	EventRecover    = "token-recover"
	EventImport     = "token-import"
)

// Ledger is safe for concurrent use. It works from Start to Stop.
type Ledger struct {
	Options
	store store

	ctx        context.Context
	stop       context.CancelFunc
	work       sync.WaitGroup
	reconciler *reconciler

	mountID atomic.Pointer[string]
	makeID  *semaphore.Weighted
	// recording is held while it is recorded when tokens were issued.
	recording *semaphore.Weighted

	// importing admits one import at a time, so that two do not take the same token.
	importing *semaphore.Weighted

	// inFlight has the nonces of the intents whose requests are in progress, which the reconciler
	// leaves alone.
	inFlight sync.Map

	// activations has the callers that wait for Active.
	activations *activation.Poller[Target]

	mu sync.Mutex
	// breakers are those of the APIs that were asked for tokens.
	breakers map[string]*breaker.Breaker
	issuing  issuing
}

// New returns a ledger over the storage. It reads nothing yet.
func New(options Options) *Ledger {
	ledger := &Ledger{
		Options: options, store: newStore(options.Storage, options.OnUnreadable),
		makeID: semaphore.NewWeighted(1), recording: semaphore.NewWeighted(1), importing: semaphore.NewWeighted(1),
		breakers: make(map[string]*breaker.Breaker), issuing: issuing{running: make(map[*runningIssue]struct{})},
	}
	// A panic in the receiver must not end what the ledger is in the middle of.
	ledger.OnEvent = func(event Event) {
		_ = background.Contain(ledger.Logger, "the receiver of events", func() { options.OnEvent(event) })
	}
	ledger.ctx, ledger.stop = context.WithCancel(context.Background())
	ledger.activations = activation.New(ledger.ctx, ledger.Logger, ledger.pollTokens)
	ledger.reconciler = newReconciler(ledger)
	return ledger
}

// Start starts the reconciler, which needs storage that can be written. A second Start does
// nothing.
func (l *Ledger) Start() { l.reconciler.loop.Start() }

// Stop ends the reconciler and its tasks, and waits for them. The next Start on the same storage
// resumes what is not finished.
func (l *Ledger) Stop() {
	l.mu.Lock()
	l.reconciler.mu.Lock()
	l.stop()
	l.reconciler.mu.Unlock()
	l.mu.Unlock()
	l.reconciler.loop.Stop()
	l.activations.Stop()
	l.work.Wait()
}

// keepRunning runs f in a goroutine of the ledger until it returns.
func (l *Ledger) keepRunning(f func()) {
	l.work.Go(func() { background.KeepRunning(l.ctx, l.Logger, "the ledger", f) })
}

// Wake makes the reconciler look for work that is due.
func (l *Ledger) Wake() { l.reconciler.loop.Wake() }

// Retry makes failed tasks due now, since their cause may be gone.
func (l *Ledger) Retry() {
	l.mu.Lock()
	for _, found := range l.breakers {
		found.Retry()
	}
	l.mu.Unlock()
	l.reconciler.retry()
	l.Wake()
}

// MountID returns the mount's identifier, which is in the mark of each of its tokens; "" before the
// first token.
func (l *Ledger) MountID(ctx context.Context) (string, error) {
	if id := l.mountID.Load(); id != nil {
		return *id, nil
	}
	return l.store.knownMountID(ctx)
}

// id returns the mount's identifier, which it makes at the first use.
func (l *Ledger) id(ctx context.Context) (string, error) {
	if id := l.mountID.Load(); id != nil {
		return *id, nil
	}
	if err := l.makeID.Acquire(ctx, 1); err != nil {
		return "", fmt.Errorf("waiting for the mount's id: %w", err)
	}
	defer l.makeID.Release(1)
	if id := l.mountID.Load(); id != nil {
		return *id, nil
	}
	id, err := l.store.mountID(ctx)
	if err == nil {
		l.mountID.Store(&id)
		l.Logger.Info("the mount issues tokens with its id", "mount_id", id)
	}
	return id, err
}
