// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathToken() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "tokens/" + fields.AnyName("reference_number"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "token"},
		Fields: fields.WithTaxpayerDefault("that of the token's record, otherwise that of config", map[string]*framework.FieldSchema{
			"reference_number": {Type: framework.TypeString, Required: true, Description: "KSeF's number of the token."},
			"unknown_to_ksef": {
				Type:        framework.TypeBool,
				Description: "Delete: end the record of a token that KSeF does not know, as after a reset of its test environment. Refused with a 400 if KSeF knows the token. Default: false.",
			},
		}),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   fields.Forwarded(fields.WarnOfUnused(b.pathTokenRead, "reference_number", "nip", "internal_id"), "read", tokenSchema()),
			logical.DeleteOperation: fields.Forwarded(b.pathTokenDelete, "revoke", fields.NoContentOrWarnings()),
		},
		HelpSynopsis:    "Read or revoke a KSeF token.",
		HelpDescription: strings.TrimSpace(helpToken),
	}}
}

// findToken returns the number that a request names, and the token's record; nil for none.
func (b *backend) findToken(ctx context.Context, data *framework.FieldData) (string, *ledger.Record, error) {
	referenceNumber, err := client.ParseReferenceNumber(data.Get("reference_number").(string))
	if err != nil {
		return "", nil, err
	}
	record, err := b.ledger.Find(ctx, referenceNumber)
	return referenceNumber, record, err
}

func (b *backend) pathTokenRead(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	referenceNumber, record, err := b.findToken(ctx, data)
	if err != nil {
		return failure.Response(err)
	}
	token, _, err := b.askToken(ctx, data, referenceNumber, record)
	if err != nil {
		return failure.Response(err)
	}
	shown := metadataResponse(token)
	if record != nil {
		addRecord(shown, record)
	}
	return &logical.Response{Data: shown}, nil
}

// addRecord shows what the ledger knows of a token. One without a lease has a holder instead.
func addRecord(shown map[string]any, record *ledger.Record) {
	shown["state"] = string(record.State)
	if record.Unleased() {
		shown["role"], shown["holder"] = record.Holder.Role, string(record.Holder.Kind)
		return
	}
	shown["role"], shown["lease_end"] = record.Role, record.Deadline.Format(time.RFC3339)
	addRequester(shown, record)
}

// addRequester adds what the record says of who asked for the token.
func addRequester(response map[string]any, record *ledger.Record) {
	for field, value := range map[string]string{"entity_id": record.EntityID, "display_name": record.DisplayName} {
		if value != "" {
			response[field] = value
		}
	}
}

// askToken reads a token from KSeF in its context, and returns the connection that it used.
func (b *backend) askToken(ctx context.Context, data *framework.FieldData, referenceNumber string, record *ledger.Record) (*client.Token, *connection, error) {
	current, taxpayer, err := b.tokenContext(ctx, data, record)
	if err != nil {
		return nil, nil, err
	}
	token, err := current.upstream(b, taxpayer, ratelimit.Wait{AtMost: queryMaxWait}).Token(ctx, referenceNumber)
	return token, current, err
}

// tokenContext is that of the token's record, as long as the record is open or the context is
// allowed, and otherwise that of the request.
func (b *backend) tokenContext(ctx context.Context, data *framework.FieldData, record *ledger.Record) (*connection, client.ContextIdentifier, error) {
	if record == nil {
		return b.requestContext(ctx, data, useToManage)
	}
	if _, err := contextFrom(data); err != nil {
		return nil, client.ContextIdentifier{}, err
	}
	current, err := b.connect(ctx)
	if err == nil && (record.State == ledger.Dead || record.Target.API != current.config.URL) {
		err = b.allowContext(ctx, current, record.Target.Context, useToManage)
	}
	return current, record.Target.Context, err
}

func (b *backend) pathTokenDelete(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	referenceNumber, record, err := b.findToken(ctx, data)
	if err != nil {
		return failure.Response(err)
	}
	unknown := data.Get("unknown_to_ksef").(bool)
	if err := refuseUnleased(record, unknown); err != nil {
		return failure.Response(err)
	}
	switch {
	case unknown:
		return b.closeUnknown(ctx, referenceNumber, record)
	case record == nil:
		return b.deleteWithoutRecord(ctx, data, referenceNumber)
	}
	return warnOfPending(b.ledger.RevokeToken(ctx, record))
}

// refuseUnleased refuses to revoke a token that a role holds, which would only make another, and
// one that a role has handed back. nil is no record.
func refuseUnleased(record *ledger.Record, unknown bool) error {
	switch {
	case record == nil || !record.Unleased():
		return nil
	case record.State == ledger.Released && !unknown:
		return &client.InputError{
			Field: "reference_number", Fault: fmt.Sprintf("%s was handed back by %s, and is not this mount's to revoke any more", record.ReferenceNumber, record.Holder),
			Remedy: "revoke it in KSeF",
		}
	case record.State != ledger.Live:
		return nil
	}
	return &client.InputError{
		Field: "reference_number", Fault: fmt.Sprintf("%s is the token of %s, which would only make another", record.ReferenceNumber, record.Holder),
		Remedy: rotateOrDelete(record.Holder),
	}
}

// rotateOrDelete says how a role gives its token up.
func rotateOrDelete(holder ledger.Holder) string {
	rotate, role := "rotate-role/", "static-roles/"
	if holder.Kind == ledger.HolderAccess {
		rotate, role = "rotate-access/", "roles/"
	}
	return fmt.Sprintf("rotate it (vault write -f <mount>/%s%s) or delete the role (vault delete <mount>/%s%s)", rotate, holder.Role, role, holder.Role)
}

// closeUnknown ends the record of a token that KSeF does not know.
func (b *backend) closeUnknown(ctx context.Context, referenceNumber string, record *ledger.Record) (*logical.Response, error) {
	if record == nil {
		return failure.Response(&client.InputError{
			Field: "reference_number", Fault: fmt.Sprintf("%s has no record in this mount that could be ended", referenceNumber),
			Remedy: "revoke its lease first, which makes one (vault list sys/leases/lookup/<mount>/ leads to the ids of leases), and then repeat this",
		})
	}
	return warnOfPending(b.ledger.CloseUnknown(ctx, record))
}

// warnOfPending makes a warning of a revocation that KSeF has not confirmed: the engine goes on by
// itself until it does. The revocation of a lease, unlike this one, must fail.
func warnOfPending(err error) (*logical.Response, error) {
	pending, found := errors.AsType[*ledger.PendingError](err)
	switch {
	case err == nil:
		return nil, nil
	case !found:
		return failure.Response(err)
	}
	return &logical.Response{Warnings: []string{pending.Error()}}, nil
}

// deleteWithoutRecord revokes a token that carries this mount's mark although the ledger no longer
// knows it, and refuses every other: what others have made is not ours to end.
func (b *backend) deleteWithoutRecord(ctx context.Context, data *framework.FieldData, referenceNumber string) (*logical.Response, error) {
	token, current, err := b.askToken(ctx, data, referenceNumber, nil)
	if err != nil {
		return failure.Response(err)
	}
	record, err := b.ledger.Reconstruct(ctx, current.config.URL, token)
	if err != nil {
		return nil, err
	}
	if record == nil {
		return failure.Response(&client.InputError{
			Field: "reference_number", Fault: fmt.Sprintf("%s was not made by this mount, which touches no other's tokens", referenceNumber),
			Remedy: "revoke it in KSeF, or where it was made",
		})
	}
	if token.Status.Dead() {
		return nil, nil
	}
	return warnOfPending(b.ledger.RevokeToken(ctx, record))
}

func tokenSchema() map[int][]framework.Response {
	schema := metadataFields()
	schema["state"] = &framework.FieldSchema{Type: framework.TypeString, Description: "State in this mount's ledger: issuing, live, revoking, dead or, if a static role has handed it back, released. Absent for tokens of others."}
	schema["role"] = &framework.FieldSchema{Type: framework.TypeString, Description: "Role of the token; empty for one issued by tokens."}
	schema["entity_id"] = &framework.FieldSchema{Type: framework.TypeString, Description: "Vault's entity of who asked for it; absent where it is not known."}
	schema["display_name"] = &framework.FieldSchema{Type: framework.TypeString, Description: "Vault's display name of who asked for it; absent where it is not known."}
	schema["holder"] = &framework.FieldSchema{Type: framework.TypeString, Description: "static for the token of a static role, access for that of an access-token role; absent for a token with a lease."}
	schema["lease_end"] = &framework.FieldSchema{Type: framework.TypeTime, Description: "When its lease ends; absent for a token without a lease."}
	return fields.ResponseSchema(schema)
}

const helpToken = `
Read what KSeF reports about a token. For a token of this mount, read also its state,
its role, the end of its lease and who asked for it:

  vault read ksef/tokens/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E

Delete a token of this mount to revoke it in KSeF now. Its lease then ends without
another request. If KSeF does not confirm soon, the delete succeeds with a warning,
and the engine goes on until KSeF confirms. Tokens of others are refused, and those
of static roles and access-token roles: rotate or delete the role.

A token that KSeF does not know, as after a reset of its test environment, counts
as dead once KSeF has said so for a day. After a reset, end its record at once:

  vault delete ksef/tokens/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E unknown_to_ksef=true
`
