// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var errAway = errors.New("KSeF is away")

// probed is a breaker whose probes are counted, take a second each, and fail while away is true.
type probed struct {
	*breaker
	probes int
	away   bool
}

func newProbed() *probed {
	p := &probed{away: true}
	p.breaker = &breaker{api: "https://ksef.test/v2", probe: func() error {
		<-time.After(time.Second)
		p.probes++
		if p.away {
			return errAway
		}
		return nil
	}}
	return p
}

// ask makes a request for a token that ends so; false where it is not let through.
func (p *probed) ask(result outcome) bool {
	attempt, err := p.admit()
	if err != nil {
		return false
	}
	attempt.end(result, errAway)
	return true
}

func (p *probed) lose(t *testing.T, times int) {
	t.Helper()
	for range times {
		require.True(t, p.ask(unknown))
	}
}

func TestBreaker(t *testing.T) {
	tests := map[string]func(t *testing.T, p *probed){
		"opens after three unknown outcomes in a row": func(t *testing.T, p *probed) {
			p.lose(t, 2)
			require.True(t, p.ask(refused))
			p.lose(t, 2)
			require.True(t, p.ask(noEvidence))
			p.lose(t, 1)
			_, err := p.admit()
			var outage *OutageError
			require.ErrorAs(t, err, &outage)
			require.Equal(t, 3, outage.Lost)
			require.Equal(t, time.Now().Add(probeEvery), outage.Next)
			require.ErrorIs(t, outage.Err, errAway)
			require.Zero(t, p.probes)
		},
		"opens for callers that leave if a probe fails too": func(t *testing.T, p *probed) {
			for range 3 {
				require.True(t, p.ask(callerLeft))
			}
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					_, err := p.admit()
					require.Error(t, err)
				})
			}
			all.Wait()
			require.Equal(t, 1, p.probes)
		},
		"stays closed for callers that leave while probes are answered": func(t *testing.T, p *probed) {
			p.away = false
			for range 30 {
				require.True(t, p.ask(callerLeft))
			}
			require.Equal(t, 1, p.probes, "not more often than every five seconds")
		},
		"doubts requests that wait for long": func(t *testing.T, p *probed) {
			var waiting []*attempt
			for range 3 {
				attempt, err := p.admit()
				require.NoError(t, err)
				attempt.send()
				waiting = append(waiting, attempt)
			}
			<-time.After(conclusiveWait)
			require.False(t, p.ask(made))
			for _, attempt := range waiting {
				attempt.end(made, nil)
			}
			require.True(t, p.ask(made))
			require.Equal(t, 1, p.probes)
		},
		"probes at a bounded pace": func(t *testing.T, p *probed) {
			p.lose(t, 3)
			for range 60 {
				<-time.After(time.Second)
				require.False(t, p.ask(made))
			}
			require.InDelta(t, 12, p.probes, 2)
		},
		"shares a probe and then tries one at a time": func(t *testing.T, p *probed) {
			p.lose(t, 3)
			p.away = false
			<-time.After(probeEvery)
			var all sync.WaitGroup
			admitted := make(chan *attempt, 10)
			for range 10 {
				all.Go(func() {
					if attempt, err := p.admit(); err == nil {
						admitted <- attempt
					}
				})
			}
			all.Wait()
			require.Equal(t, 1, p.probes)
			require.Len(t, admitted, 1)
			(<-admitted).end(noEvidence, nil)
			require.True(t, p.ask(refused), "one that was not sent gives way to the next")
			first, err := p.admit()
			require.NoError(t, err)
			require.False(t, p.ask(made), "one at a time until one succeeds")
			first.end(made, nil)
			p.lose(t, 2)
			require.True(t, p.ask(made))
			require.Equal(t, 1, p.probes)
		},
		"tries ever more rarely where only the probes are answered": func(t *testing.T, p *probed) {
			p.lose(t, 3)
			p.away = false
			trials := 0
			for range 600 {
				<-time.After(time.Second)
				if p.ask(unknown) {
					trials++
				}
			}
			require.LessOrEqual(t, trials, 7)
			require.GreaterOrEqual(t, trials, 5)
		},
		"closes when a request that was sent before succeeds": func(t *testing.T, p *probed) {
			early, err := p.admit()
			require.NoError(t, err)
			p.lose(t, 3)
			require.False(t, p.ask(made))
			require.True(t, early.end(made, nil))
			require.False(t, early.end(unknown, errAway), "an attempt ends once")
			require.True(t, p.ask(made))
		},
		"lets a search through once a probe is answered": func(t *testing.T, p *probed) {
			require.NoError(t, p.check())
			p.lose(t, 3)
			require.Error(t, p.check())
			<-time.After(probeEvery)
			require.Error(t, p.check())
			require.Equal(t, 1, p.probes)
			p.away = false
			p.retry()
			require.NoError(t, p.check())
			require.True(t, p.ask(made), "a search takes no trial away")
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newProbed()) })
		})
	}
}
