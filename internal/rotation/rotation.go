// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package rotation replaces a mount's credential by a KSeF certificate whose key is made here and
// never leaves. It has KSeF certify the key, stores the pair beside the credential in force, proves
// it by a login, puts it in force and retires the one before. Every step is recorded before it is
// taken, so that a rotation goes on from there whoever has died meanwhile.
package rotation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

// Errors that Begin returns besides those of KSeF and storage.
var (
	// ErrInProgress says that a rotation has begun before and has not ended.
	ErrInProgress = errors.New("a rotation is already in progress")
	// ErrNotKSeFs says that the credential in force is not a certificate that KSeF has issued,
	// where only such a one was to be renewed.
	ErrNotKSeFs = errors.New("the certificate in force was not issued by KSeF")
)

// Credential is a certificate and its private key, both PEM.
type Credential struct {
	Certificate, PrivateKey string
}

// Current is the credential in force.
type Current struct {
	// Subject is as whom KSeF sees the signer: a type and an identifier.
	Subject string
	// Certificate is nil where a person signs outside of Vault.
	Certificate *x509.Certificate
}

// Upstream is KSeF under a session of the credential in force.
type Upstream interface {
	// Ready makes sure that there is a session.
	Ready(ctx context.Context) error
	// Subject is whose session it is.
	Subject() string
	CertificateLimits(ctx context.Context) (*client.CertificateLimits, error)
	EnrollmentData(ctx context.Context) (*client.EnrollmentData, error)
	Enroll(ctx context.Context, request client.EnrollmentRequest) (referenceNumber string, err error)
	Enrollment(ctx context.Context, referenceNumber string) (*client.Enrollment, error)
	RetrieveCertificate(ctx context.Context, serialNumber string) (*x509.Certificate, error)
	QueryCertificates(ctx context.Context, query client.CertificateQuery) (*client.CertificatePage, error)
	RevokeCertificate(ctx context.Context, serialNumber, reason string) error
}

// Mount is what a rotation asks of the mount whose credential it replaces.
type Mount interface {
	Current(ctx context.Context) (*Current, error)
	Upstream(ctx context.Context) (Upstream, error)
	// Prove logs in with a credential that is not in force.
	Prove(ctx context.Context, credential Credential) error
	// Switch puts a proven credential in force. It may be called again with the same one.
	Switch(ctx context.Context, credential Credential) error
	// Supersede ends the sessions of the credential before.
	Supersede(ctx context.Context) error
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
	Mount   Mount
	// OnEvent is called for what happened; nil is allowed.
	OnEvent func(Event)
	// OnUnreadable is called where the stored rotation cannot be read; nil is allowed.
	OnUnreadable func(entry *logical.StorageEntry, err error)
	Logger       hclog.Logger
}

// Rotation takes one mount's credential from step to step. It is safe for concurrent use and has no
// goroutine of its own.
type Rotation struct {
	Options
	// turn is held by whoever takes a step.
	lock *semaphore.Weighted

	mu   sync.Mutex
	pace pace
}

// New returns a rotation over the storage. It reads nothing yet.
func New(options Options) *Rotation {
	if options.OnEvent == nil {
		options.OnEvent = func(Event) {}
	}
	if options.OnUnreadable == nil {
		options.OnUnreadable = func(*logical.StorageEntry, error) {}
	}
	if options.Logger == nil {
		options.Logger = hclog.NewNullLogger()
	}
	return &Rotation{Options: options, lock: semaphore.NewWeighted(1)}
}

// Request says what to rotate to.
type Request struct {
	KeyType KeyType
	// Name begins the certificate's name in KSeF. CheckName accepts it.
	Name string
	// Automatic renews a certificate that KSeF has issued, and nothing else.
	Automatic bool
}

// Begin records a rotation and asks KSeF for the certificate. Where KSeF refuses, nothing is left
// of it. Errors: ErrInProgress, ErrNotKSeFs, a *client.InputError where KSeF's limits or the signer
// forbid it, a *LostReplyError where it is not known whether KSeF has got the request, what KSeF
// answers, or a fault of storage.
func (r *Rotation) Begin(ctx context.Context, request Request) error {
	if err := r.lock.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for the rotation in progress: %w", err)
	}
	defer r.lock.Release(1)
	state, err := r.load(ctx)
	if err != nil {
		return err
	}
	if state.Current != nil {
		return ErrInProgress
	}
	r.resume()
	api, next, err := r.prepare(ctx, request)
	if err != nil {
		return r.notBegun(ctx, state, next, err)
	}
	state.Current = next
	if err := r.save(ctx, state); err != nil {
		return err
	}
	r.OnEvent(Event{Kind: EventBegin, Name: next.Name, Automatic: next.Automatic})
	return r.ask(ctx, api, state, false)
}

// Advance takes the steps that can be taken now. next is when it wants to be called again, at the
// latest; zero says that no rotation is in progress. The error is why the next step could not be
// taken.
func (r *Rotation) Advance(ctx context.Context) (next time.Time, err error) {
	if err := r.lock.Acquire(ctx, 1); err != nil {
		return time.Now(), fmt.Errorf("waiting for the rotation in progress: %w", err)
	}
	defer r.lock.Release(1)
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
		wait, err := r.step(ctx, state)
		var pause *pauseError
		if errors.As(err, &pause) {
			r.waitFor(wait, err)
			continue
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return time.Now(), err
		case err != nil && state.Current != nil:
			r.Logger.Warn("a rotation has to wait", "step", before, "error", err)
			return r.later(err), err
		case err != nil:
			return time.Time{}, err
		case wait > 0:
			r.waitFor(wait, nil)
		default:
			r.resume()
		}
	}
}

// Await carries the rotation in progress on until it has ended, has to wait after a failure, or ctx
// ends. ended is false where it goes on later. The error is why it came to nothing.
func (r *Rotation) Await(ctx context.Context) (ended bool, err error) {
	for {
		next, err := r.Advance(ctx)
		switch {
		case next.IsZero() && err == nil:
			return true, r.lastError(ctx)
		case next.IsZero():
			return true, err
		case err != nil:
			return false, nil //nolint:nilerr // State tells it
		}
		if deadline, bounded := ctx.Deadline(); bounded && next.After(deadline) {
			return false, nil
		}
		if !background.Sleep(ctx, time.Until(next)) {
			return false, nil
		}
	}
}

// pauseError is why a step waits without having failed.
type pauseError struct{ text string }

func (e *pauseError) Error() string { return e.text }

// FailedError is how a rotation ended that somebody else has carried on.
type FailedError struct{ Text string }

func (e *FailedError) Error() string { return e.Text }

// lastError is why the last rotation came to nothing; nil where it did not.
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

func (r *Rotation) step(ctx context.Context, state *stored) (wait time.Duration, err error) {
	switch state.Current.Step {
	case StepEnroll:
		return r.search(ctx, state)
	case StepAwait:
		return r.await(ctx, state)
	case StepProve:
		return r.prove(ctx, state)
	case StepRetire:
		return 0, r.retire(ctx, state)
	}
	return 0, fmt.Errorf("the rotation in progress is at the step %q, which this plugin does not know", state.Current.Step)
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
	// Made is the serial number of the certificate that the last rotation with success has put in
	// force; "" where none is known.
	Made string
	// Unreadable is why it is not known whether one is in progress; nil where it is.
	Unreadable error
}

// State reads how far the rotation is.
func (r *Rotation) State(ctx context.Context) (*State, error) {
	state, err := r.load(ctx)
	if isUnreadable(err) {
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

// Abandon gives the rotation in progress up, and with it the new key unless that is in force
// already. It is for whoever holds it. left says what is valid in KSeF and of no use.
func (r *Rotation) Abandon(ctx context.Context) (left string, err error) {
	state, err := r.load(ctx)
	if isUnreadable(err) {
		return r.abandonUnreadable(ctx)
	}
	if err != nil || state.Current == nil {
		return "", err
	}
	switch current := state.Current; {
	case current.Step == StepRetire && current.PreviousSerial == "":
		left = "The rotation was given up. Sessions of the credential before may still be open in KSeF, for 7 days at most."
	case current.Step == StepRetire:
		left = "The rotation was given up. The certificate before, " + current.PreviousSerial + ", has not been revoked: if KSeF has issued it, revoke it there."
	case current.SerialNumber != "":
		left = "The rotation was given up. Its certificate in KSeF, " + current.SerialNumber + ", is of no use: revoke it there."
	default:
		left = "The rotation was given up. If KSeF still issues the certificate \"" + current.Name + "\", it is of no use: revoke it there."
	}
	return left, r.fail(ctx, state, fmt.Errorf("%w. %s", ErrAbandoned, left))
}

// ErrAbandoned is why a rotation ended that a write of config has given up.
var ErrAbandoned = errors.New("the configuration was changed by force while the rotation was in progress")

// fail ends a rotation that can lead to nothing, and returns the cause.
func (r *Rotation) fail(ctx context.Context, state *stored, cause error) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	ended := state.Current
	ending := &stored{Version: storedVersion, Last: ended.outcome(state)}
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
