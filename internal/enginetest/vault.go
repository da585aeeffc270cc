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

// What Vault's expiration manager does with a lease that has ended (vault/expiration.go, 1.21): six
// attempts with growing pauses, then one a day.
const (
	maxRevokeAttempts = 6
	revokeRetryBase   = 10 * time.Second
	irrevocablePause  = 24 * time.Hour
)

// Vault holds the leases of one mount as Vault does. A lease exists once the request that made it
// has returned.
type Vault struct {
	engine    *Engine
	mount     int
	sealed    context.Context
	seal      context.CancelFunc
	leaseWork sync.WaitGroup

	mu     sync.Mutex
	leases []*TokenLease
	// endedEarly is a lease that was let go while its token lived.
	endedEarly error
}

// TokenLease is a lease. Its fields belong to the vault's lock.
type TokenLease struct {
	number  string // of its token
	secret  *logical.Secret
	expires time.Time
	// deletedByHand says that somebody has deleted the token under the lease.
	deletedByHand bool
	changed       chan struct{}
	lost          chan struct{} // closed when Vault has lost the lease
}

var (
	errLeaseOver  = errors.New("the lease has ended")
	errCallerGone = errors.New("the token was made, and whoever asked for it has gone")
)

func (e *Engine) vault(mount int) *Vault {
	sealed, seal := context.WithCancel(e.T.Context())
	return &Vault{engine: e, mount: mount, sealed: sealed, seal: seal}
}

// close stops Vault's own work, so that nothing is left of it in the bubble.
func (v *Vault) close() {
	v.seal()
	v.leaseWork.Wait()
}

// Request is one that a user makes; Vault routes none to a mount that it moves.
func (v *Vault) Request(ctx context.Context, do func(m *Mount) (*logical.Response, error)) (*logical.Response, error) {
	if v.isTainted() {
		return nil, errTainted
	}
	return v.engine.call(ctx, v.mount, do)
}

// Issue has a token made under a role and holds its lease. Where the user has gone before the
// answer came there is no lease.
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
	lease := &TokenLease{
		number: response.Data["reference_number"].(string), secret: v.engine.Lease(response),
		expires: time.Now().Add(response.Secret.TTL), changed: make(chan struct{}, 1), lost: make(chan struct{}),
	}
	v.mu.Lock()
	v.leases = append(v.leases, lease)
	v.mu.Unlock()
	v.leaseWork.Go(func() { v.runLease(lease) })
	return lease, nil
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

// End is an operator revoking a lease, or hurrying one that Vault could not revoke so far.
func (v *Vault) End(leases ...*TokenLease) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, lease := range leases {
		lease.set(earlier(lease.expires, time.Now()))
	}
}

// Delete is an operator deleting the token of a lease by hand.
func (v *Vault) Delete(lease *TokenLease) error {
	v.mu.Lock()
	lease.deletedByHand = true
	v.mu.Unlock()
	_, err := v.Request(v.sealed, func(m *Mount) (*logical.Response, error) { return m.Delete("tokens/" + lease.number) })
	return err
}

// runLease revokes a lease when it has ended, and again until that succeeds.
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

// removeRevoked removes a lease whose revocation was answered with success. Then the token must be
// dead.
func (v *Vault) removeRevoked(lease *TokenLease) {
	if status := v.engine.StatusInKSeF(lease.number); status == "Pending" || status == "Active" {
		v.mu.Lock()
		v.endedEarly = fmt.Errorf("the lease of %s was let go while the token was %s", lease.number, status)
		v.mu.Unlock()
	}
	v.remove(lease)
}

func (v *Vault) leaseEndedEarly() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.endedEarly
}

// Lose is Vault crashing before it has written the lease down, or coming back from an old snapshot.
func (v *Vault) Lose(lease *TokenLease) {
	v.remove(lease)
	close(lease.lost)
}

func (v *Vault) remove(lease *TokenLease) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leases = slices.DeleteFunc(v.leases, func(other *TokenLease) bool { return other == lease })
}

// wait returns false where Vault stops meanwhile, or loses the lease.
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

// all returns the leases that there are, those that have ended and are not yet revoked included.
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

var errTainted = errors.New("the mount is being moved")

func (v *Vault) isTainted() bool { return v.engine.views[v.mount].Tainted() }
