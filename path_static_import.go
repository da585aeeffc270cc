// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/description"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/unleased"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathStaticImport() []*framework.Path {
	return []*framework.Path{{
		Pattern:      staticRolesPrefix + "(?P<name>[^/]+)/import",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "import", OperationSuffix: "static-role-token"},
		Fields: map[string]*framework.FieldSchema{
			"name": fields.NameSchema("static role"),
			"token": {
				Type: framework.TypeString, Required: true, Description: "The KSeF token. Required.",
				DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
			},
			"rotate": {Type: framework.TypeBool, Default: false, Description: "Rotates at once, so that the imported token ends after grace_period. Default: false."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: fields.Forwarded(b.pathStaticImportWrite, "import", fields.NoContentOrWarnings()),
		},
		HelpSynopsis:    "Take over a KSeF token that exists already.",
		HelpDescription: strings.TrimSpace(helpStaticImport),
	}}
}

func (b *backend) pathStaticImportWrite(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, err := fields.ReadName(data, "name")
	if err != nil {
		return failure.Response(err)
	}
	stored, err := b.readStaticRole(ctx, name)
	if err != nil {
		return failure.Response(err)
	}
	current, err := b.connect(ctx)
	if err != nil {
		return failure.Response(err)
	}
	given, err := parseToken(data.Get("token").(string))
	if err != nil {
		return failure.Response(err)
	}
	if err := b.admitImport(ctx, current, name, stored, given); err != nil {
		return failure.Response(err)
	}
	found, err := b.proveToken(ctx, current, given)
	if err != nil {
		return failure.Response(err)
	}
	return b.takeOver(ctx, current, name, stored, given, found, data.Get("rotate").(bool))
}

// givenToken is a KSeF token as its text describes it.
type givenToken struct {
	text            client.Secret
	referenceNumber string
	taxpayer        client.ContextIdentifier
}

// tokenPattern is the form of KSeF's tokens: number, taxpayer and 64 hexadecimal digits (ksef-api
// issue 268).
var tokenPattern = regexp.MustCompile(`^([0-9A-Z-]{36})\|(nip|internalId)-([0-9-]{10,16})\|[0-9a-f]{64}$`)

// parseToken never quotes what was given.
func parseToken(text string) (*givenToken, error) {
	text = strings.TrimSpace(text)
	parts := tokenPattern.FindStringSubmatch(text)
	refused := &client.InputError{
		Field: "token", Fault: "is not a KSeF token",
		Remedy: "give it whole, as KSeF has shown it: a number of 36 characters, |, nip- or internalId- with the taxpayer, |, and 64 hexadecimal digits; or from a file: token=@token.txt",
	}
	if parts == nil {
		return nil, refused
	}
	parse := client.ParseNIP
	if parts[2] == "internalId" {
		parse = client.ParseInternalID
	}
	taxpayer, err := parse(parts[3])
	if err != nil {
		return nil, refused
	}
	return &givenToken{text: client.Secret(text), referenceNumber: parts[1], taxpayer: taxpayer}, nil
}

// admitImport refuses, before anything is sent, a token of another taxpayer than the role's or of
// one that config does not allow.
func (b *backend) admitImport(ctx context.Context, current *connection, name string, stored *staticRole, given *givenToken) error {
	key := staticKey(name, given.taxpayer)
	if err := checkTokensAccepted(current.config, withoutTokens(key)); err != nil {
		return err
	}
	if stored != nil && stored.taxpayer(current.config) != given.taxpayer {
		return &client.InputError{
			Field: "token", Fault: fmt.Sprintf("is one of %s, and the static role is for %s", given.taxpayer, stored.taxpayer(current.config)),
			Remedy: "import it under another static role",
		}
	}
	return b.allowContext(ctx, current, given.taxpayer, useToIssue)
}

// proveToken logs in with the token, reads what KSeF says of it.
func (b *backend) proveToken(ctx context.Context, current *connection, given *givenToken) (*client.Token, error) {
	access, err := current.logInOnce(ctx, b.Logger(), given.taxpayer, given.text)
	var refused *client.LoginError
	if errors.As(err, &refused) && refused.Status.Code == client.LoginTokenRefused {
		return nil, &client.InputError{
			Field: "token", Fault: fmt.Sprintf("is not accepted by KSeF (%s)", refused.Status),
			Remedy: "give a token that is Active, or have the engine make one: vault write <mount>/static-roles/<name> permissions=...",
		}
	}
	if err != nil {
		return nil, err
	}
	api := current.client.WithTokenSource(access).WithLimiter(b.limiters.For(current.config.URL, given.taxpayer, ratelimit.Wait{AtMost: authMaxWait}))
	return api.Token(ctx, given.referenceNumber)
}

// takeOver makes the token that of the static role, which it writes where there is none.
func (b *backend) takeOver(ctx context.Context, current *connection, name string, stored *staticRole, given *givenToken, found *client.Token, rotate bool) (*logical.Response, error) {
	if stored != nil && !sameSet(stored.Permissions, found.Permissions) {
		return failure.Response(&client.InputError{
			Field: "token", Fault: fmt.Sprintf("has the permissions %s, and the static role %s", strings.Join(found.Permissions, ", "), strings.Join(stored.Permissions, ", ")),
			Remedy: "write the permissions of the token to the static role first, or import it under another",
		})
	}
	if stored == nil {
		if err := importedRole(name, current.config, given, found).store(ctx, b.storage, name); err != nil {
			return nil, err
		}
	}
	key := unleased.StaticKey(name)
	token, err := b.holders.Import(ctx, key, ledger.ImportRequest{
		Target:          ledger.Target{API: current.config.URL, Context: given.taxpayer},
		ReferenceNumber: given.referenceNumber, Permissions: found.Permissions, Description: found.Description,
		Subject: found.Author.Type + ":" + found.Author.Value, Created: found.Created, ValidUntil: found.ValidUntil, Token: given.text,
	})
	if err != nil {
		if stored == nil {
			// With keep: whatever has come of the import, programs use the token.
			_, _, undone := b.deleteStaticRole(ctx, name, true)
			err = errors.Join(err, undone)
		}
		return failure.Response(holderError(staticKey(name, given.taxpayer), current.config, err))
	}
	b.openTargets.Add(token.Target)
	b.access.Changed(keyIs(staticKey(name, given.taxpayer)))
	if rotate {
		if token, err = b.holders.Rotate(ctx, key, unleased.RotateOptions{KeepSchedule: true}); err != nil {
			return failure.Response(fmt.Errorf("the token is imported, and could not be rotated yet; the engine goes on by itself: %w", err))
		}
	}
	response := &logical.Response{}
	fields.AddWarnings(response, token.Warning)
	if stored == nil {
		fields.AddWarnings(response, fmt.Sprintf("The static role %s was written with the token's permissions and without a rotation of its own: give it rotation_period or rotation_schedule once no program has the imported token any more.", name))
	}
	if len(response.Warnings) == 0 {
		return nil, nil
	}
	return response, nil
}

// importedRole is the static role of a token that came first. Nothing rotates it by itself: a
// program may still have the token.
func importedRole(name string, of *config, given *givenToken, found *client.Token) *staticRole {
	role := &staticRole{Permissions: found.Permissions, Description: found.Description, GracePeriod: defaultGracePeriod}
	if description.Check(role.Description) != nil || ledger.IsMarked(role.Description) {
		role.Description = "Static role " + name
	}
	if given.taxpayer != of.Context {
		role.Context = given.taxpayer
	}
	return role
}

func sameSet(a, b []string) bool {
	return slices.Equal(addressSet(a), addressSet(b))
}

const helpStaticImport = `
Take over a KSeF token that exists already, such as one in a program's settings:

  vault write ksef/static-roles/erp/import token=@token.txt

The engine logs in with it once and reads its number and permissions from KSeF. From
then on it is the static role's token. If there is no such role, it is written with
the token's permissions. With rotate=true the token is replaced at once, and ends
after grace_period.
`
