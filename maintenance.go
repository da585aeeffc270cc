// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/rotation"
	"vault-plugin-secrets-ksef/internal/session"
)

const (
	// maintenanceInterval is how often the mount looks after itself where nothing is due and nobody
	// wakes it.
	maintenanceInterval = 12 * time.Hour
	// maintenanceTimeout bounds one look.
	maintenanceTimeout = 5 * time.Minute
	// maintenancePause is the shortest pause between two looks.
	maintenancePause = time.Second
)

// maintenance is the goroutine that goes on with what a request has begun and could not await, a
// login or a rotation, and renews the certificate in time.
type maintenance struct {
	backend *backend
	wake    chan struct{}
	ctx     context.Context
	stop    context.CancelFunc

	mu      sync.Mutex
	started bool
	next    time.Time // when it looks again by itself
	work    sync.WaitGroup
}

func newMaintenance(b *backend) *maintenance {
	u := &maintenance{backend: b, wake: make(chan struct{}, 1)}
	u.ctx, u.stop = context.WithCancel(context.Background())
	return u
}

// start is called where storage can be written, and does nothing the second time.
func (u *maintenance) start() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.started || u.ctx.Err() != nil {
		return
	}
	u.started = true
	u.work.Go(u.run)
}

// close stops what is in progress and waits for that. The next start goes on.
func (u *maintenance) close() {
	u.mu.Lock()
	u.stop()
	u.mu.Unlock()
	u.work.Wait()
}

func (u *maintenance) wakeUp() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// wakeIfLate wakes the maintenance where it should have looked already: timers stand still while a
// machine sleeps.
func (u *maintenance) wakeIfLate() {
	u.mu.Lock()
	late := time.Now().Round(0).After(u.next)
	u.mu.Unlock()
	if late {
		u.wakeUp()
	}
}

func (u *maintenance) run() {
	for {
		next := u.runOnce()
		u.mu.Lock()
		u.next = next.Round(0) // by the clock on the wall
		u.mu.Unlock()
		timer := time.NewTimer(max(time.Until(next), maintenancePause))
		select {
		case <-timer.C:
		case <-u.wake:
		case <-u.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// runOnce does what is due and tells when something is due next.
func (u *maintenance) runOnce() (next time.Time) {
	next = time.Now().Add(maintenanceInterval)
	defer func() {
		if cause := recover(); cause != nil {
			u.backend.Logger().Error("the upkeep panicked", "panic", fmt.Sprintf("%T", cause), "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(u.ctx, maintenanceTimeout)
	defer cancel()
	b := u.backend
	for _, task := range []struct {
		name string
		do   func(context.Context) (time.Time, error)
	}{
		{"the logins that a person has signed", b.logins.Advance},
		{"the rotation of the certificate", b.rotation.Advance},
		{"the renewal of the certificate", b.renewCertificate},
		{"the end of the logins", b.watchLogins},
		{"the sessions that have ended by themselves", b.dropUnstored},
	} {
		due, err := task.do(ctx)
		if err != nil && ctx.Err() == nil {
			b.Logger().Warn("the upkeep has to try again", "task", task.name, "error", err)
		}
		if !due.IsZero() && due.Before(next) {
			next = due
		}
	}
	return next
}

// renewCertificate begins a rotation when the certificate's end comes near. due is when it wants to
// be called again; zero where there is nothing to renew.
func (b *backend) renewCertificate(ctx context.Context) (due time.Time, err error) {
	stored, err := readConfig(ctx, b.storage)
	if err != nil || stored == nil || stored.RenewBefore == 0 {
		return time.Time{}, err
	}
	cred, err := stored.credential()
	if err != nil || cred == nil {
		return time.Time{}, err
	}
	state, err := b.rotation.State(ctx)
	if err != nil || state.Step != "" {
		return time.Time{}, err
	}
	due = renewalDue(cred.Certificate, stored.RenewBefore, state.Last)
	if time.Now().Before(due) {
		return due, nil
	}
	request, err := stored.certificateRequest()
	if err != nil {
		return time.Time{}, err
	}
	request.Automatic = true
	if err := b.rotation.Begin(ctx, request); err != nil {
		if errors.Is(err, rotation.ErrNotKSeFs) {
			return time.Time{}, nil
		}
		return time.Time{}, fmt.Errorf("renewing the certificate, which ends at %s: %w", cred.Certificate.NotAfter.UTC().Format(time.RFC3339), err)
	}
	return b.rotation.Advance(ctx)
}

// renewalDue is the certificate's own moment ahead of its end: spread by a tenth, so that the
// certificates of one day are not renewed in one minute, and not before half its life is over.
// After a failure it is later each time.
func renewalDue(certificate *x509.Certificate, before time.Duration, last *rotation.Outcome) time.Time {
	sum := sha256.Sum256(certificate.Raw)
	spread := before / 10 / (1 << 16) * time.Duration(binary.BigEndian.Uint16(sum[:]))
	from, to := certificate.NotBefore, certificate.NotAfter
	due := to.Add(-min(before+spread, to.Sub(from)/2))
	if last == nil || last.Failures == 0 || !last.Automatic || !last.Concerns(certificate) {
		return due
	}
	if again := last.At.Add(renewalPause(last.Failures, to.Sub(last.At))); again.After(due) {
		return again
	}
	return due
}

// renewalPause grows from six hours to three days: a request that KSeF refuses counts towards its
// limit, of as few as 12 in 30 days. Towards the end it is shorter, since little is left to be
// lost.
func renewalPause(failures int, left time.Duration) time.Duration {
	const shortest, longest, least = 6 * time.Hour, 72 * time.Hour, 15 * time.Minute
	pause := min(longest, shortest<<min(max(failures-1, 0), 4))
	return max(least, min(pause, left/8))
}

// loginNotice is how long before the end of a login that only a person can repeat the engine tells
// of it; KSeF's last for seven days.
const loginNotice = 3 * 24 * time.Hour

// watchLogins tells once a day of logins that only a person can repeat and that end soon.
func (b *backend) watchLogins(ctx context.Context) (time.Time, error) {
	sessions, err := b.externalSessions(ctx)
	if err != nil {
		return time.Time{}, err
	}
	for _, one := range sessions {
		left := time.Until(one.Refresh.ValidUntil)
		if left > loginNotice || !b.notices.daily(one.Context.String()) {
			continue
		}
		until := one.Refresh.ValidUntil.UTC().Format(time.RFC3339)
		b.Logger().Warn("a login that a person has signed ends soon", "context", one.Context.String(), "until", until)
		b.sendBackgroundEvent("login-expiring", "config", "context", one.Context.String(), "until", until)
	}
	return time.Time{}, nil
}

// externalSessions are those that nobody but a person can repeat.
func (b *backend) externalSessions(ctx context.Context) ([]session.Session, error) {
	connected, err := b.connect(ctx)
	var none *client.InputError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := connected.sessions.All(ctx)
	return slices.DeleteFunc(all, func(one session.Session) bool { return !one.External }), err
}

func (b *backend) dropUnstored(ctx context.Context) (time.Time, error) {
	return time.Time{}, errors.Join(session.DropUnstored(ctx, b.storage), session.DropEnded(ctx, b.storage))
}
