// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build former

package enginetest

import (
	"regexp"
	"testing"
	"time"

	before "vault-plugin-secrets-ksef/.cache/former"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestFormerPlugin runs the plugin of before there were tokens without a lease, which
// scripts/former-plugin has put beside this one, on the storage of this one, and then this one
// again.
func TestFormerPlugin(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, d *downgrade){
		"revokes_no_token_without_a_lease": formerRevokesNothing,
		"finishes_a_revocation":            formerFinishesRevocation,
		"is_written_to":                    formerWritten,
	} {
		t.Run(name, func(t *testing.T) {
			InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
				test(t, newDowngrade(t, env))
			})
		})
	}
}

// downgrade is a mount with tokens of all kinds.
type downgrade struct {
	*Mount
	static, imported, access map[string]any
	lease                    *logical.Response
}

func newDowngrade(t *testing.T, env *Env) *downgrade {
	other := env.Mount(&logical.InmemStorage{})
	other.Configure()
	made := other.Must(other.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Made by hand"})).Data["token"]
	other.Stop()

	m := env.Mount(&logical.InmemStorage{})
	t.Cleanup(m.Stop)
	m.Configure()
	d := &downgrade{Mount: m}
	m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead", "rotation_period": "720h"}))
	m.Must(m.Write("static-roles/old/import", map[string]any{"token": made}))
	m.AccessRole("reports", nil)
	d.lease = m.Issue()
	d.static, d.imported = m.StaticCreds("erp"), m.StaticCreds("old")
	d.access = m.AccessToken("creds/reports").Data
	return d
}

// restart has the next process run the plugin of before, or this one.
func (d *downgrade) restart(withFormer bool) {
	d.Stop()
	d.factory = newFactory(d.Transport)
	if withFormer {
		d.factory = before.Options{Version: "v1.0.0", Transport: d.Transport}.Factory()
	}
	d.Start()
}

// elapseCalled lets time pass, in which Vault calls the mount each minute.
func (d *downgrade) elapseCalled(length time.Duration) {
	for end := time.Now().Add(length); time.Now().Before(end); {
		d.Elapse(time.Minute)
		_, err := d.Request(logical.RollbackOperation, "", nil)
		require.NoError(d.T, err)
	}
}

// requireAllAlive fails the test where a token without a lease was revoked.
func (d *downgrade) requireAllAlive() {
	d.T.Helper()
	for _, made := range []map[string]any{d.static, d.imported} {
		require.Equal(d.T, "Active", d.StatusInKSeF(made["reference_number"]))
	}
	require.Len(d.T, d.backing(), 1)
}

// markedAccess matches the descriptions of tokens behind access tokens.
var markedAccess = regexp.MustCompile(`:access[0-9a-f]{16}\]$`)

// backing are the tokens behind access tokens that are alive.
func (d *downgrade) backing() []simulator.TokenState {
	var found []simulator.TokenState
	for _, token := range d.AliveTokens() {
		if markedAccess.MatchString(token.Description) {
			found = append(found, token)
		}
	}
	return found
}

// formerRevokesNothing has the plugin of before run for two days, with restarts and all that it
// does by itself, and tidy.
func formerRevokesNothing(t *testing.T, d *downgrade) {
	backing := d.backing()
	for range 2 {
		d.restart(true)
		d.elapseCalled(12 * time.Hour)
		tidied := d.Must(d.Write("tidy", map[string]any{"dry_run": false}))
		t.Log(tidied.Data, tidied.Warnings)
		d.requireAllAlive()
		d.elapseCalled(12 * time.Hour)
	}
	d.requireAllAlive()
	require.Equal(t, "Revoked", d.StatusInKSeF(d.lease.Data["reference_number"]), "of a lease that has ended")
	t.Log(d.StatusWarnings())

	d.restart(false)
	require.Equal(t, d.static["token"], d.StaticCreds("erp")["token"])
	require.Equal(t, d.imported["token"], d.StaticCreds("old")["token"])
	require.Equal(t, 200, d.QueryInvoices(d.AccessToken("creds/reports").Data["access_token"]))
	require.Equal(t, 200, d.QueryInvoices(d.AccessToken("static-creds/erp/access-token").Data["access_token"]))
	d.elapseCalled(Day)
	d.requireAllAlive()
	require.Equal(t, backing[0].ReferenceNumber, d.backing()[0].ReferenceNumber)
	require.Zero(t, d.CountEvents("ksef/token-replace"))
	require.EqualValues(t, 3, d.Status()["unleased_tokens"])
}

// formerFinishesRevocation has a static role deleted while KSeF is away: the plugin of before ends
// what the record says.
func formerFinishesRevocation(t *testing.T, d *downgrade) {
	d.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultStatus, Status: 500, Times: 3})
	response := d.Must(d.Delete("static-roles/erp"))
	require.NotEmpty(t, response.Warnings)
	d.restart(true)
	d.elapseCalled(time.Hour)
	require.Equal(t, "Revoked", d.StatusInKSeF(d.static["reference_number"]))
	d.restart(false)
	d.elapseCalled(3 * time.Hour)
	require.Empty(t, d.Stored("unleased-tokens/"+d.static["reference_number"].(string)), "its text goes with it")
	require.Equal(t, "Active", d.StatusInKSeF(d.imported["reference_number"]))
	require.Len(t, d.backing(), 1)
}

// formerWritten has an access-token role read and written with the plugin of before, which knows
// only roles for leases.
func formerWritten(t *testing.T, d *downgrade) {
	d.restart(true)
	issued := d.Must(d.Read("creds/reports", nil))
	require.NotEmpty(t, issued.Data["token"])
	require.NoError(t, d.Revoke(d.Lease(issued)))
	d.Must(d.Write("roles/reports", map[string]any{"ttl": "2h"}))
	d.Must(d.Write("config", map[string]any{"activation_timeout": "20s"}))
	d.elapseCalled(2 * time.Hour)
	d.requireAllAlive()

	d.restart(false)
	require.Equal(t, "token", d.Must(d.Read("roles/reports", nil)).Data["credential_type"])
	d.elapseCalled(2 * time.Hour)
	require.Empty(t, d.backing(), "the role no longer hands out access tokens")
	require.Equal(t, d.static["token"], d.StaticCreds("erp")["token"])
	d.AccessRole("reports", nil)
	require.Equal(t, 200, d.QueryInvoices(d.AccessToken("creds/reports").Data["access_token"]))
}
