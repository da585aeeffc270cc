// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/enrollment"
)

// retireFor is how long KSeF may refuse to revoke the certificate before until the rotation ends
// without that.
const retireFor = 24 * time.Hour

// errPending says that KSeF has not decided yet.
var errPending = errors.New("KSeF has not issued the certificate yet")

// step takes the recorded step. A certificate that cannot be obtained ends the rotation.
func (r *Rotation) step(ctx context.Context, state *stored) (err error) {
	switch step := state.Current.Step; step {
	case StepEnroll:
		err = r.recoverEnrollment(ctx, state)
	case StepAwait:
		err = r.await(ctx, state)
	case StepProve:
		err = r.replace(ctx, state)
	case StepRetire:
		err = r.retire(ctx, state)
	default:
		err = fmt.Errorf("the rotation in progress is at the step %q, which this plugin does not know", step)
	}
	var final *enrollment.FinalError
	if errors.As(err, &final) {
		return r.fail(ctx, state, err)
	}
	return err
}

// prepare checks that the rotation may begin, and makes the key and the request. It returns a
// record besides an error where the subject is known.
func (r *Rotation) prepare(ctx context.Context, request Request) (Session, *record, error) {
	inForce, err := r.Config.InForce(ctx)
	if err != nil {
		return nil, nil, err
	}
	subject, err := inForce.KSeF.Signer(ctx)
	if err != nil {
		return nil, nil, err
	}
	next := &record{Step: StepEnroll, Began: time.Now().UTC(), Automatic: request.Automatic}
	next.Subject = subject
	if inForce.Certificate != nil {
		next.PreviousSerial, next.PreviousDigest = enrollment.SerialNumber(inForce.Certificate), enrollment.Digest(inForce.Certificate)
	}
	ksef := inForce.KSeF
	if err := ready(ctx, ksef, subject); err != nil {
		return nil, next, err
	}
	if request.Automatic {
		issued, err := enrollment.IsIssued(ctx, ksef, next.PreviousSerial, next.PreviousDigest)
		if err != nil {
			return nil, next, err
		}
		if !issued {
			return nil, next, ErrNotKSeFs
		}
	}
	return ksef, next, next.Prepare(ctx, ksef, request.Request)
}

// open returns the credential in force once the subject is logged in.
func (r *Rotation) open(ctx context.Context, subject string) (InForce, error) {
	inForce, err := r.Config.InForce(ctx)
	if err != nil {
		return InForce{}, err
	}
	return inForce, ready(ctx, inForce.KSeF, subject)
}

// ready logs in where there is no session, and refuses that of another subject, to whom KSeF would
// show no certificate of this one.
func ready(ctx context.Context, ksef Session, subject string) error {
	if err := ksef.Ready(ctx); err != nil {
		return err
	}
	if ksef.Subject() == subject {
		return nil
	}
	return &client.InputError{
		Field: "login", Fault: fmt.Sprintf("is that of %s, and the certificate is for %s", ksef.Subject(), subject),
		Remedy: "a rotation keeps the subject: have that one log in again, or wait until the other's login has ended",
	}
}

// notBegun remembers an automatic renewal that could not begin, so that it is not tried again too
// soon and the operator learns of it. That another has issued the certificate is no failure.
func (r *Rotation) notBegun(ctx context.Context, state *stored, next *record, cause error) error {
	if next == nil || !next.Automatic || ctx.Err() != nil {
		return cause
	}
	state.Last = next.failure(state)
	if !errors.Is(cause, ErrNotKSeFs) {
		state.Last.Error = cause.Error()
		r.OnEvent(Event{Kind: EventFail, Automatic: true, Err: cause})
	}
	if err := r.save(ctx, state); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}

// ask sends the recorded request for the first time. It ends the rotation unless KSeF has got the
// request, or may have got it.
func (r *Rotation) ask(ctx context.Context, ksef Session, state *stored) error {
	err := state.Current.Ask(ctx, ksef)
	var lost *enrollment.LostReplyError
	switch {
	case errors.As(err, &lost):
		return err
	case err != nil:
		return r.fail(ctx, state, err)
	}
	return r.asked(ctx, state)
}

func (r *Rotation) asked(ctx context.Context, state *stored) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	state.Current.Step = StepAwait
	return r.save(ctx, state)
}

// recoverEnrollment finds out what became of a request whose reply was lost, and sends it again
// where KSeF never got it.
func (r *Rotation) recoverEnrollment(ctx context.Context, state *stored) error {
	inForce, err := r.open(ctx, state.Current.Subject)
	if err != nil {
		return err
	}
	serial, err := state.Current.Recover(ctx, inForce.KSeF)
	switch {
	case err != nil:
		return err
	case serial != "":
		return r.fetch(ctx, inForce.KSeF, state, serial)
	}
	if err := r.save(ctx, state); err != nil {
		return err
	}
	if err := state.Current.Ask(ctx, inForce.KSeF); err != nil {
		return err
	}
	return r.asked(ctx, state)
}

// await asks whether KSeF has decided, and fetches the certificate.
func (r *Rotation) await(ctx context.Context, state *stored) error {
	current := state.Current
	inForce, err := r.open(ctx, current.Subject)
	if err != nil {
		return err
	}
	serial, err := current.Await(ctx, inForce.KSeF)
	switch {
	case errors.Is(err, enrollment.ErrForgotten):
		current.Step, current.ReferenceNumber = StepEnroll, ""
		return r.save(ctx, state)
	case err != nil:
		return err
	case serial == "":
		return errPending
	}
	return r.fetch(ctx, inForce.KSeF, state, serial)
}

// fetch records the certificate beside the one in force.
func (r *Rotation) fetch(ctx context.Context, ksef Session, state *stored, serial string) error {
	if err := state.Current.Fetch(ctx, ksef, serial); err != nil {
		return err
	}
	state.Current.Step = StepProve
	return r.save(ctx, state)
}

// replace logs in with the new certificate and puts it in force. KSeF may refuse a certificate that
// it has just issued as not yet valid: that passes.
func (r *Rotation) replace(ctx context.Context, state *stored) error {
	current := state.Current
	change, err := r.Config.PlanCredential(ctx, current.Certificate, current.PrivateKey)
	if err != nil {
		return current.notProven(err)
	}
	defer change.Close()
	if err := change.Verify(ctx); err != nil {
		return current.notProven(err)
	}
	if err := change.Commit(ctx); err != nil {
		return err
	}
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	current.Step, current.PrivateKey, current.CSR = StepRetire, "", nil
	return r.save(ctx, state)
}

func (c *record) notProven(err error) error {
	return fmt.Errorf("the new certificate %s cannot log in yet, the one before stays in force: %w", c.SerialNumber, err)
}

// retire revokes the certificate before, where KSeF has issued it, and ends its sessions.
func (r *Rotation) retire(ctx context.Context, state *stored) error {
	current := state.Current
	inForce, err := r.open(ctx, current.Subject)
	if err != nil {
		return err
	}
	outcome := current.outcome()
	if inForce.Certificate != nil && enrollment.Digest(inForce.Certificate) == current.PreviousDigest {
		// A write of config has put it back while its revocation was pending.
		outcome.Warning = "the certificate before, " + current.PreviousSerial + ", is in force again and was not revoked"
	} else if err := r.revokePrevious(ctx, inForce.KSeF, current, outcome); err != nil {
		return err
	}
	if err := inForce.KSeF.Supersede(ctx); err != nil {
		return fmt.Errorf("ending the sessions of the credential before: %w", err)
	}
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	outcome.At = time.Now().UTC()
	if err := r.save(ctx, &stored{Version: storedVersion, Last: outcome}); err != nil {
		return err
	}
	r.OnEvent(Event{Kind: EventRotate, Name: outcome.Name, SerialNumber: outcome.SerialNumber, Retired: outcome.Retired, Automatic: outcome.Automatic})
	return nil
}

// revokePrevious revokes the certificate before as superseded, and sets the outcome's Retired.
// After a day it accepts KSeF's refusal with a warning.
func (r *Rotation) revokePrevious(ctx context.Context, ksef Session, current *record, outcome *Outcome) error {
	issued, err := enrollment.IsIssued(ctx, ksef, current.PreviousSerial, current.PreviousDigest)
	if err == nil && issued {
		err = enrollment.Revoke(ctx, ksef, current.PreviousSerial)
	}
	switch {
	case err != nil && client.IsFinal(err) && time.Since(current.Began) > retireFor:
		outcome.Warning = fmt.Sprintf("the certificate before was not revoked in KSeF, and can still log in: %v", err)
		return nil
	case err == nil && issued:
		outcome.Retired = current.PreviousSerial
	}
	return err
}
