// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ErrPaused refuses a token while the configuration is being changed.
var ErrPaused = errors.New("the configuration is being changed at this moment; ask again")

// ErrUnmounting refuses a token because the mount is being unloaded, disabled or moved.
var ErrUnmounting = errors.New("the mount is being unloaded, disabled or moved, and issues no tokens")

// issuing has the requests for tokens in progress, so that a config change can wait for them and an
// unmount end them. The ledger's lock guards its fields.
type issuing struct {
	running map[*runningIssue]struct{}
	pauses  int
	// ended says that an unmount refuses new ones.
	ended bool
	// idle is closed when the last one ends; nil without a PauseIssuing that waits.
	idle chan struct{}
}

// runningIssue is one request for a token in progress.
type runningIssue struct {
	// waitCtx is for the wait for a login and for Active, sendCtx for the request to KSeF: an
	// unmount ends the waits at once, and the request after sendGrace.
	waitCtx, sendCtx       context.Context
	endWaiting, endSending context.CancelCauseFunc
}

func (l *Ledger) beginIssue(ctx context.Context) (*runningIssue, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.issuing.ended {
		return nil, ErrUnmounting
	}
	if l.issuing.pauses > 0 {
		return nil, ErrPaused
	}
	var request runningIssue
	request.sendCtx, request.endSending = context.WithCancelCause(ctx)
	request.waitCtx, request.endWaiting = context.WithCancelCause(request.sendCtx)
	l.issuing.running[&request] = struct{}{}
	return &request, nil
}

func (l *Ledger) endIssue(request *runningIssue) {
	request.endSending(context.Canceled)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.issuing.running, request)
	if len(l.issuing.running) == 0 && l.issuing.idle != nil {
		close(l.issuing.idle)
		l.issuing.idle = nil
	}
}

// endedBy adds ErrUnmounting to an error where an unmount has ended the step.
func endedBy(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), ErrUnmounting) {
		return fmt.Errorf("%w: %w", ErrUnmounting, err)
	}
	return err
}

// PauseIssuing refuses new tokens until release is called, and waits for those in progress: then
// CountOpen misses none.
func (l *Ledger) PauseIssuing(ctx context.Context) (release func(), err error) {
	l.mu.Lock()
	l.issuing.pauses++
	release = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.issuing.pauses--
	}
	if len(l.issuing.running) == 0 {
		l.mu.Unlock()
		return release, nil
	}
	if l.issuing.idle == nil {
		l.issuing.idle = make(chan struct{})
	}
	idle := l.issuing.idle
	l.mu.Unlock()
	select {
	case <-idle:
		return release, nil
	case <-ctx.Done():
		release()
		return nil, fmt.Errorf("waiting for tokens that are being issued: %w", ctx.Err())
	}
}

// sendGrace is how long a POST in flight may go on once issuing has ended: without its reply, the
// token that must be revoked has to be searched for.
const sendGrace = 3 * time.Second

// EndIssuing refuses new tokens from now on, and ends the requests for tokens that are in progress:
// their callers get ErrUnmounting, and what KSeF has made for them is revoked. It returns when none
// is left, or with an error when ctx ends before that.
func (l *Ledger) EndIssuing(ctx context.Context) error {
	l.mu.Lock()
	l.issuing.ended = true
	running := slices.Collect(maps.Keys(l.issuing.running))
	l.mu.Unlock()
	for _, request := range running {
		request.endWaiting(ErrUnmounting)
	}
	endSending := func() {
		for _, request := range running {
			request.endSending(ErrUnmounting)
		}
	}
	timer := time.AfterFunc(sendGrace, endSending)
	defer timer.Stop()
	release, err := l.PauseIssuing(ctx)
	if err != nil {
		endSending()
		return err
	}
	release()
	return nil
}

// ResumeIssuing undoes EndIssuing, as after a move of the mount.
func (l *Ledger) ResumeIssuing() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() == nil {
		l.issuing.ended = false
	}
}
