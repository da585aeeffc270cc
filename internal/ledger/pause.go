// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
)

// ErrPaused refuses a token while the configuration is being changed.
var ErrPaused = errors.New("the configuration is being changed at this moment; ask again")

// issueCount counts the requests for tokens in progress. Its fields belong to the ledger's lock.
type issueCount struct {
	running, pauses int
	// idle is closed when the last one ends; nil while nobody waits for that.
	idle chan struct{}
}

// PauseIssuing keeps new tokens from being issued until release is called, and waits until those in
// progress are done: what CountOpen counts then is all there is.
func (l *Ledger) PauseIssuing(ctx context.Context) (release func(), err error) {
	l.mu.Lock()
	l.issues.pauses++
	release = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.issues.pauses--
	}
	if l.issues.running == 0 {
		l.mu.Unlock()
		return release, nil
	}
	if l.issues.idle == nil {
		l.issues.idle = make(chan struct{})
	}
	idle := l.issues.idle
	l.mu.Unlock()
	select {
	case <-idle:
		return release, nil
	case <-ctx.Done():
		release()
		return nil, fmt.Errorf("waiting for tokens that are being issued: %w", ctx.Err())
	}
}

func (l *Ledger) beginIssue() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.issuing.waits.Err() != nil {
		return ErrUnmounting
	}
	if l.issues.pauses > 0 {
		return ErrPaused
	}
	l.issues.running++
	return nil
}

func (l *Ledger) endIssue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.issues.running--
	if l.issues.running == 0 && l.issues.idle != nil {
		close(l.issues.idle)
		l.issues.idle = nil
	}
}
