// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package events_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/events"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// bus is Vault's event bus. before runs before an event is taken.
type bus struct {
	before func(ctx context.Context) error

	mu    sync.Mutex
	taken []string
}

func (b *bus) SendEvent(ctx context.Context, kind logical.EventType, event *logical.EventData) error {
	if err := b.before(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken = append(b.taken, fmt.Sprint(kind, " ", event.Metadata.AsMap()))
	return nil
}

func (b *bus) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken
}

func TestPublish(t *testing.T) {
	instant := func(context.Context) error { return nil }
	slow := func(ctx context.Context) error {
		select {
		case <-time.After(time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	stuck := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

	// inBubble runs a test with a publisher. It fails where a goroutine is left in the end.
	inBubble := func(name string, before func(context.Context) error, test func(t *testing.T, p *events.Publisher, b *bus, logs *bytes.Buffer)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logs bytes.Buffer
				vault := &bus{before: before}
				publisher := events.NewPublisher(vault, hclog.New(&hclog.LoggerOptions{Output: &logs, Level: hclog.Trace}))
				test(t, publisher, vault, &logs)
			})
		})
	}

	inBubble("names, path and metadata without empty values", instant, func(t *testing.T, p *events.Publisher, b *bus, logs *bytes.Buffer) {
		p.Publish("token-issue", "tokens", "role", "invoices", "cause", "")
		p.Close(t.Context())
		require.Equal(t, []string{"ksef/token-issue map[data_path:tokens role:invoices]"}, b.all())
		require.Empty(t, logs.String())
	})
	inBubble("in order, without waiting, and all before Close returns", slow, func(t *testing.T, p *events.Publisher, b *bus, _ *bytes.Buffer) {
		start := time.Now()
		var want []string
		for i := range 5 {
			p.Publish(fmt.Sprint(i), "tokens")
			want = append(want, fmt.Sprintf("ksef/%d map[data_path:tokens]", i))
		}
		require.Zero(t, time.Since(start))
		p.Close(t.Context())
		require.Equal(t, want, b.all())
		require.Equal(t, 5*time.Second, time.Since(start))
	})
	inBubble("again after a pause", slow, func(t *testing.T, p *events.Publisher, b *bus, _ *bytes.Buffer) {
		p.Publish("a", "tokens")
		time.Sleep(time.Minute)
		p.Publish("b", "tokens")
		p.Close(t.Context())
		require.Len(t, b.all(), 2)
	})
	inBubble("a bus that is stuck costs five seconds an event", stuck, func(t *testing.T, p *events.Publisher, _ *bus, logs *bytes.Buffer) {
		start := time.Now()
		p.Publish("a", "tokens")
		p.Publish("b", "tokens")
		p.Close(t.Context())
		require.Equal(t, 10*time.Second, time.Since(start))
		require.Equal(t, 2, strings.Count(logs.String(), "an event could not be sent"))
	})
	inBubble("Close ends with its context", stuck, func(t *testing.T, p *events.Publisher, _ *bus, _ *bytes.Buffer) {
		start := time.Now()
		for range 100 {
			p.Publish("a", "tokens")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		p.Close(ctx)
		require.Equal(t, 3*time.Second, time.Since(start))
	})
	inBubble("too many are dropped and logged", stuck, func(t *testing.T, p *events.Publisher, _ *bus, logs *bytes.Buffer) {
		p.Publish("first", "tokens")
		synctest.Wait() // the first is being sent
		for range 1001 {
			p.Publish("more", "tokens")
		}
		require.Equal(t, 1, strings.Count(logs.String(), "[WARN]  an event was dropped: event=more"))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		p.Close(ended)
	})
	inBubble("after Close dropped and logged", instant, func(t *testing.T, p *events.Publisher, b *bus, logs *bytes.Buffer) {
		p.Close(t.Context())
		p.Publish("late", "tokens")
		synctest.Wait()
		require.Empty(t, b.all())
		require.Contains(t, logs.String(), "an event was dropped: event=late")
	})
	inBubble("a Vault without events is no failure", func(context.Context) error { return framework.ErrNoEvents }, func(t *testing.T, p *events.Publisher, _ *bus, logs *bytes.Buffer) {
		p.Publish("a", "tokens")
		p.Close(t.Context())
		require.Empty(t, logs.String())
	})
	panics := true
	inBubble("a panic costs one event", func(context.Context) error {
		if panics {
			panics = false
			panic("its value")
		}
		return nil
	}, func(t *testing.T, p *events.Publisher, b *bus, logs *bytes.Buffer) {
		p.Publish("a", "tokens")
		p.Publish("b", "tokens")
		p.Close(t.Context())
		require.Equal(t, []string{"ksef/b map[data_path:tokens]"}, b.all())
		require.NotContains(t, logs.String(), "its value")
	})
}
