// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

const (
	// chaosAccessLife has access tokens refreshed each 24 s.
	chaosAccessLife = 2 * time.Minute
	// chaosGrace is shorter than the run: tokens before are revoked while KSeF fails.
	chaosGrace = 20 * time.Second
	// chaosRotations lie up to chaosRotationPause apart.
	chaosRotations     = 16
	chaosRotationPause = 8 * time.Second
)

// unleasedWorkload reads secrets without a lease all the time, rotates what stands behind them,
// imports a token and deletes roles.
type unleasedWorkload struct {
	vault *server
	ksef  *simulator.Simulator
	mount string
	// imported is the text of the token to import.
	imported string
	// checks counts the questions to KSeF whether it accepts an access token.
	checks atomic.Uint32

	mu sync.Mutex
	// responses counts the responses to reads by path and HTTP status; 0 is none.
	responses map[string]map[int]int
	// refusals are the last errors by path and HTTP status.
	refusals map[string]error
	// dead are the secrets that KSeF did not accept when they were answered.
	dead []string
}

// newUnleasedWorkload writes the roles, and has a token made by hand.
func newUnleasedWorkload(t *testing.T, vault *server, ksef *simulator.Simulator, ksefURL, mount string) *unleasedWorkload {
	t.Helper()
	u := &unleasedWorkload{vault: vault, ksef: ksef, mount: mount, responses: make(map[string]map[int]int), refusals: make(map[string]error)}
	access := map[string]any{"permissions": "InvoiceRead", "credential_type": "access_token"}
	for _, role := range []string{"queries", "passing"} {
		vault.write(t, path.Join(mount, "roles", role), access)
	}
	for _, role := range []string{"erp", "passing"} {
		vault.write(t, path.Join(mount, "static-roles", role), map[string]any{"permissions": "InvoiceRead,InvoiceWrite", "grace_period": chaosGrace.String()})
	}
	access["login"], access["full_rights"] = "certificate", true
	vault.write(t, path.Join(mount, "roles/person"), access)
	person, err := vault.Logical().ReadWithContext(t.Context(), path.Join(mount, "creds/person"))
	require.NoError(t, err)
	status, body, err := sendToKSeF(t.Context(), http.MethodPost, ksefURL+"/tokens", person.Data["access_token"].(string),
		`{"permissions": ["InvoiceRead"], "description": "Made by hand for the ERP"}`)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, status)
	var made struct {
		Token string `json:"token"`
	}
	require.NoError(t, json.Unmarshal(body, &made))
	u.imported = made.Token
	require.NoError(t, u.delete(t.Context(), "roles/person"))
	for _, name := range []string{"creds/queries", "creds/passing", "static-creds/erp/access-token", "static-creds/passing/access-token"} {
		_, err := vault.Logical().ReadWithContext(t.Context(), path.Join(mount, name))
		require.NoError(t, err)
	}
	return u
}

// read reads all paths until ctx ends, and checks at once that KSeF accepts what was answered.
func (u *unleasedWorkload) read(ctx context.Context, dice func(reader uint64) *rand.Rand) {
	var readers sync.WaitGroup
	for reader, name := range []string{
		"creds/queries", "static-creds/erp/access-token", "static-creds/erp", "creds/queries", "static-creds/erp/access-token", "static-creds/erp",
		"creds/passing", "static-creds/passing", "static-creds/passing/access-token", "static-creds/imported",
	} {
		dice := dice(uint64(reader))
		readers.Go(func() {
			for pause(ctx, upTo(dice, time.Second)) == nil {
				u.readOnce(ctx, name)
			}
		})
	}
	readers.Wait()
}

func (u *unleasedWorkload) readOnce(ctx context.Context, name string) {
	answer, err := u.vault.Logical().ReadWithContext(ctx, path.Join(u.mount, name))
	status := statusOf(err)
	var refusal error
	switch {
	case err == nil && answer == nil: // the client's word for it
		status = http.StatusNotFound
	case err == nil:
		status = http.StatusOK
		refusal = u.check(ctx, answer.Data)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.responses[name] == nil {
		u.responses[name] = make(map[int]int)
	}
	u.responses[name][status]++
	if err != nil {
		u.refusals[fmt.Sprintf("%s %d", name, status)] = err
	}
	// The token of a role that is being deleted may end between the answer and the check.
	if refusal != nil && name != "static-creds/passing" {
		u.dead = append(u.dead, fmt.Sprintf("%s at %s: %v", name, time.Now().Format(time.TimeOnly), refusal))
	}
}

// check asks KSeF whether it accepts a secret. It asks past the faults, the limits and the kills.
func (u *unleasedWorkload) check(ctx context.Context, answer map[string]any) error {
	if number, found := answer["reference_number"].(string); found {
		for _, token := range u.ksef.State().Tokens {
			if token.ReferenceNumber == number && (token.Status == "Pending" || token.Status == "Active") {
				return nil
			}
		}
		return fmt.Errorf("the token %s is not alive", number)
	}
	request := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v2/auth/sessions", nil)
	request.Header.Set("Authorization", "Bearer "+answer["access_token"].(string))
	// KSeF's limits count by the address.
	number := u.checks.Add(1)
	request.RemoteAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(number >> 16), byte(number >> 8), byte(number)}), 443).String()
	response := httptest.NewRecorder()
	u.ksef.Handler().ServeHTTP(response, request)
	if response.Code != http.StatusOK {
		return fmt.Errorf("KSeF answers %d to the access token of %s", response.Code, answer["last_vault_rotation"])
	}
	return nil
}

// change rotates now and then, and imports a token and deletes two roles in the middle. Rotations
// are asked for once, the rest until it succeeds.
func (u *unleasedWorkload) change(ctx context.Context, dice *rand.Rand) error {
	for number := range chaosRotations {
		if err := pause(ctx, upTo(dice, chaosRotationPause)); err != nil {
			return err
		}
		_, _ = u.vault.Logical().WriteWithContext(ctx, path.Join(u.mount, []string{"rotate-role/erp", "rotate-access/queries"}[dice.IntN(2)]), nil)
		switch number {
		case chaosRotations / 3:
			if err := u.importToken(ctx); err != nil {
				return err
			}
		case chaosRotations / 2:
			if err := u.delete(ctx, "static-roles/passing", "roles/passing"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (u *unleasedWorkload) importToken(ctx context.Context) error {
	return waitFor(ctx, settleLimit, "the import", func() error {
		_, err := u.vault.Logical().WriteWithContext(ctx, path.Join(u.mount, "static-roles/imported/import"), map[string]any{"token": u.imported})
		return err
	})
}

func (u *unleasedWorkload) delete(ctx context.Context, roles ...string) error {
	return eachOf(ctx, roles, "the role to be deleted", func(role string) error {
		_, err := u.vault.Logical().DeleteWithContext(ctx, path.Join(u.mount, role))
		return err
	})
}

// requireAnswers requires that each secret was alive when it was answered, and that no role was
// refused that was there all the time.
func (u *unleasedWorkload) requireAnswers(t *testing.T) {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	t.Logf("reads by path and status (0: no response): %v, the last errors: %v", u.responses, u.refusals)
	require.Empty(t, u.dead, "secrets that were dead when they were answered")
	for _, name := range []string{"creds/queries", "static-creds/erp", "static-creds/erp/access-token"} {
		require.Greater(t, u.responses[name][http.StatusOK], 100, name)
		require.Zero(t, u.responses[name][http.StatusBadRequest], name)
	}
	for _, name := range []string{"creds/passing", "static-creds/passing", "static-creds/passing/access-token"} {
		require.Positive(t, u.responses[name][http.StatusOK], name)
		require.Positive(t, u.responses[name][http.StatusBadRequest], "%s is refused once its role is gone", name)
	}
	require.Positive(t, u.responses["static-creds/imported"][http.StatusOK])
}

// unleasedTokens returns the live tokens without a lease in the ledger, by their holders.
func (c *chaos) unleasedTokens(ctx context.Context) (byHolder map[string][]string, err error) {
	listed, err := c.vault.Logical().ListWithContext(ctx, chaosMount+"/tokens")
	if err != nil {
		return nil, err
	}
	byHolder = make(map[string][]string)
	for number, info := range listed.Data["key_info"].(map[string]any) {
		about := info.(map[string]any)
		if holder, unleased := about["holder"].(string); unleased && holder != "" {
			name := fmt.Sprintf("%s %s", holder, about["role"])
			byHolder[name] = append(byHolder[name], number)
		}
	}
	return byHolder, nil
}

// requireUnleased requires that of the tokens without a lease those in force live, and no other,
// once the graces of those before are over. It returns them.
func (c *chaos) requireUnleased(ctx context.Context, t *testing.T) (inForce []string) {
	t.Helper()
	require.NoError(t, waitFor(ctx, settleLimit, "the tokens without a lease to be those in force", func() error {
		inForce = nil
		byHolder, err := c.unleasedTokens(ctx)
		if err != nil {
			return err
		}
		for _, holder := range []string{"static erp", "static imported", "access queries"} {
			if len(byHolder[holder]) != 1 {
				return fmt.Errorf("the ledger has the tokens %v", byHolder)
			}
			inForce = append(inForce, byHolder[holder][0])
		}
		if len(byHolder) != len(inForce) {
			return fmt.Errorf("the ledger has the tokens %v", byHolder)
		}
		return nil
	}))
	for _, role := range []string{"erp", "imported"} {
		answer, err := c.vault.Logical().ReadWithContext(ctx, path.Join(chaosMount, "static-creds", role))
		require.NoError(t, err)
		require.Contains(t, inForce, answer.Data["reference_number"])
	}
	require.Subset(t, c.alive(), inForce)
	status, err := c.status(ctx)
	require.NoError(t, err)
	require.Equal(t, len(inForce), status.Unleased)
	return inForce
}

// endUnleased deletes the roles that have tokens without a lease.
func (c *chaos) endUnleased(ctx context.Context, t *testing.T, inForce []string) {
	t.Helper()
	require.NoError(t, c.unleased.delete(ctx, "static-roles/erp", "static-roles/imported", "roles/queries"))
	require.NoError(t, waitFor(ctx, settleLimit, "the tokens of deleted roles to end", func() error {
		for _, number := range c.alive() {
			if slices.Contains(inForce, number) {
				return errors.New(number + " is alive")
			}
		}
		return nil
	}))
}

// readUnleased begins to read, and returns what ends that.
func (c *chaos) readUnleased(ctx context.Context, seed uint64) (stop func()) {
	const firstDice = 1_000_000 // beyond those of the leases
	reading, cancel := context.WithCancel(ctx)
	var readers errgroup.Group
	readers.Go(func() error {
		c.unleased.read(reading, func(reader uint64) *rand.Rand { return dice(seed, firstDice+reader) })
		return nil
	})
	return func() { cancel(); _ = readers.Wait() }
}
