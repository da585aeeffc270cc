// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/vault/sdk/logical"
)

// Vault unmounts in this order: it marks the mount as tainted, calls PeriodicFunc, revokes the
// leases that are stored at that moment, calls Clean, and deletes the mount's storage. Vault does
// not wait for requests routed before the mark, whose leases may be stored at any time. So issuing
// ends in PeriodicFunc, before Vault collects the leases; a token alive in Clean has no lease that
// Vault would revoke.
const (
	// endIssuingTimeout bounds the wait for the requests for tokens that are in flight.
	endIssuingTimeout = 10 * time.Second
	// lastRevocationsTimeout bounds the wait in Clean for KSeF's confirmations. While Clean runs no
	// other mount of the process is served.
	lastRevocationsTimeout = 10 * time.Second
	// leaseStoredAfter is how long Vault may take from a response to the stored lease.
	leaseStoredAfter = time.Second
	// loggedAtOnce is how many tokens one line of the log names.
	loggedAtOnce = 50
	// unmountMaxWait is how late the last revocation may be for a disable to succeed: Vault fails
	// it at a lease that waits longer.
	unmountMaxWait = 5 * time.Second

	causeUnmount = "its mount is being disabled or moved"
)

// unmounting is how far the unmount of a mount has come.
type unmounting struct {
	phase atomic.Int32
	// answered is when a token was last returned; nil for never.
	answered atomic.Pointer[time.Time]
}

const (
	mounted int32 = iota
	issuingEnded
	cleaning
)

func (u *unmounting) markAnswered() {
	now := time.Now()
	u.answered.Store(&now)
}

// followTaint ends issuing and begins to revoke all tokens once Vault has marked the mount as
// tainted, and resumes issuing when the mark is gone, as after a move. Vault's order is described
// above.
func (b *backend) followTaint(ctx context.Context) {
	if !b.System().Tainted() {
		b.resumeIssuing()
		return
	}
	if !b.unmounting.phase.CompareAndSwap(mounted, issuingEnded) {
		return
	}
	b.Logger().Info("the mount is tainted: no tokens are issued any more, and all of them are revoked", "mount_id", b.mountID(ctx))
	b.endIssuing(ctx)
	if err := b.ledger.RevokeAll(ctx, causeUnmount); err != nil {
		b.Logger().Error("not every token of the tainted mount could be read; what is left is revoked when its lease ends", "error", err)
	}
	// A move removes the mark, also where leases were lost before: the next process finds no taint.
	if err := b.ledger.RecordRevocations(ctx); err != nil {
		b.Logger().Error("revocations of the tainted mount are in progress and not all of them could be recorded; "+
			"if the process ends before KSeF confirms them, such a token is revoked when its lease ends", "error", err)
	}
	if answered := b.unmounting.answered.Load(); answered != nil {
		background.Sleep(ctx, leaseStoredAfter-time.Since(*answered))
	}
}

// resumeIssuing also has the tokens without a lease checked, which the unmount has revoked.
func (b *backend) resumeIssuing() {
	if b.unmounting.phase.CompareAndSwap(issuingEnded, mounted) {
		b.ledger.ResumeIssuing()
		b.holders.Recheck()
		b.access.Changed(nil)
	}
}

// admitIssue resumes issuing where the mount has been moved since it was tainted. Whatever hands
// out tokens calls it: PeriodicFunc comes only once a minute.
func (b *backend) admitIssue() {
	if b.unmounting.phase.Load() == issuingEnded && !b.System().Tainted() {
		b.resumeIssuing()
	}
}

// endIssuing ends the requests for tokens that are in flight. Each of them has a record, so that no
// token is lost if that takes too long.
func (b *backend) endIssuing(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endIssuingTimeout)
	defer cancel()
	if err := b.ledger.EndIssuing(ctx); err != nil {
		b.Logger().Error("requests for tokens are still in flight; what KSeF makes for them is not returned", "error", err)
	}
}

// endTokens ends issuing in Clean, and revokes the tokens of a tainted mount. If Vault unloads the
// mount without removing it, as at a seal or a reload, the tokens stay as they are.
func (b *backend) endTokens(ctx context.Context) {
	b.unmounting.phase.Store(cleaning)
	b.endIssuing(ctx)
	if !b.WriteSafeReplicationState() || !b.System().Tainted() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRevocationsTimeout)
	defer cancel()
	if err := b.ledger.RevokeAll(ctx, causeUnmount); err != nil {
		b.Logger().Error("not every token of the mount could be read", "mount_id", b.mountID(ctx), "error", err)
	}
	b.logUnconfirmed(ctx, b.ledger.AwaitRevocations(ctx))
	b.limiters.KeepWindows()
}

// logUnconfirmed logs what the mount may leave in KSeF: once its storage is deleted, only the log
// has it.
func (b *backend) logUnconfirmed(ctx context.Context, left ledger.Unconfirmed) {
	const (
		unconfirmed = "the mount is being unloaded while it is disabled or moved, and KSeF has not confirmed that these tokens are revoked: "
		text        = unconfirmed + "if the mount goes, another mount's tidy/former finds and revokes them by mount_id"
		imported    = unconfirmed + "they were imported and have no mark: if the mount goes, only their numbers lead to them; revoke them in KSeF"
	)
	id := b.mountID(ctx)
	unreadable, err := b.unreadable.Keys(ctx)
	if err != nil {
		b.Logger().Error("records of tokens that cannot be read could not be listed", "mount_id", id, "error", err)
	}
	unreadable = slices.DeleteFunc(unreadable, func(key string) bool { return !strings.HasPrefix(key, ledger.StoragePrefix) })
	for kind, all := range map[string][]string{
		"reference_numbers": left.ReferenceNumbers, "marks_of_lost_replies": left.Nonces, "unreadable_records": unreadable,
	} {
		for part := range slices.Chunk(all, loggedAtOnce) {
			b.Logger().Error(text, "mount_id", id, kind, part)
		}
	}
	for part := range slices.Chunk(left.Imported, loggedAtOnce) {
		b.Logger().Error(imported, "mount_id", id, "reference_numbers", part)
	}
}

// mountID returns the mount's id for the log: "" if there is none yet, or if it cannot be read.
func (b *backend) mountID(ctx context.Context) string {
	id, err := b.ledger.MountID(ctx)
	if err != nil {
		b.Logger().Warn("the mount's id could not be read", "error", err)
	}
	return id
}

// explainRevocation adds to a revocation that fails a disable what the operator can do. Vault stops
// at the first lease that fails; the engine revokes the tokens of all.
func (b *backend) explainRevocation(ctx context.Context, err error) error {
	var pending *ledger.PendingError
	if !errors.As(err, &pending) || !b.System().Tainted() {
		return err
	}
	b.followTaint(ctx)
	if failure.NeedsOperator(pending.Err) {
		return b.explainBlockedRevocation(ctx, pending)
	}
	end := b.ledger.RevocationsEnd()
	if pending.Next.After(end) {
		end = pending.Next
	}
	return fmt.Errorf("KSeF has yet to confirm the end of %s of this mount, which the engine revokes by itself within KSeF's limits. "+
		"Wait until about %s, then disable (or move) the mount again: %w",
		countTokens(max(b.ledger.Pending().Revoking, 1)), end.UTC().Format(time.RFC3339), err)
}

// explainBlockedRevocation is for a cause that lasts. A tainted mount takes no config, login or
// unknown_to_ksef any more, so that its leases can only be given up.
func (b *backend) explainBlockedRevocation(ctx context.Context, pending *ledger.PendingError) error {
	return fmt.Errorf("the token %s cannot be revoked as things are, and the mount answers no requests any more. "+
		"Remove the cause in KSeF and disable (or move) the mount again, or give its leases up (vault lease revoke -force -prefix <mount>/) and disable it: "+
		"what is then left in KSeF another mount revokes with tidy/former mount_id=%s: %w",
		pending.ReferenceNumber, b.mountID(ctx), pending)
}

// unmountWarning states how many tokens would make secrets disable fail; "" where KSeF's limits let
// all of them be revoked at once.
func (b *backend) unmountWarning(open ledger.Open) string {
	limits := ratelimit.StandardLimits()
	leased := open.Live + open.Revoking
	alive := leased + open.Static + open.Access
	last := b.lastRevocation(alive)
	if leased == 0 || (alive <= limits.PerMinute && time.Until(last) <= unmountMaxWait) {
		return ""
	}
	left := leftBehind(ledger.Open{Live: open.Live, Revoking: open.Revoking})
	return fmt.Sprintf("Not revoked: %s. Before vault secrets disable or move, end their leases (vault lease revoke -prefix <mount>/) "+
		"and wait until status shows none of either: KSeF lets %d a minute and %d an hour be revoked, the last of them now at %s or later, "+
		"and a mount whose disable has failed answers no requests until it is gone.",
		left, limits.PerMinute, limits.PerHour, last.UTC().Format(time.RFC3339))
}

// lastRevocation is when the last of count tokens in config's own context could be revoked.
func (b *backend) lastRevocation(count int) time.Time {
	current := b.connection.get()
	if current == nil || count == 0 {
		return time.Now()
	}
	target := ledger.Target{API: current.config.URL, Context: current.config.Context}
	return b.nextPermit(target, client.EndpointRevokeToken, count-1)
}

func countTokens(count int) string {
	if count == 1 {
		return "1 token"
	}
	return fmt.Sprintf("%d tokens", count)
}

// addUnmountStatus shows the mount's id, and warns of what would keep the mount from being
// disabled.
func (b *backend) addUnmountStatus(ctx context.Context, open ledger.Open, response *logical.Response) {
	id, err := b.ledger.MountID(ctx)
	switch {
	case err != nil:
		response.AddWarning(err.Error())
	case id != "":
		response.Data["mount_id"] = id
	}
	fields.AddWarnings(response, b.unmountWarning(open))
}

func (b *backend) warnOfUnmount(ctx context.Context, response *logical.Response) error {
	open, err := b.ledger.CountOpen(ctx)
	if err != nil {
		return err
	}
	fields.AddWarnings(response, b.unmountWarning(open), rolesWarning(open))
	return nil
}

// rolesWarning states which tokens cannot make secrets disable fail; "" for none.
func rolesWarning(open ledger.Open) string {
	left := leftBehind(ledger.Open{Static: open.Static, Access: open.Access})
	if left == "" {
		return ""
	}
	return fmt.Sprintf("Without a lease: %s. Before vault secrets disable, %s, and wait until status shows 0 for unleased_tokens and tokens_revoking: "+
		"Vault disables the mount although they live, and then only tidy/former of another mount, or the log, leads to those that KSeF has not let the engine revoke.",
		left, strings.Join(roleRemedies(open), ", "))
}
