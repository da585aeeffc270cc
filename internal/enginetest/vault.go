// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// Vault's expiration manager tries six times to revoke a lease, with growing pauses, then once a
// day (vault/expiration.go, 1.21).
const (
	maxRevokeAttempts = 6
	revokeRetryBase   = 10 * time.Second
	irrevocablePause  = 24 * time.Hour
)

// Vault keeps the leases of one mount as Vault does. A lease exists once the request that created
// it has returned.
type Vault struct {
	engine    *Engine
	mount     int
	sealed    context.Context
	seal      context.CancelFunc
	leaseWork sync.WaitGroup

	mu     sync.Mutex
	leases []*TokenLease
	// endedEarly describes a lease that was removed while its token was active.
	endedEarly error
}

// TokenLease is a lease. The lock of its Vault guards its fields.
type TokenLease struct {
	number  string // of its token
	secret  *logical.Secret
	expires time.Time
	// deletedByHand is set when an operator has deleted the token before the lease has ended.
	deletedByHand bool
	changed       chan struct{}
	lost          chan struct{} // closed when Vault has lost the lease
}

var (
	errTainted    = errors.New("the mount is being moved")
	errLeaseOver  = errors.New("the lease has ended")
	errCallerGone = errors.New("the token was issued after its caller had gone")
)

func (e *Engine) vault(mount int) *Vault {
	sealed, seal := context.WithCancel(e.T.Context())
	return &Vault{engine: e, mount: mount, sealed: sealed, seal: seal}
}

// close stops the work on leases.
func (v *Vault) close() {
	v.seal()
	v.leaseWork.Wait()
}

// Request makes a user's request. Vault routes none to a mount that it moves.
func (v *Vault) Request(ctx context.Context, do func(m *Mount) (*logical.Response, error)) (*logical.Response, error) {
	if v.isTainted() {
		return nil, errTainted
	}
	return v.engine.call(ctx, v.mount, do)
}

// Issue reads creds/<role> and keeps the lease. There is none when the caller has gone before the
// response.
func (v *Vault) Issue(ctx context.Context, role string, ttl time.Duration) (*TokenLease, error) {
	response, err := v.Request(ctx, func(m *Mount) (*logical.Response, error) {
		return m.Write("creds/"+role, map[string]any{"ttl": ttl.String()})
	})
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, errCallerGone
	}
	return v.keep(response), nil
}

// keep keeps the lease of a response.
func (v *Vault) keep(response *logical.Response) *TokenLease {
	lease := &TokenLease{
		number: response.Data["reference_number"].(string), secret: v.engine.Lease(response),
		expires: time.Now().Add(response.Secret.TTL), changed: make(chan struct{}, 1), lost: make(chan struct{}),
	}
	v.mu.Lock()
	v.leases = append(v.leases, lease)
	v.mu.Unlock()
	v.leaseWork.Go(func() { v.runLease(lease) })
	return lease
}

// Renew moves the end of a lease that has not ended.
func (v *Vault) Renew(lease *TokenLease, increment time.Duration) error {
	if !v.isLive(lease) {
		return errLeaseOver
	}
	secret := *lease.secret
	response, err := v.Request(v.sealed, func(m *Mount) (*logical.Response, error) { return m.Renew(&secret, increment) })
	if err != nil {
		return err
	}
	ttl, _, err := framework.CalculateTTL(MountDefaults(), increment, response.Secret.TTL, 0, response.Secret.MaxTTL, 0, secret.IssueTime)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if lease.expires.After(time.Now()) {
		lease.set(time.Now().Add(ttl))
	}
	return nil
}

// End revokes leases at once, as an operator does, also those that Vault could not revoke so far.
func (v *Vault) End(leases ...*TokenLease) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, lease := range leases {
		lease.set(earlier(lease.expires, time.Now()))
	}
}

// Delete deletes the token of a lease, as an operator does.
func (v *Vault) Delete(lease *TokenLease) error {
	v.mu.Lock()
	lease.deletedByHand = true
	v.mu.Unlock()
	_, err := v.Request(v.sealed, func(m *Mount) (*logical.Response, error) { return m.Delete("tokens/" + lease.number) })
	return err
}

// runLease waits for the end of a lease, and revokes it until that succeeds.
func (v *Vault) runLease(lease *TokenLease) {
	for v.isLive(lease) {
		if !v.wait(lease, time.Until(v.expiry(lease))) {
			return
		}
	}
	for attempt := 1; v.revoke(lease) != nil; attempt++ {
		pause := revokeRetryBase << attempt
		if attempt >= maxRevokeAttempts {
			pause = irrevocablePause
		}
		if !v.wait(lease, pause) {
			return
		}
	}
	v.removeRevoked(lease)
}

// removeRevoked removes a lease that the engine has revoked. Its token must not be active.
func (v *Vault) removeRevoked(lease *TokenLease) {
	if status := v.engine.StatusInKSeF(lease.number); status == "Pending" || status == "Active" {
		v.mu.Lock()
		v.endedEarly = fmt.Errorf("the lease of %s was removed while the token was %s", lease.number, status)
		v.mu.Unlock()
	}
	v.remove(lease)
}

func (v *Vault) leaseEndedEarly() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.endedEarly
}

// Lose forgets a lease, as a crash before it is stored or the restore of an old snapshot does.
func (v *Vault) Lose(lease *TokenLease) {
	v.remove(lease)
	close(lease.lost)
}

func (v *Vault) remove(lease *TokenLease) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leases = slices.DeleteFunc(v.leases, func(other *TokenLease) bool { return other == lease })
}

// wait returns false if Vault stops or loses the lease.
func (v *Vault) wait(lease *TokenLease, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-lease.changed:
	case <-lease.lost:
		return false
	case <-v.sealed.Done():
		return false
	}
	return true
}

func (v *Vault) revoke(lease *TokenLease) error {
	_, err := v.engine.call(v.sealed, v.mount, func(m *Mount) (*logical.Response, error) { return nil, m.Revoke(lease.secret) })
	return err
}

func (v *Vault) expiry(lease *TokenLease) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return lease.expires
}

func (v *Vault) isLive(lease *TokenLease) bool { return v.expiry(lease).After(time.Now()) }

// all returns the leases, also those that have ended and are not yet revoked.
func (v *Vault) all() []*TokenLease {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.leases)
}

// set moves the end of a lease. The caller holds the lock.
func (h *TokenLease) set(expires time.Time) {
	h.expires = expires
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (v *Vault) isTainted() bool { return v.engine.views[v.mount].Tainted() }
