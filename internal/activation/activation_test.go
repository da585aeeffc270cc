// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package activation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// polled is a Poller whose tokens become Active at a moment, and whose polls are counted.
type polled struct {
	*Poller[string]
	mu     sync.Mutex
	active time.Time
	polls  int
	err    error
}

func newPolled(t *testing.T) *polled {
	p := &polled{active: time.Now().Add(2 * time.Second)}
	p.Poller = New(t.Context(), hclog.NewNullLogger(), func(_ context.Context, _ string, numbers []string) (map[string]client.Token, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.polls++
		status := client.StatusPending
		if !time.Now().Before(p.active) {
			status = client.StatusActive
		}
		tokens := make(map[string]client.Token)
		for _, number := range numbers {
			tokens[number] = client.Token{ReferenceNumber: number, Status: status}
		}
		return tokens, p.err
	})
	return p
}

func TestAwait(t *testing.T) {
	tests := map[string]func(t *testing.T, p *polled){
		"waiters_of_a_group_share_its_polls": func(t *testing.T, p *polled) {
			var all sync.WaitGroup
			for i := range 100 {
				all.Go(func() {
					token, err := p.Await(t.Context(), "group", fmt.Sprint(i), time.Minute)
					require.NoError(t, err)
					require.Equal(t, fmt.Sprint(i), token.ReferenceNumber)
					require.Equal(t, client.StatusActive, token.Status)
				})
			}
			all.Wait()
			require.LessOrEqual(t, p.polls, 3)
		},
		"ends_in_time_for_a_response": func(t *testing.T, p *polled) {
			p.active = time.Now().Add(time.Hour)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			began := time.Now()
			token, err := p.Await(ctx, "group", "1", time.Minute)
			require.Error(t, err)
			require.Equal(t, client.StatusPending, token.Status)
			require.Equal(t, 8*time.Second, time.Since(began))
		},
		"returns_why_KSeF_was_not_asked": func(t *testing.T, p *polled) {
			p.active, p.err = time.Now().Add(time.Hour), errors.New("no login")
			_, err := p.Await(t.Context(), "group", "1", time.Minute)
			require.ErrorIs(t, err, p.err)
		},
		"ends_with_Stop": func(t *testing.T, p *polled) {
			time.AfterFunc(time.Second, p.Stop)
			began := time.Now()
			_, err := p.Await(t.Context(), "group", "1", time.Minute)
			require.Error(t, err)
			_, err = p.Await(t.Context(), "group", "2", time.Minute)
			require.Error(t, err)
			require.Equal(t, time.Second, time.Since(began))
		},
		"goes_on_after_a_panic": func(t *testing.T, p *polled) {
			poll := p.poll
			p.poll = func(context.Context, string, []string) (map[string]client.Token, error) {
				p.poll = poll
				panic("once")
			}
			token, err := p.Await(t.Context(), "group", "1", time.Minute)
			require.NoError(t, err)
			require.Equal(t, client.StatusActive, token.Status)
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPolled(t)
				defer p.Stop()
				test(t, p)
			})
		})
	}
}
