// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// settleLimit is more than the engine's longest pause after a failure, 4 minutes.
const settleLimit = 5 * time.Minute

// settle completes what was begun: the leases that were to end, those that Vault has stored and no
// caller has received, and the engine's own work.
func (c *chaos) settle(ctx context.Context, t *testing.T) {
	t.Helper()
	_, ending := c.workload.byFate()
	require.NoError(t, c.revokeAll(ctx, leaseIDs(ending)))
	strangers := without(c.leases(ctx, t), c.workload.leases)
	require.NoError(t, c.revokeAll(ctx, strangers))
	c.log(t, "%d leases ended; %d leases that Vault had stored and no caller received", len(ending), len(strangers))

	require.NoError(t, waitFor(ctx, settleLimit, "all revocations to complete", func() error {
		status, err := c.status(ctx)
		if err == nil && status.Revoking > 0 {
			err = fmt.Errorf("status shows %+v", status)
		}
		return err
	}))
	c.log(t, "all revocations are complete")
	require.NoError(t, waitFor(ctx, settleLimit, "unknown tokens to be found and revoked", func() error {
		kept, _ := c.workload.byFate()
		unknown := without(c.alive(), references(kept))
		for _, reference := range c.listed(ctx, t) {
			unknown = without(unknown, map[string]bool{reference: true})
		}
		if len(unknown) > 0 {
			return fmt.Errorf("alive in KSeF without lease or record: %v", unknown)
		}
		return nil
	}))
}

// requireNothingLost compares KSeF, Vault, the callers and the ledger.
func (c *chaos) requireNothingLost(ctx context.Context, t *testing.T, inForce []string) {
	t.Helper()
	kept, ending := c.workload.byFate()
	require.Equal(t, chaosLeases, len(kept)+len(ending))
	require.NotEmpty(t, kept)
	require.NotEmpty(t, ending)
	alive := c.alive()
	require.ElementsMatch(t, leaseIDs(kept), c.leases(ctx, t), "the live leases in Vault are those that were kept")
	for _, lease := range kept {
		require.Contains(t, alive, lease.reference, "a live lease's token lives")
	}
	for _, lease := range ending {
		require.NotContains(t, alive, lease.reference, "an ended lease's token is dead")
	}
	leaseless := slices.DeleteFunc(without(alive, references(kept)), func(number string) bool { return slices.Contains(inForce, number) })
	require.Subset(t, c.listed(ctx, t), leaseless, "a token whose lease Vault has lost is in the ledger")
	require.Len(t, alive, len(kept)+len(leaseless)+len(inForce))
	c.log(t, "%d tokens alive: %d with a lease, %d of static and access-token roles, %d whose lease Vault has lost", len(alive), len(kept), len(inForce), len(leaseless))
}

// requireAgreement reconciles the ledger with KSeF: it must know all of its tokens. Tokens that it
// is recovering may still be revoked.
func (c *chaos) requireAgreement(ctx context.Context, t *testing.T) {
	t.Helper()
	require.NoError(t, waitFor(ctx, settleLimit, "the ledger to agree with KSeF's list", func() error {
		alive := len(c.alive())
		tidied, err := c.vault.Logical().WriteWithContext(ctx, chaosMount+"/tidy", map[string]any{"dry_run": false})
		if err != nil {
			return err
		}
		require.Empty(t, tidied.Data["orphans"])
		require.Equal(t, json.Number("0"), tidied.Data["foreign"])
		if tidied.Data["complete"] != true || tidied.Data["known"] != json.Number(strconv.Itoa(alive)) {
			return fmt.Errorf("%d tokens are alive, and tidy found %v: %v", alive, tidied.Data, tidied.Warnings)
		}
		return nil
	}))
}

// requireEnd ends what is left, as an operator would, and disables the mount.
func (c *chaos) requireEnd(ctx context.Context, t *testing.T, inForce []string) {
	t.Helper()
	c.endUnleased(ctx, t, inForce)
	kept, _ := c.workload.byFate()
	leaseless := without(c.alive(), references(kept))
	require.NoError(t, c.revokeAll(ctx, leaseIDs(kept)))
	require.NoError(t, eachOf(ctx, leaseless, "the token to be deleted", func(reference string) error {
		_, err := c.vault.Logical().DeleteWithContext(ctx, path.Join(chaosMount, "tokens", reference))
		return err
	}))
	require.Empty(t, c.alive())
	status, err := c.status(ctx)
	require.NoError(t, err)
	require.Zero(t, status.Live+status.Revoking+status.Unleased)
	require.NoError(t, c.vault.Sys().UnmountWithContext(ctx, chaosMount))
	c.log(t, "nothing is left")
}

// revokeAll has Vault revoke leases until they are gone.
func (c *chaos) revokeAll(ctx context.Context, leaseIDs []string) error {
	return eachOf(ctx, leaseIDs, "the lease to end", func(leaseID string) error {
		return c.vault.Sys().RevokeWithOptionsWithContext(ctx, &api.RevokeOptions{LeaseID: leaseID, Sync: true})
	})
}

// eachOf repeats an action for each name, a few at a time, until it succeeds.
func eachOf(ctx context.Context, names []string, what string, action func(string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, name := range names {
		group.Go(func() error {
			return waitFor(ctx, settleLimit, what, func() error { return action(name) })
		})
	}
	return group.Wait()
}

// leases returns the leases in Vault.
func (c *chaos) leases(ctx context.Context, t *testing.T) []string {
	t.Helper()
	prefix := path.Join(chaosMount, "creds/invoices")
	listed, err := c.vault.Logical().ListWithContext(ctx, path.Join("sys/leases/lookup", prefix))
	require.NoError(t, err)
	names := keys(listed)
	for i, name := range names {
		names[i] = path.Join(prefix, name)
	}
	return names
}

// listed returns the tokens in the ledger.
func (c *chaos) listed(ctx context.Context, t *testing.T) []string {
	t.Helper()
	listed, err := c.vault.Logical().ListWithContext(ctx, chaosMount+"/tokens")
	require.NoError(t, err)
	return keys(listed)
}

func keys(listed *api.Secret) []string {
	if listed == nil {
		return nil
	}
	var names []string
	for _, key := range listed.Data["keys"].([]any) {
		names = append(names, key.(string))
	}
	return names
}

// alive returns the tokens that KSeF accepts, now or soon.
func (c *chaos) alive() []string {
	var alive []string
	for _, token := range c.ksef.State().Tokens {
		if token.Status == "Pending" || token.Status == "Active" {
			alive = append(alive, token.ReferenceNumber)
		}
	}
	return alive
}

// mountStatus is the part of status that counts tokens.
type mountStatus struct {
	Issuing    int `json:"tokens_issuing"`
	Live       int `json:"tokens_live"`
	Revoking   int `json:"tokens_revoking"`
	Recovering int `json:"tokens_recovering"`
	Unleased   int `json:"unleased_tokens"`
}

func (c *chaos) status(ctx context.Context) (*mountStatus, error) {
	answer, err := c.vault.Logical().ReadWithContext(ctx, chaosMount+"/status")
	if err != nil {
		return nil, err
	}
	if answer == nil {
		return nil, errors.New("there is no status")
	}
	encoded, err := json.Marshal(answer.Data)
	if err != nil {
		return nil, err
	}
	var status mountStatus
	return &status, json.Unmarshal(encoded, &status)
}

func leaseIDs(leases []*issuedLease) []string {
	ids := make([]string, 0, len(leases))
	for _, lease := range leases {
		ids = append(ids, lease.leaseID)
	}
	return ids
}

func references(leases []*issuedLease) map[string]*issuedLease {
	byReference := make(map[string]*issuedLease, len(leases))
	for _, lease := range leases {
		byReference[lease.reference] = lease
	}
	return byReference
}

// without returns the names that are no keys of known.
func without[V any](names []string, known map[string]V) []string {
	var left []string
	for _, name := range names {
		if _, found := known[name]; !found {
			left = append(left, name)
		}
	}
	return left
}
