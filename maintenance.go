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
	"slices"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/rotation"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/go-hclog"
)

const (
	maintenanceInterval = 12 * time.Hour
	maintenanceTimeout  = 5 * time.Minute
)

// newMaintenance returns the loop that finishes the logins and rotations that a request has begun
// and could not await, and renews the certificate in time.
func (b *backend) newMaintenance() *background.Loop {
	logger := b.Logger()
	return background.NewLoop(background.LoopOptions{
		Name: "maintenance", Logger: logger, Interval: maintenanceInterval, Timeout: maintenanceTimeout,
		RunOnce: func(ctx context.Context) time.Time { return b.maintain(ctx, logger) },
	})
}

// newHolderWork returns the loop that rotates and revokes tokens without a lease. It is woken by
// each change of one of them, unlike the maintenance, which goes through all sessions.
func (b *backend) newHolderWork() *background.Loop {
	logger := b.Logger()
	return background.NewLoop(background.LoopOptions{
		Name: "tokens without a lease", Logger: logger, Interval: maintenanceInterval, Timeout: maintenanceTimeout,
		RunOnce: func(ctx context.Context) time.Time {
			next, err := b.holders.Advance(ctx)
			if err != nil && ctx.Err() == nil {
				logger.Warn("the work for tokens without a lease failed and will be repeated", "error", err)
			}
			return next
		},
	})
}

// maintain does what is due, and returns when something is due next; zero for nothing.
func (b *backend) maintain(ctx context.Context, logger hclog.Logger) (next time.Time) {
	for _, task := range []struct {
		name string
		do   func(context.Context) (time.Time, error)
	}{
		{"external logins", b.logins.Advance},
		{"rotation of the certificate", b.rotation.Advance},
		{"renewal of the certificate", b.renewCertificate},
		{"notices of ending logins", b.warnOfLoginEnds},
		{"removal of ended sessions", b.dropSessions},
	} {
		var due time.Time
		var err error
		if panicked := background.Contain(logger, task.name, func() { due, err = task.do(ctx) }); panicked != nil {
			err = panicked
		}
		if err != nil && ctx.Err() == nil {
			logger.Warn("maintenance failed and will be repeated", "task", task.name, "error", err)
		}
		next = background.Earlier(next, due)
	}
	return next
}

// renewCertificate begins a rotation when the certificate's end comes near. due is when to call it
// again; zero where there is nothing to renew.
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

// renewalDue is when to renew a certificate ahead of its end: spread by a tenth, so that the
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
	const least = 15 * time.Minute
	pause := background.Backoff{Shortest: 6 * time.Hour, Longest: 72 * time.Hour}.Exact(failures - 1)
	return max(least, min(pause, left/8))
}

// loginNotice is how long before the end of an external login its notices begin; KSeF's logins last
// for seven days.
const loginNotice = 3 * 24 * time.Hour

// warnOfLoginEnds sends a daily notice of each external login that ends soon.
func (b *backend) warnOfLoginEnds(ctx context.Context) (time.Time, error) {
	sessions, err := b.externalSessions(ctx)
	if err != nil {
		return time.Time{}, err
	}
	for _, external := range sessions {
		taxpayer := external.Context.String()
		if time.Until(external.Refresh.ValidUntil) > loginNotice || !b.report.Daily(taxpayer) {
			continue
		}
		until := external.Refresh.ValidUntil.UTC().Format(time.RFC3339)
		b.Logger().Warn("an external login ends soon", "context", taxpayer, "until", until)
		b.events.Publish("login-expiring", "config", "context", taxpayer, "until", until)
	}
	return time.Time{}, nil
}

// externalSessions are those that the engine cannot renew by a login of its own.
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
	return slices.DeleteFunc(all, func(s session.Session) bool { return !s.External }), err
}

func (b *backend) dropSessions(ctx context.Context) (time.Time, error) {
	return time.Time{}, errors.Join(session.DropUnstored(ctx, b.storage), session.DropEnded(ctx, b.storage))
}
