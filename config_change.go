// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/consent"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/report"
	"vault-plugin-secrets-ksef/internal/session"
)

// configRequest is what a write or delete of config, or a rotation, asks for.
type configRequest struct {
	// apply returns the next configuration; nil deletes the current one.
	apply func(current *config) (*config, error)
	force consent.Set
	// verify=false leaves the proof out.
	verify     bool
	mountPoint string
	// byRotation says that a rotation asks for a certificate that the engine has made. It admits
	// one step at a time by itself, and needs no consent.
	byRotation bool
}

// configChange is a planned change of the configuration, by a write, a delete or a rotation. Until
// Close no other change is made, and no token is issued that the change could strand.
type configChange struct {
	configRequest
	backend *backend
	// current is nil where there is no configuration that can be read, and next for a delete.
	current, next *config
	// previous and built are the connections of current and next.
	previous, built *connection
	// nothingToDelete says that there was nothing to delete.
	nothingToDelete bool
	// abandon says that the rotation in progress is given up.
	abandon bool

	// unproven is why Verify has proven nothing; "" for a proof.
	unproven string
	warnings []string
	closers  []func()
}

// changeConfig plans, verifies and commits a change of the configuration.
func (b *backend) changeConfig(ctx context.Context, request configRequest) (*configChange, error) {
	change, err := b.planConfig(ctx, request)
	if err != nil {
		return nil, err
	}
	defer change.Close()
	if err := change.Verify(ctx); err != nil {
		return nil, err
	}
	return change, change.Commit(ctx)
}

// planConfig plans the change that is asked for. It refuses what needs a consent that the request
// does not give. The caller calls Close.
func (b *backend) planConfig(ctx context.Context, request configRequest) (*configChange, error) {
	change := &configChange{configRequest: request, backend: b}
	if err := change.plan(ctx); err != nil {
		change.Close()
		return nil, err
	}
	return change, nil
}

func (c *configChange) plan(ctx context.Context) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	// A write replaces the whole of a configuration that cannot be read; its sessions are lost.
	var unreadable *unreadableConfigError
	current, readErr := readConfig(ctx, c.backend.storage)
	if readErr != nil && (c.byRotation || !errors.As(readErr, &unreadable)) {
		return readErr
	}
	c.current = current
	switch {
	case c.apply != nil:
		next, err := c.apply(current)
		if err != nil {
			return errors.Join(err, readErr)
		}
		c.next = next
	case unreadable != nil:
		if err := guardUnreadable(unreadable, c.force); err != nil {
			return err
		}
	case current == nil:
		c.nothingToDelete = true
		return nil
	}
	if !c.byRotation {
		if err := c.guard(ctx); err != nil {
			return err
		}
	}
	if c.next == nil {
		return nil
	}
	return c.buildNext(ctx)
}

// lock keeps rotations and other changes out, and connections from being built.
func (c *configChange) lock(ctx context.Context) error {
	if !c.byRotation {
		resume, err := c.backend.rotation.Pause(ctx)
		if err != nil {
			return err
		}
		c.onClose(resume)
	}
	if err := c.backend.connection.lock.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for the configuration: %w", err)
	}
	c.onClose(func() { c.backend.connection.lock.Release(1) })
	return nil
}

// buildNext builds the connection of next. Where the change is not made, the connection in force
// ends the logins that proved it. A rotation keeps its login for the next attempt.
func (c *configChange) buildNext(ctx context.Context) (err error) {
	if c.byRotation {
		// Other requests continue under the credential in force while the new one logs in; one
		// that cannot be used serves none.
		_, _ = c.backend.connectLocked(ctx)
	}
	c.previous = c.backend.connection.get()
	if c.previous == nil || c.byRotation {
		c.built, err = c.backend.build(c.next)
		return err
	}
	c.previous.sessions.SaveUnstored(ctx)
	if c.built, err = c.backend.build(c.next); err != nil {
		return err
	}
	c.onClose(func() {
		if current := c.backend.connection.get(); current != nil && current != c.built {
			current.sessions.TakeUnstored(context.WithoutCancel(ctx), c.built.sessions)
		}
	})
	return nil
}

func (c *configChange) onClose(do func()) { c.closers = append(c.closers, do) }

// Close releases what the plan has locked.
func (c *configChange) Close() {
	for _, do := range slices.Backward(c.closers) {
		do()
	}
	c.closers = nil
}

func (c *configChange) warn(warning string) {
	if warning != "" {
		c.warnings = append(c.warnings, warning)
	}
}

// Verify proves that next works: by a login, or by a refresh where only other settings change. With
// allowed_ips it first asks KSeF from where it sees this node.
func (c *configChange) Verify(ctx context.Context) (err error) {
	switch {
	case c.next == nil:
		return nil
	case c.byRotation:
		return c.built.sessions.Prove(ctx, c.next.Context)
	case !c.verify, c.onlyAbandons():
		c.unproven = "The configuration was stored without logging in to KSeF; the first token will show whether it works."
		return nil
	}
	if c.unproven, err = c.built.prove(ctx, c.current); err != nil {
		return notStored(err)
	}
	return nil
}

// onlyAbandons says that the change only gives up a rotation, so that a login would prove nothing
// new.
func (c *configChange) onlyAbandons() bool {
	return c.abandon && c.current != nil && !invalidatesSessions(c.current, c.next)
}

// notStored distinguishes what does not work from what could not be found out.
func notStored(err error) error {
	if failure.IsInconclusive(err) {
		return fmt.Errorf("the configuration was not stored, because KSeF could not be asked whether it works (verify=false stores it unasked): %w", err)
	}
	return fmt.Errorf("the configuration was not stored, because it does not work: %w", err)
}

// prove logs in, or refreshes the session that there is. unproven says why nothing was proven; ""
// for a proof.
func (c *connection) prove(ctx context.Context, before *config) (unproven string, err error) {
	if err := c.proveAddress(ctx); err != nil {
		return "", err
	}
	known, err := c.sessions.Known(ctx, c.config.Context)
	external := c.config.signing() == signingExternal
	switch {
	case err != nil:
		return "", err
	case external && known == nil:
		return notLoggedIn, nil
	case external, before != nil && !invalidatesSessions(before, c.config) && (known == nil || !known.External):
		return acceptUnproven(before, c.config, c.sessions.RefreshOrLogin(ctx, c.config.Context))
	}
	// An external login does not prove the certificate.
	return "", c.sessions.Login(ctx, c.config.Context)
}

// acceptUnproven accepts addresses from which an external login cannot be used: only once they are
// stored can another be signed for them.
func acceptUnproven(before, next *config, err error) (unproven string, failed error) {
	var refused *session.AddressError
	if !errors.As(err, &refused) || !refused.External || before == nil || slices.Equal(before.AllowedIPs, next.AllowedIPs) {
		return "", err
	}
	return "The configuration was stored unproven: " + err.Error(), nil
}

// invalidatesSessions says that next cannot use the sessions of the configuration before; false
// where there was none.
func invalidatesSessions(before, next *config) bool {
	return before != nil && before.fingerprint() != next.fingerprint()
}

// Commit stores the change and puts it in force. Where it fails, what is stored is in force.
func (c *configChange) Commit(ctx context.Context) error {
	if c.nothingToDelete {
		return nil
	}
	if err := c.store(ctx); err != nil {
		if open := c.discard(ctx); open != nil {
			err = fmt.Errorf("%w; the login that proved it may still be open: %v", err, open) //nolint:errorlint // its kind must not decide the status
		}
		return err
	}
	switch b := c.backend; {
	case c.next == nil:
		c.warnOfOpen(b.access.EndAll(ctx))
		c.endSessions(ctx, true)
		b.connection.replace(nil)
	case c.byRotation:
		b.connection.replace(c.built)
		b.access.Moved()
		if c.previous != nil {
			// Requests in progress continue under the new credential.
			c.previous.sessions.ReplaceWith(c.built.sessions)
		}
		b.ledger.Retry()
	default:
		c.putInForce(ctx)
	}
	return nil
}

// store registers the rotation with Vault, gives up the one in progress, and writes the
// configuration.
func (c *configChange) store(ctx context.Context) error {
	b := c.backend
	if !c.byRotation {
		if err := b.registerRotation(ctx, c.current, c.next, c.mountPoint); err != nil {
			return err
		}
	}
	if c.abandon {
		left, err := b.rotation.Abandon(ctx)
		if err != nil {
			return err
		}
		c.warn(left)
	}
	err := c.write(ctx)
	if err != nil {
		c.readStored(ctx)
	}
	return err
}

func (c *configChange) write(ctx context.Context) error {
	if c.next != nil {
		return c.next.store(ctx, c.backend.storage)
	}
	if err := c.backend.storage.Delete(ctx, configKey); err != nil {
		return fmt.Errorf("deleting the configuration: %w", err)
	}
	return nil
}

// readStored puts in force what is stored: a write that has failed may be done all the same.
func (c *configChange) readStored(ctx context.Context) {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	c.backend.connection.replace(nil)
	_, _ = c.backend.connectLocked(ctx) // where it fails, the next request reads it
	c.follow()
}

// follow has the parts follow the configuration in force.
func (c *configChange) follow() {
	b := c.backend
	if c.byRotation {
		b.access.Moved()
	} else {
		b.access.Changed(nil)
	}
	b.holders.Invalidate()
	b.holders.RetryNow()
	b.ledger.Retry()
	b.maintenance.Wake()
}

// discard ends the login that has proven a configuration which is not stored after all. A rotation
// uses its login with the next attempt.
func (c *configChange) discard(ctx context.Context) error {
	if c.built == nil || c.byRotation || (c.current != nil && !invalidatesSessions(c.current, c.next)) {
		return nil
	}
	return c.built.sessions.End(ctx, false)
}

// putInForce ends the sessions of another signer or API, and replaces the connection.
func (c *configChange) putInForce(ctx context.Context) {
	b := c.backend
	elsewhere := c.current != nil && c.current.api() != c.next.api()
	if elsewhere {
		c.warnOfOpen(b.access.EndAll(ctx))
	}
	if invalidatesSessions(c.current, c.next) {
		c.endSessions(ctx, elsewhere)
	}
	if err := c.built.sessions.Save(ctx, c.next.Context); err != nil {
		c.warn(fmt.Sprintf("The login works, but could not be stored; the next start logs in anew: %v", err))
	}
	b.connection.replace(c.built)
	if err := b.limiters.OpenOwn(ctx, c.next.URL, c.next.Context); err != nil {
		b.Logger().Warn("the state of KSeF's request limits is read with the first request", "error", err)
	}
	c.follow()
	b.resolveNotices(c.current, c.next, c.unproven)
	if c.next.signing() == signingCertificate && c.unproven == "" {
		// An external login of the same subject is no longer needed.
		c.warnOfOpen(c.built.sessions.Supersede(ctx))
	}
	c.warn(c.unproven)
	c.warn(b.report.FreshWarning())
}

// resolveNotices ends the notices of failures that a new configuration has ended: of a login that
// was proven, of one for the former taxpayer, and of a rotation of the former certificate.
func (b *backend) resolveNotices(before, next *config, unproven string) {
	if before != nil && before.Context != next.Context {
		b.report.SetOutcome(report.Activity{Kind: report.Login, Taxpayer: before.Context}, nil)
	}
	if unproven == "" {
		b.report.SetOutcome(report.Activity{Kind: report.Login, Taxpayer: next.Context}, nil)
	}
	if invalidatesSessions(before, next) {
		b.report.SetOutcome(report.Activity{Kind: report.Rotation}, nil)
	}
}

// endSessions ends the sessions of current, also where its connection is not in memory; with all
// set, whatever is open in its KSeF.
func (c *configChange) endSessions(ctx context.Context, all bool) {
	if c.current == nil {
		return
	}
	connected := c.backend.connection.get()
	if connected == nil || connected.config.fingerprint() != c.current.fingerprint() {
		built, err := c.backend.build(c.current)
		if err != nil {
			c.warnOfOpen(err)
			return
		}
		connected = built
	}
	c.warnOfOpen(connected.sessions.End(ctx, all))
}

// warnOfOpen warns of sessions that could not be ended; err is nil where all were.
func (c *configChange) warnOfOpen(err error) {
	if err != nil {
		c.warn(fmt.Sprintf("A session that the engine no longer uses may still be open in KSeF until it ends by itself, after 7 days at most: %v", err))
	}
}
