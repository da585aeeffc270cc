// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package breaker

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
	*Breaker
	probes int
	away   bool
}

func newProbed() *probed {
	p := &probed{away: true}
	p.Breaker = New("https://ksef.test/v2", func() error {
		<-time.After(time.Second)
		p.probes++
		if p.away {
			return errAway
		}
		return nil
	})
	return p
}

// ask makes a request for a token that ends so; false where it is not let through.
func (p *probed) ask(result Outcome) bool {
	attempt, err := p.Admit()
	if err != nil {
		return false
	}
	attempt.Send()
	attempt.End(result, errAway)
	return true
}

func (p *probed) lose(t *testing.T, times int) {
	t.Helper()
	for range times {
		require.True(t, p.ask(Unknown))
	}
}

func TestBreaker(t *testing.T) {
	tests := map[string]func(t *testing.T, p *probed){
		"opens after three unknown outcomes in a row": func(t *testing.T, p *probed) {
			p.lose(t, 2)
			require.True(t, p.ask(Refused))
			p.lose(t, 2)
			require.True(t, p.ask(NotSent))
			p.lose(t, 1)
			_, err := p.Admit()
			var outage *OutageError
			require.ErrorAs(t, err, &outage)
			require.Equal(t, 3, outage.Lost)
			require.Equal(t, time.Now().Add(probeEvery), outage.Next)
			require.ErrorIs(t, outage.Err, errAway)
			require.Zero(t, p.probes)
		},
		"opens for callers that leave if a probe fails too": func(t *testing.T, p *probed) {
			for range 3 {
				require.True(t, p.ask(CallerLeft))
			}
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					_, err := p.Admit()
					require.Error(t, err)
				})
			}
			all.Wait()
			require.Equal(t, 1, p.probes)
		},
		"stays closed for callers that leave while probes are answered": func(t *testing.T, p *probed) {
			p.away = false
			for range 30 {
				require.True(t, p.ask(CallerLeft))
			}
			require.Equal(t, 1, p.probes, "not more often than every five seconds")
		},
		"counts callers that leave late as unknown outcomes": func(t *testing.T, p *probed) {
			p.away = false
			leaveAfter := func(wait time.Duration) {
				attempt, err := p.Admit()
				require.NoError(t, err)
				attempt.Send()
				<-time.After(wait)
				attempt.End(CallerLeft, errAway)
			}
			for range 3 {
				leaveAfter(conclusiveWait - time.Nanosecond)
			}
			require.True(t, p.ask(Made))
			require.Equal(t, 1, p.probes)
			for range 3 {
				leaveAfter(conclusiveWait)
			}
			require.False(t, p.ask(Made))
			require.Equal(t, 1, p.probes)
		},
		"doubts requests that wait for long": func(t *testing.T, p *probed) {
			var waiting []*Attempt
			for range 3 {
				attempt, err := p.Admit()
				require.NoError(t, err)
				attempt.Send()
				waiting = append(waiting, attempt)
			}
			<-time.After(conclusiveWait)
			require.False(t, p.ask(Made))
			for _, attempt := range waiting {
				attempt.End(Made, nil)
			}
			require.True(t, p.ask(Made))
			require.Equal(t, 1, p.probes)
		},
		"probes at a bounded pace": func(t *testing.T, p *probed) {
			p.lose(t, 3)
			for range 60 {
				<-time.After(time.Second)
				require.False(t, p.ask(Made))
			}
			require.InDelta(t, 12, p.probes, 2)
		},
		"shares a probe and then tries one at a time": func(t *testing.T, p *probed) {
			p.lose(t, 3)
			p.away = false
			<-time.After(probeEvery)
			var all sync.WaitGroup
			admitted := make(chan *Attempt, 10)
			for range 10 {
				all.Go(func() {
					if attempt, err := p.Admit(); err == nil {
						admitted <- attempt
					}
				})
			}
			all.Wait()
			require.Equal(t, 1, p.probes)
			require.Len(t, admitted, 1)
			(<-admitted).End(NotSent, nil)
			require.True(t, p.ask(Refused), "one that was not sent gives way to the next")
			first, err := p.Admit()
			require.NoError(t, err)
			require.False(t, p.ask(Made), "one at a time until one succeeds")
			first.End(Made, nil)
			p.lose(t, 2)
			require.True(t, p.ask(Made))
			require.Equal(t, 1, p.probes)
		},
		"tries ever more rarely where only the probes are answered": func(t *testing.T, p *probed) {
			p.lose(t, 3)
			p.away = false
			trials := 0
			for range 600 {
				<-time.After(time.Second)
				if p.ask(Unknown) {
					trials++
				}
			}
			require.LessOrEqual(t, trials, 7)
			require.GreaterOrEqual(t, trials, 5)
		},
		"closes when a request that was sent before succeeds": func(t *testing.T, p *probed) {
			early, err := p.Admit()
			require.NoError(t, err)
			p.lose(t, 3)
			require.False(t, p.ask(Made))
			require.True(t, early.End(Made, nil))
			require.False(t, early.End(Unknown, errAway), "an attempt ends once")
			require.True(t, p.ask(Made))
		},
		"lets a search through once a probe is answered": func(t *testing.T, p *probed) {
			require.NoError(t, p.Check())
			p.lose(t, 3)
			require.Error(t, p.Check())
			<-time.After(probeEvery)
			require.Error(t, p.Check())
			require.Equal(t, 1, p.probes)
			p.away = false
			p.Retry()
			require.NoError(t, p.Check())
			require.True(t, p.ask(Made), "a search takes no trial away")
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newProbed()) })
		})
	}
}
