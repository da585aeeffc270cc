// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// disclosures are the responses of a mount without what they are for: the fields token and
// access_token.
type disclosures struct {
	*Mount
	answers []*logical.Response
	texts   []string // of errors
}

// keep makes a request, which may fail.
func (d *disclosures) keep(response *logical.Response, err error) {
	if err != nil {
		d.texts = append(d.texts, err.Error())
	}
	if response == nil {
		return
	}
	kept := *response
	kept.Data = maps.Clone(response.Data)
	delete(kept.Data, "token")
	delete(kept.Data, "access_token")
	d.answers = append(d.answers, &kept)
}

// readAll reads all that can be read.
func (d *disclosures) readAll() {
	paths := []string{"config", "status"}
	for _, folder := range []string{"roles/", "static-roles/", "tokens/"} {
		listed := d.Must(d.List(folder))
		d.keep(listed, nil)
		for _, name := range listed.Data["keys"].([]string) {
			paths = append(paths, folder+name)
		}
	}
	for _, path := range append(paths, "creds/reports", "creds/owner", "creds/leased", "static-creds/erp", "static-creds/old",
		"static-creds/erp/access-token", "static-creds/none") {
		d.keep(d.Read(path, nil))
	}
}

// TestSecrecyOfTokensWithoutALease takes static tokens, backing tokens and the sessions of access
// tokens through their lives, with failures, and checks all responses, events, logs and stored
// entries.
func TestSecrecyOfTokensWithoutALease(t *testing.T) {
	InEnv(t, simulator.Options{}, func(_ *testing.T, env *Env) {
		network := env.ThroughNetwork()
		storage := &recordingStorage{Storage: &logical.InmemStorage{}}
		other, m := env.Mount(&logical.InmemStorage{}), env.Mount(storage)
		defer func() { other.Stop(); m.Stop() }()
		other.Configure()
		m.Configure()
		d := &disclosures{Mount: m}
		made := other.Must(other.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Made by hand"})).Data["token"]

		m.AccessRole("reports", nil)
		m.AccessRole("leased", map[string]any{"leased": true})
		m.AccessRole("owner", map[string]any{"login": "certificate", "full_rights": true})
		m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead", "rotation_period": "24h", "grace_period": "2h"}))
		d.keep(m.Write("static-roles/old/import", map[string]any{"token": made}))
		d.readAll()

		d.misuse(made)
		d.failAtKSeF(network)
		d.rotate()
		d.damage()
		m.Stop()
		m.Start()
		d.readAll()
		d.end()
		d.requireNothingDisclosed(storage)
	})
}

// misuse gives a token where none belongs, and one that another role has.
func (d *disclosures) misuse(token any) {
	text := token.(string)
	for path, data := range map[string]map[string]any{
		"static-roles/second/import": {"token": token},
		"static-roles/erp/import":    {"token": token},
		"static-roles/broken/import": {"token": text[:len(text)-1]},
		"static-roles/wrong":         {"permissions": token},
		"static-roles/" + text:       {"permissions": "InvoiceRead", "rotation_period": token},
		"rotate-role/old":            {"revoke_previous": token},
	} {
		d.keep(d.Write(path, data))
	}
}

// failAtKSeF has rotations, logins and refreshes fail.
func (d *disclosures) failAtKSeF(network *Network) {
	for _, endpoint := range []string{IssueEndpoint, RevokeEndpoint, "POST /auth/ksef-token", "POST /auth/token/refresh", "POST /auth/token/redeem"} {
		d.Fault(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: 500, Times: 2})
		d.keep(d.Write("rotate-role/erp", nil))
		d.keep(d.Write("rotate-access/reports", nil))
		d.Elapse(5 * time.Minute)
		d.readAll()
	}
	network.Set(Refusing)
	d.Elapse(20 * time.Minute)
	d.readAll()
	network.Set(Reachable)
	d.Elapse(10 * time.Minute)
	d.readAll()
}

func (d *disclosures) rotate() {
	d.Elapse(26 * time.Hour)
	d.readAll()
	d.keep(d.Write("rotate-role/old", map[string]any{"revoke_previous": true}))
	d.keep(d.Write("rotate-access/owner", nil))
	d.keep(d.Write("tidy", map[string]any{"dry_run": false}))
	d.keep(d.Write("roles/reports", map[string]any{"permissions": "InvoiceRead,InvoiceWrite"}))
	d.readAll()
	leased := d.AccessToken("creds/leased")
	d.keep(nil, d.Revoke(d.Lease(leased)))
}

// damage makes stored texts and sessions unreadable, each in the middle.
func (d *disclosures) damage() {
	for _, key := range slices.Concat(d.Keys("unleased-tokens/")[:1], d.Keys("access-sessions/")[:1]) {
		text := d.Stored(key)
		d.Put(key, []byte(text[:len(text)-2]))
	}
}

func (d *disclosures) end() {
	d.keep(d.Request(logical.DeleteOperation, "static-roles/old", map[string]any{"keep": true}))
	for _, path := range []string{"static-roles/erp", "roles/reports", "roles/owner", "config"} {
		d.keep(d.Delete(path))
	}
	d.Elapse(time.Hour)
}

func (d *disclosures) requireNothingDisclosed(storage *recordingStorage) {
	for _, entry := range storage.written {
		d.Remember(secretsIn(entry.Value)...)
	}
	for _, secret := range slices.Clone(d.secrets) {
		if parts := strings.Split(secret, "|"); len(parts) == 3 {
			d.Remember(parts[2]) // what of a KSeF token is secret
		}
	}
	slices.Sort(d.secrets)
	d.secrets = slices.Compact(d.secrets)
	d.requireNothingSecretIn(d.answers)
	require.NotEmpty(d.T, d.texts)
	for _, text := range d.texts {
		require.False(d.T, d.hasSecret(text), text)
	}
	places := map[string]bool{}
	for _, entry := range storage.written {
		if d.hasSecret(string(entry.Value)) || len(secretsIn(entry.Value)) > 0 {
			require.True(d.T, d.isSealWrapped(entry.Key), entry.Key)
			places[folderOf(entry.Key)] = true
		}
	}
	require.Equal(d.T, map[string]bool{"config": true, "sessions/*": true, "access-sessions/*": true, "unleased-tokens/*": true}, places)
}

func (d *disclosures) hasSecret(text string) bool {
	return slices.ContainsFunc(d.secrets, func(secret string) bool { return strings.Contains(text, secret) })
}
