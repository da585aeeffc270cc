// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// kept is a path that keeps what is written to it.
type kept struct {
	name       string
	generators map[string]generator
	// unseen are the fields that no read answers.
	unseen []string
	// configured says that a write needs a configuration.
	configured bool
}

func keptPaths() []kept {
	secret := []string{"private_key", "private_key_password", "pkcs12", "pkcs12_password", "verify", "force"}
	return []kept{
		{"config", configGenerators(), secret, false},
		{"roles/invoices", roleGenerators(), nil, false},
		{"static-roles/erp", staticRoleGenerators(), []string{"keep"}, true},
	}
}

// written are the fields of a path that are written.
func (k kept) written(m *Mount) []string {
	schema := m.Route(k.name).Fields
	return slices.DeleteFunc(slices.Sorted(maps.Keys(schema)), func(field string) bool {
		return field == "name" || strings.HasSuffix(schema[field].Description, fields.ReadOnlyNote)
	})
}

// TestRoundTrip writes what can be written, in the forms that it can have, and writes back what is
// read, as Terraform does each day.
func TestRoundTrip(t *testing.T) {
	SeedUnlessGiven(t)
	for _, path := range keptPaths() {
		t.Run(path.name, func(t *testing.T) {
			t.Run("a_read_written_back_changes_nothing", func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) { rapid.SyncTest(t, path.checkWriteBack) })
			})
			t.Run("a_field_that_is_unset_is_as_if_never_given", func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) { rapid.SyncTest(t, path.checkUnset) })
			})
		})
	}
}

// mount is a mount to which the path can be written.
func (k kept) mount(env *Env) *Mount {
	m := freshMount(env)
	if k.configured {
		m.Configure()
	}
	return m
}

// fresh is a mount without a configuration, on a Vault that rotates by a schedule.
func freshMount(env *Env) *Mount {
	m := env.Mount(&logical.InmemStorage{})
	require.NoError(env.T, m.Backend.Setup(env.T.Context(), &logical.BackendConfig{
		System: &rotationManager{StaticSystemView: *MountDefaults()}, Logger: m.Backend.Logger(), EventsSender: m.Events, StorageView: m.Storage,
	}))
	return m
}

func (k kept) checkWriteBack(t *rapid.T) {
	d, grants := draw(t)
	env := NewEnv(t, simulator.Options{Grants: grants})
	m := k.mount(env)
	defer m.Stop()
	document := d.document(k.written(m), k.generators)
	m.Must(m.Write(k.name, ThroughJSON(t, document)))
	read := m.ReadJSON(k.name)
	k.requireAsWritten(t, m, document, read)
	stored := m.Stored(k.name)

	m.Must(m.Write(k.name, read)) // proves what the first write has not
	logins := env.Requests(SubmitEndpoint)
	second := m.Must(m.Write(k.name, read))
	require.Subset(t, warningsOf(m.Must(m.Read(k.name, nil))), warningsOf(second), "no warning that a read does not have")
	require.Equal(t, logins, env.Requests(SubmitEndpoint), "no login")
	require.Equal(t, read, m.ReadJSON(k.name))
	require.Equal(t, stored, m.Stored(k.name))

	m.Must(m.Write(k.name, ThroughJSON(t, document)))
	require.Equal(t, read, m.ReadJSON(k.name), "nor does the document itself, written again")
	require.Equal(t, stored, m.Stored(k.name))
	require.Equal(t, logins, env.Requests(SubmitEndpoint), "no login")
}

func (k kept) checkUnset(t *rapid.T) {
	d, grants := draw(t)
	env := NewEnv(t, simulator.Options{Grants: grants})
	m := k.mount(env)
	defer m.Stop()
	document := d.document(k.written(m), k.generators)
	m.Must(m.Write(k.name, ThroughJSON(t, document)))
	unset, without := map[string]any{}, maps.Clone(document)
	for _, field := range d.unsettable(k, document) {
		if rapid.Bool().Draw(t, "unset "+field) {
			unset[field] = rapid.SampledFrom([]any{nil, ""}).Draw(t, "as")
			delete(without, field)
		}
	}
	if _, gone := unset["rotation_schedule"]; gone {
		delete(without, "rotation_window") // which goes with its schedule
	}
	before := m.Stored(k.name)
	response, err := m.Write(k.name, unset)
	require.NoError(t, err)

	never := k.mount(env)
	defer never.Stop()
	expected, err := never.Write(k.name, ThroughJSON(t, without))
	require.NoError(t, err)
	if expected != nil && expected.IsError() {
		require.Equal(t, expected.Error(), refusedError(m, response), "what cannot be left out cannot be unset")
		require.Equal(t, before, m.Stored(k.name))
		return
	}
	m.Must(response, nil)
	require.Equal(t, never.ReadJSON(k.name), m.ReadJSON(k.name))
}

// unsettable are the fields of the document that a write can unset by itself. The address of a
// KSeF, and what is trusted at it, goes only with the credential, which cannot be unset.
func (d *drawing) unsettable(k kept, document map[string]any) []string {
	bound := []string{"certificate", "ca_certificate", "environment", "url"}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(document)), func(field string) bool {
		return slices.Contains(k.unseen, field) || (k.name == "config" && slices.Contains(bound, field) && (d.signer != "" || d.address == "both"))
	})
}

func refusedError(m *Mount, response *logical.Response) error {
	m.T.Helper()
	require.NotNil(m.T, response)
	return response.Error()
}

func warningsOf(response *logical.Response) []string {
	if response == nil {
		return nil
	}
	return response.Warnings
}

// requireAsWritten compares each field that has a value with what is read of it, both in the form
// that the field's kind has.
func (k kept) requireAsWritten(t *rapid.T, m *Mount, document, read map[string]any) {
	schema := m.Route(k.name).Fields
	given := framework.FieldData{Raw: ThroughJSON(t, document), Schema: schema}
	shown := framework.FieldData{Raw: read, Schema: schema}
	for field, value := range document {
		if value == nil || value == "" || slices.Contains(k.unseen, field) {
			continue
		}
		require.Equal(t, normal(t, field, given.Get(field)), normal(t, field, shown.Get(field)), field)
	}
}

// normal is the one form in which a value is read back.
func normal(t *rapid.T, field string, value any) any {
	switch field {
	case "url":
		address, err := client.ParseURL(value.(string))
		require.NoError(t, err)
		return address
	case "permissions", "allowed_contexts":
		return fields.Distinct(value.([]string))
	case "certificate":
		certificates, err := credential.ReadCertificates(value.(string))
		require.NoError(t, err)
		var all []string
		for _, certificate := range certificates {
			all = append(all, fmt.Sprintf("%X", certificate.Raw))
		}
		slices.Sort(all)
		return all
	}
	return value
}
