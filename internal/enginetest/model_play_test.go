// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// run plays a scenario. Requests run beside one another, as users make them.
type run struct {
	*Cluster
	users sync.WaitGroup
	// cutOff counts requests for a token whose outcome Vault never learned.
	cutOff atomic.Int64
	// tight is set if KSeF's limits are lower than documented. The engine knows them only in the
	// context in which it has asked, and only there does a mount know what others have sent before
	// it sends.
	tight bool
	// strayed is about the contexts of config and tokens, outlived about active tokens that no one
	// was going to revoke when their mount had been moved.
	strayed  strayed
	outlived broken
	unleased unleasedRun
	answered *atomic.Int64 // access tokens and static tokens
}

// play returns the first broken promise.
func (r *run) play(steps []step) error {
	for _, c := range steps {
		r.do(c)
		r.Elapse(c.Then)
		if err := errors.Join(r.broken(), r.strayed.get(), r.outlived.get(), r.unleased.dead.get()); err != nil {
			return err
		}
	}
	return r.calm()
}

// calm ends all faults, and lets the engine, KSeF's hourly limits and Vault's daily attempts come
// to their ends: first for the short leases, then for all. Nothing may remain then.
func (r *run) calm() error {
	r.Network.Recover()
	r.KSeF.ClearFaults()
	for _, storage := range r.Storages {
		storage.Fail(StorageWorks, "")
	}
	if process, _ := r.Engine.current(); process != nil {
		process.watch(neverCrash)
	}
	r.Elapse(3 * time.Hour) // whatever process is to come runs then
	r.configureAll()
	if err := r.endHolders(); err != nil {
		return err
	}
	for range 20 {
		r.Elapse(3 * time.Hour)
		if err := errors.Join(r.broken(), r.strayed.get(), r.outlived.get(), r.unleased.dead.get()); err != nil {
			return err
		}
	}
	if err := r.unsettled(int(r.cutOff.Load())); err != nil {
		return err
	}
	if err := errors.Join(r.useSessions(r.contexts()...), r.sessionsLeft()); err != nil {
		return err
	}
	r.Elapse(20 * 24 * time.Hour)
	return errors.Join(r.unsettled(0), r.leftovers())
}

// sessionsLeft is nil after storage failures: a session whose tokens and number could not be stored
// is lost with the process.
func (r *run) sessionsLeft() error {
	if r.Network.mayLoseBlocks() {
		return nil
	}
	return r.sessionsPiledUp()
}

func (r *run) do(c step) {
	v := r.Vaults[c.Pick%len(r.Vaults)]
	switch c.Do {
	case anIssue:
		for range c.Count {
			r.user(func(ctx context.Context) { r.issue(ctx, v, c.Where, c.For) })
		}
	case aLeaving:
		r.user(func(ctx context.Context) { r.issue(leaving(ctx, c.For), v, c.Where, 240*time.Hour) })
	case aTidy:
		r.user(func(ctx context.Context) {
			_, _ = v.Request(ctx, func(m *Mount) (*logical.Response, error) {
				return m.Write("tidy", map[string]any{"dry_run": false})
			})
		})
	case aDropping:
		r.user(func(ctx context.Context) { r.dropConfig(ctx, v) })
	case aMove:
		r.users.Go(func() { r.move(v) })
	case aChange:
		r.user(func(ctx context.Context) { r.changeContext(ctx, v, c.Where, c.How == byForce) })
	case aRenewal, anEnd, aDeletion:
		r.doToLease(c)
	case aRole, aStaticRole, aRead, anAbuse, aRotation, anImport:
		r.user(func(ctx context.Context) { r.doUnleased(ctx, v, c) })
	default:
		r.doToEnv(c)
	}
}

func (r *run) doToLease(c step) {
	v := r.Vaults[c.Pick%len(r.Vaults)]
	leases := v.all()
	if len(leases) == 0 {
		return
	}
	lease := leases[c.Pick%len(leases)]
	switch c.Do {
	case aRenewal:
		r.user(func(context.Context) { _ = v.Renew(lease, c.For) })
	case anEnd:
		v.End(lease)
	case aDeletion:
		r.user(func(context.Context) { _ = v.Delete(lease) })
	}
}

func (r *run) doUnleased(ctx context.Context, v *Vault, c step) {
	switch c.Do {
	case aRole:
		r.writeRole(ctx, v, "roles/program", c.How, accessRoles)
	case aStaticRole:
		r.writeRole(ctx, v, "static-roles/erp", c.How, staticRoles)
	case aRead:
		if !r.tight {
			_, _ = r.read(ctx, v, c.Where)
		}
	case anAbuse:
		if !r.tight {
			r.abuse(ctx, v, c.Where, c.How)
		}
	case aRotation:
		r.rotate(ctx, v, c.Where, c.How == byForce)
	case anImport:
		r.importToken(ctx, v, c.How)
	}
}

func (r *run) doToEnv(c step) {
	switch c.Do {
	case aCrash:
		r.crash(c)
	case aRestart:
		if process, _ := r.Engine.current(); process != nil {
			r.Engine.Stop()
			r.Engine.Start()
		}
	case anOutage:
		r.Network.Set(Outage(c.How))
		time.AfterFunc(c.For, func() { r.Network.Set(Reachable) })
	case aBlock:
		for range c.Count {
			r.Network.refuse(busy{c.Where, c.For})
		}
	case aFault:
		r.Fault(faultOf(c))
	case aJump:
		r.KSeF.Advance(c.For)
		r.unleased.jump(c.For)
	case aStorageFailure:
		r.Network.allowLostBlocks()
		storage := r.Storages[c.Pick%len(r.Storages)]
		storage.Fail(StorageFailure(c.How), c.Where)
		time.AfterFunc(c.For, func() { storage.Fail(StorageWorks, "") })
	}
}

// crash ends the process at a point to come; at 0 at once.
func (r *run) crash(c step) {
	process, _ := r.Engine.current()
	if process == nil {
		return
	}
	r.Engine.setDowntime(c.For)
	r.Engine.setLoadOrder(c.Pick, r.gap(c))
	if c.Count == 0 {
		process.end()
		return
	}
	left := c.Count
	process.watch(func(point) moment {
		if left--; left > 0 {
			return noCrash
		}
		return moment(c.How)
	})
}

// gap is 0 after storage failures: the second mount then starts without what the first could not
// store in its journal.
func (r *run) gap(c step) time.Duration {
	if c.Where != oneByOne || r.Network.mayLoseBlocks() {
		return 0
	}
	return 10 * time.Second
}

// dropConfig deletes a mount's config, if no token is open, and writes it again.
func (r *run) dropConfig(ctx context.Context, v *Vault) {
	_, err := v.Request(ctx, func(m *Mount) (*logical.Response, error) { return m.Delete("config") })
	if err == nil {
		r.configure(ctx, v)
	}
}

func (r *run) configure(ctx context.Context, v *Vault) {
	fields := r.ConfigFields()
	fields["allowed_contexts"] = []string{UnitID, NIP, SecondNIP}
	_, _ = v.Request(ctx, func(m *Mount) (*logical.Response, error) { return m.Write("config", fields) })
}

func (r *run) configureAll() {
	for _, v := range r.Vaults {
		r.configure(r.T.Context(), v)
	}
}

func (r *run) user(do func(ctx context.Context)) {
	r.users.Go(func() { do(r.T.Context()) })
}

func (r *run) issue(ctx context.Context, v *Vault, role string, ttl time.Duration) {
	if r.tight || !r.Engine.allLoaded() {
		role = "invoices"
	}
	_, err := v.Issue(ctx, role, ttl)
	if errors.Is(err, errProcessEnded) || errors.Is(err, errCallerGone) {
		r.cutOff.Add(1)
	}
}
