// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package breaker has the circuit breaker of the requests for tokens to one API: it keeps an outage
// from using up KSeF's hourly limit.
package breaker

import (
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
)

const (
	// opensAfter is how many requests for tokens in a row have to end with an unknown outcome.
	opensAfter = 3
	// probeEvery bounds the delay until the return of KSeF is noticed.
	probeEvery = 5 * time.Second
)

// conclusiveWait is how long a request must have gone without a reply to count against KSeF:
// callers that leave sooner must not open the breaker for others, unless a probe of KSeF fails too.
const conclusiveWait = 5 * time.Second

// trialBackoff is the pause after a trial that was lost although the probe was answered.
var trialBackoff = background.Backoff{Shortest: probeEvery, Longest: 4 * time.Minute}

// OutageError refuses a token while KSeF does not reply to requests for tokens. Nothing was sent or
// recorded.
type OutageError struct {
	API string
	// Lost is how many requests in a row have ended with an unknown outcome.
	Lost int
	// Next is the earliest moment at which a request for a token is let through again.
	Next time.Time
	// Err is the last failure.
	Err error
}

func (e *OutageError) Error() string {
	return fmt.Sprintf("no token was asked for, since the last %d requests for tokens to KSeF at %s have ended with an unknown outcome; "+
		"the next try is at %s, ask again then (last error: %v)", e.Lost, e.API, e.Next.UTC().Format(time.RFC3339), e.Err)
}

// Outcome is what became of a request for a token.
type Outcome int

// The outcomes of a request for a token.
const (
	// NotSent: the request was not sent.
	NotSent Outcome = iota
	// CallerLeft: the caller left before the reply. If it left soon, that says little of KSeF;
	// later it counts as Unknown.
	CallerLeft
	// Refused: KSeF said no.
	Refused
	// Made: KSeF has made a token.
	Made
	// Unknown: KSeF may have made a token whose reply was lost.
	Unknown
)

type state int

const (
	// closed lets all requests through.
	closed state = iota
	// open lets none through until a probe has been answered.
	open
	// halfOpen lets one through at a time until one has succeeded.
	halfOpen
)

// Breaker is the circuit breaker of one API. It is safe for concurrent use.
type Breaker struct {
	api   string
	probe func() error

	mu    sync.Mutex
	state state
	// lost counts the unknown outcomes in a row, lostTrials those of them in the state halfOpen.
	lost, lostTrials int
	lastErr          error
	// busy says that a probe or a trial is in progress.
	busy bool
	next time.Time

	// In the state closed, KSeF is in doubt after too many requests without a reply: abandoned
	// counts those in a row whose callers have left, inFlight has when the others were sent. Then a
	// probe decides, and its outcome counts until answeredUntil. probing is closed at its end.
	abandoned     int
	inFlight      map[*Attempt]time.Time
	answeredUntil time.Time
	probing       chan struct{}
}

// Attempt is the permission to ask for one token. It must be ended once.
type Attempt struct {
	breaker *Breaker
	trial   bool
	ended   bool
}

// New returns the breaker of an API. probe asks KSeF something that no hourly limit counts; nil
// means that KSeF has answered.
func New(api string, probe func() error) *Breaker {
	return &Breaker{api: api, probe: probe, inFlight: make(map[*Attempt]time.Time)}
}

// Admit permits a request for a token, or returns an *OutageError. It probes KSeF first if a probe
// is due in the state open, or KSeF is in doubt in the state closed.
func (b *Breaker) Admit() (*Attempt, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.await(); err != nil {
		return nil, err
	}
	if b.state == closed {
		return &Attempt{breaker: b}, nil
	}
	b.busy = true
	return &Attempt{breaker: b, trial: true}, nil
}

// Send says that the request is sent now.
func (a *Attempt) Send() {
	b := a.breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight[a] = time.Now()
}

func (b *Breaker) inDoubt(now time.Time) bool {
	unanswered := b.abandoned
	for _, sent := range b.inFlight {
		if now.Sub(sent) >= conclusiveWait {
			unanswered++
		}
	}
	return unanswered >= opensAfter && !now.Before(b.answeredUntil)
}

// Check returns an *OutageError while KSeF does not answer. It sends a probe if one is due, and
// permits nothing.
func (b *Breaker) Check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != open {
		return nil
	}
	return b.await()
}

// await returns nil if a request may go. b.mu must be locked; it is released during a probe.
func (b *Breaker) await() error {
	now := time.Now()
	if b.state == closed {
		return b.awaitDoubt(now)
	}
	if b.busy || now.Before(b.next) {
		return b.outage(now)
	}
	if b.state == halfOpen {
		return nil
	}
	b.busy, b.next = true, now.Add(probeEvery)
	b.mu.Unlock()
	err := b.probe()
	b.mu.Lock()
	b.busy = false
	if b.state != open {
		return nil // a request that was sent before has succeeded
	}
	if err != nil {
		b.lastErr = err
		return b.outage(time.Now())
	}
	b.state, b.next = halfOpen, time.Time{}
	return nil
}

// awaitDoubt is await in the state closed: callers share a probe while KSeF is in doubt.
func (b *Breaker) awaitDoubt(now time.Time) error {
	if !b.inDoubt(now) {
		return nil
	}
	if probing := b.probing; probing != nil {
		b.mu.Unlock()
		<-probing
		b.mu.Lock()
		return b.await()
	}
	probing := make(chan struct{})
	b.probing = probing
	b.mu.Unlock()
	err := b.probe()
	b.mu.Lock()
	b.probing = nil
	close(probing)
	now = time.Now()
	switch {
	case b.state != closed:
		return b.await()
	case err == nil:
		b.abandoned, b.answeredUntil = 0, now.Add(probeEvery)
		return nil
	case !b.inDoubt(now):
		return nil // a request that was sent before has been answered
	}
	b.state, b.next = open, now.Add(probeEvery)
	b.lost, b.lastErr = max(b.lost, opensAfter), err
	return b.outage(now)
}

func (b *Breaker) outage(now time.Time) error {
	next := b.next
	if next.Before(now) {
		next = now.Add(time.Second) // the request that is in progress decides
	}
	return &OutageError{API: b.api, Lost: b.lost, Next: next, Err: b.lastErr}
}

// End reports the outcome of the attempt. Only the first call counts. changed says that the breaker
// has opened or closed.
func (a *Attempt) End(result Outcome, err error) (changed bool) {
	b := a.breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.ended {
		return false
	}
	a.ended = true
	if result == CallerLeft && time.Since(b.inFlight[a]) >= conclusiveWait {
		result = Unknown
	}
	delete(b.inFlight, a)
	if a.trial {
		b.busy = false
	}
	wasClosed := b.state == closed
	switch result {
	case Made:
		b.state, b.abandoned, b.lost, b.lostTrials, b.lastErr = closed, 0, 0, 0, nil
		return !wasClosed
	case Refused:
		b.abandoned = 0
		if wasClosed {
			b.lost = 0
		}
	case CallerLeft:
		if wasClosed {
			b.abandoned++
		}
	case Unknown:
		b.lost++
		b.lastErr = err
		if a.trial {
			b.lostTrials++
			b.state, b.next = open, time.Now().Add(trialBackoff.Exact(b.lostTrials))
		} else if wasClosed && b.lost >= opensAfter {
			b.state, b.next = open, time.Now().Add(probeEvery)
			return true
		}
	}
	return false
}

// Retry lets the next probe go at once.
func (b *Breaker) Retry() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = time.Time{}
}

// Describe returns a sentence while KSeF does not reply to requests for tokens, "" otherwise.
func (b *Breaker) Describe() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == closed {
		return ""
	}
	return fmt.Sprintf("The last %d requests for tokens to KSeF at %s have ended with an unknown outcome. "+
		"New ones are refused until KSeF answers again: %v", b.lost, b.api, b.lastErr)
}
