// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package events publishes what happens in a mount on Vault's event bus. No request waits for it.
package events

import (
	"context"
	"errors"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/internal/background"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

const (
	// sendTimeout bounds the sending of one event.
	sendTimeout = 5 * time.Second
	// maxWaiting is how many events wait in memory for a slow Vault; further ones are dropped.
	maxWaiting = 1000
)

// Publisher sends a mount's events in their order. It has a goroutine only while events wait. It is
// safe for concurrent use.
type Publisher struct {
	sender  logical.EventSender
	logger  hclog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	waiting []event
	sending bool
	closed  bool
}

type event struct {
	kind, path string
	metadata   []string
}

// NewPublisher returns a publisher that must be closed.
func NewPublisher(sender logical.EventSender, logger hclog.Logger) *Publisher {
	p := &Publisher{sender: sender, logger: logger}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Publish queues an event and returns at once. kind is its name without ksef/, such as token-issue;
// path is where the data is, below the mount; metadata are names and values in turn, of which empty
// values are left out. An event after Close, or beyond 1000 that wait, is dropped and logged.
func (p *Publisher) Publish(kind, path string, metadata ...string) {
	if !p.queue(event{kind: kind, path: path, metadata: metadata}) {
		p.logger.Warn("an event was dropped", "event", kind)
	}
}

func (p *Publisher) queue(e event) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.waiting) == maxWaiting {
		return false
	}
	p.waiting = append(p.waiting, e)
	if !p.sending {
		p.sending = true
		p.running.Go(p.sendWaiting)
	}
	return true
}

// Close waits until the events are sent, at most until ctx ends.
func (p *Publisher) Close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, p.cancel)
	defer stop()
	p.running.Wait()
	p.cancel()
}

func (p *Publisher) sendWaiting() {
	for e, found := p.next(); found; e, found = p.next() {
		_ = background.Contain(p.logger, "the sending of an event", func() { p.send(e) })
	}
}

// next returns the next event, or false for none, with which the goroutine ends.
func (p *Publisher) next() (e event, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.waiting, p.sending = nil, false
		return event{}, false
	}
	e, p.waiting = p.waiting[0], p.waiting[1:]
	return e, true
}

// send sends one event. A Vault without events is no failure.
func (p *Publisher) send(e event) {
	ctx, cancel := context.WithTimeout(p.ctx, sendTimeout)
	defer cancel()
	pairs := []string{logical.EventMetadataDataPath, e.path}
	for i := 0; i+1 < len(e.metadata); i += 2 {
		if e.metadata[i+1] != "" {
			pairs = append(pairs, e.metadata[i], e.metadata[i+1])
		}
	}
	err := logical.SendEvent(ctx, p.sender, "ksef/"+e.kind, pairs...)
	if err != nil && !errors.Is(err, framework.ErrNoEvents) {
		p.logger.Debug("an event could not be sent", "event", e.kind, "error", err)
	}
}
