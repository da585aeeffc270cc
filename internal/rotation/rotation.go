// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package rotation replaces a mount's credential with a KSeF certificate whose key is made here and
// never leaves. It decides the next step: obtain the certificate, log in with it, put it in force,
// revoke the one before. Each step is recorded before it is taken, so that a rotation continues
// after a crash.
package rotation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/enrollment"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

// Errors that Begin returns besides those of KSeF and storage.
var (
	// ErrInProgress says that another rotation has not ended.
	ErrInProgress = errors.New("a rotation is already in progress")
	// ErrNotKSeFs says that an automatic renewal found a certificate that KSeF has not issued.
	ErrNotKSeFs = errors.New("the certificate in force was not issued by KSeF")
)

// Config is the mount's configuration as a rotation uses it.
type Config interface {
	// InForce returns the credential in force and KSeF under its sessions.
	InForce(ctx context.Context) (InForce, error)
	// PlanCredential plans the change that puts a certificate in force. It may be the one in force
	// already.
	PlanCredential(ctx context.Context, certificate, privateKey string) (Change, error)
}

// InForce is the credential in force.
type InForce struct {
	// Certificate is nil where logins are signed externally.
	Certificate *x509.Certificate
	KSeF        Session
}

// Session is KSeF under a session of the credential in force.
type Session interface {
	enrollment.API
	// Signer returns as whom KSeF knows the signer: a type and an identifier.
	Signer(ctx context.Context) (string, error)
	// Ready logs in where there is no session.
	Ready(ctx context.Context) error
	// Subject is whose session it is.
	Subject() string
	// Supersede ends the sessions of the credential before.
	Supersede(ctx context.Context) error
}

// Change is a planned change of the configuration.
type Change interface {
	// Verify logs in with the planned credential.
	Verify(ctx context.Context) error
	// Commit puts the planned credential in force.
	Commit(ctx context.Context) error
	Close()
}

// Event is something that happened to a rotation.
type Event struct {
	Kind         string
	Name         string
	SerialNumber string
	Retired      string
	Automatic    bool
	// Err is why a kind that ends in "-fail" happened.
	Err error
}

// The kinds of event.
const (
	EventBegin  = "root-rotate-begin"
	EventRotate = "root-rotate"
	EventFail   = "root-rotate-fail"
)

// Options are what a Rotation works with.
type Options struct {
	Storage logical.Storage
	Config  Config
	// OnEvent is called for what happened.
	OnEvent func(Event)
	// OnUnreadable is called where the stored rotation cannot be read.
	OnUnreadable func(entry *logical.StorageEntry, err error)
	Logger       hclog.Logger
}

// Rotation takes one mount's credential from step to step. It is safe for concurrent use and has no
// goroutine of its own.
type Rotation struct {
	Options
	// lock admits one step at a time.
	lock *semaphore.Weighted

	mu   sync.Mutex
	pace pace
}

// New returns a rotation over the storage. It reads nothing yet.
func New(options Options) *Rotation {
	return &Rotation{Options: options, lock: semaphore.NewWeighted(1)}
}

// Request says what to rotate to.
type Request struct {
	enrollment.Request
	// Automatic renews only a certificate that KSeF has issued.
	Automatic bool
}

// Begin records a rotation and asks KSeF for the certificate. Where KSeF refuses, it leaves no
// record. Errors: ErrInProgress, ErrNotKSeFs, a *client.InputError where KSeF's limits or the
// signer forbid it, an *enrollment.LostReplyError, KSeF's error, or a fault of storage.
func (r *Rotation) Begin(ctx context.Context, request Request) error {
	release, err := r.Pause(ctx)
	if err != nil {
		return err
	}
	defer release()
	state, err := r.load(ctx)
	if err != nil {
		return err
	}
	if state.Current != nil {
		return ErrInProgress
	}
	r.resume()
	ksef, next, err := r.prepare(ctx, request)
	if err != nil {
		return r.notBegun(ctx, state, next, err)
	}
	state.Current = next
	if err := r.save(ctx, state); err != nil {
		return err
	}
	r.OnEvent(Event{Kind: EventBegin, Name: next.Name, Automatic: next.Automatic})
	return r.ask(ctx, ksef, state)
}

// Advance takes the steps that can be taken now. next is when to call it again, at the latest; zero
// where no rotation is in progress. The error is why the next step could not be taken.
func (r *Rotation) Advance(ctx context.Context) (next time.Time, err error) {
	release, err := r.Pause(ctx)
	if err != nil {
		return time.Now(), err
	}
	defer release()
	for {
		state, err := r.load(ctx)
		if err != nil {
			return r.later(err), err
		}
		if state.Current == nil {
			return time.Time{}, nil
		}
		if due, last := r.due(); due.After(time.Now()) {
			return due, last
		}
		before := state.Current.Step
		err = r.step(ctx, state)
		var unsettled *enrollment.UnsettledError
		switch {
		case errors.Is(err, errPending):
			r.poll()
		case errors.As(err, &unsettled):
			r.waitFor(unsettled.Wait, err)
		case err != nil && ctx.Err() != nil:
			return time.Now(), err
		case err != nil && state.Current != nil:
			r.Logger.Warn("a rotation has to wait", "step", before, "error", err)
			return r.later(err), err
		case err != nil:
			return time.Time{}, err
		default:
			r.resume()
		}
	}
}

// Await advances the rotation in progress until it has ended, has to wait after a failure, or ctx
// ends. The error is why it has failed; nil also while it is in progress.
func (r *Rotation) Await(ctx context.Context) error {
	for {
		next, err := r.Advance(ctx)
		switch {
		case next.IsZero() && err == nil:
			return r.lastError(ctx)
		case next.IsZero():
			return err
		case err != nil:
			return nil //nolint:nilerr // State returns it
		}
		deadline, bounded := ctx.Deadline()
		if (bounded && next.After(deadline)) || !background.Sleep(ctx, time.Until(next)) {
			return nil
		}
	}
}

// FailedError says how a rotation ended that another caller advanced.
type FailedError struct{ Text string }

func (e *FailedError) Error() string { return e.Text }

// lastError is why the last rotation failed; nil where it did not.
func (r *Rotation) lastError(ctx context.Context) error {
	state, err := r.load(ctx)
	if err != nil {
		return err
	}
	if state.Last == nil || state.Last.Error == "" {
		return nil
	}
	return &FailedError{Text: state.Last.Error}
}

// State is what can be shown of a rotation.
type State struct {
	// Step is "" where none is in progress.
	Step      Step
	Began     time.Time
	Automatic bool
	// Subject is who the certificate is for, and SubjectName its name in KSeF.
	Subject         string
	SubjectName     string
	Name            string
	ReferenceNumber string
	SerialNumber    string
	// Next and Err are when and why this process tries again.
	Next time.Time
	Err  error
	// Last is how the rotation before ended; nil for none.
	Last *Outcome
	// Made is the serial number of the certificate that the last successful rotation has put in
	// force; "" where it is not known.
	Made string
	// Unreadable is why it is not known whether a rotation is in progress; nil where it is known.
	Unreadable error
}

// State reads how far the rotation is.
func (r *Rotation) State(ctx context.Context) (*State, error) {
	state, err := r.load(ctx)
	if errors.Is(err, errUnreadable) {
		return &State{Unreadable: err}, nil
	}
	if err != nil {
		return nil, err
	}
	shown := &State{Last: state.Last, Made: state.made()}
	if current := state.Current; current != nil {
		shown.Step, shown.Began, shown.Automatic, shown.Name = current.Step, current.Began, current.Automatic, current.Name
		shown.Subject, shown.SubjectName = current.Subject, current.SubjectName
		shown.ReferenceNumber, shown.SerialNumber = current.ReferenceNumber, current.SerialNumber
		shown.Next, shown.Err = r.due()
	}
	return shown, nil
}

// Pause keeps every rotation from taking a step until release is called.
func (r *Rotation) Pause(ctx context.Context) (release func(), err error) {
	if err := r.lock.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for the rotation in progress: %w", err)
	}
	return func() { r.lock.Release(1) }, nil
}

// ErrAbandoned is why a rotation ended that a write of config has given up.
var ErrAbandoned = errors.New("the configuration was changed by force while the rotation was in progress")

// Abandon gives up the rotation in progress, and with it the new key unless that is in force
// already. The caller has paused the rotation. left says what stays in KSeF.
func (r *Rotation) Abandon(ctx context.Context) (left string, err error) {
	state, err := r.load(ctx)
	if errors.Is(err, errUnreadable) {
		left = "The rotation whose state could not be read was given up. If KSeF has issued a certificate for it, that is of no use: revoke it there."
		return left, r.save(ctx, &stored{Version: storedVersion, Last: &Outcome{At: time.Now().UTC(), Error: left}})
	}
	if err != nil || state.Current == nil {
		return "", err
	}
	left = "The rotation was given up. " + state.Current.left()
	return left, r.fail(ctx, state, fmt.Errorf("%w. %s", ErrAbandoned, left))
}

// left says what stays in KSeF of a rotation that is given up.
func (c *record) left() string {
	switch {
	case c.Step == StepRetire && c.PreviousSerial == "":
		return "Sessions of the credential before may still be open in KSeF, for 7 days at most."
	case c.Step == StepRetire:
		return "The certificate before, " + c.PreviousSerial + ", has not been revoked: if KSeF has issued it, revoke it there."
	case c.SerialNumber != "":
		return "Its certificate in KSeF, " + c.SerialNumber + ", is of no use: revoke it there."
	default:
		return "If KSeF still issues the certificate \"" + c.Name + "\", it is of no use: revoke it there."
	}
}

// fail ends a rotation that cannot succeed, and returns the cause.
func (r *Rotation) fail(ctx context.Context, state *stored, cause error) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	ended := state.Current
	ending := &stored{Version: storedVersion, Last: ended.failure(state)}
	ending.Last.Error = cause.Error()
	if err := r.save(ctx, ending); err != nil {
		return errors.Join(cause, err)
	}
	state.Current, state.Last = nil, ending.Last
	r.OnEvent(Event{Kind: EventFail, Name: ended.Name, SerialNumber: ended.SerialNumber, Automatic: ended.Automatic, Err: cause})
	if errors.Is(cause, ErrAbandoned) {
		return nil
	}
	return cause
}
