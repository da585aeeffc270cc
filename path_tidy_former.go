// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// tidyFormerPath wants sudo: it revokes tokens that this mount has not issued.
const tidyFormerPath = "tidy/former"

func (b *backend) pathTidyFormer() []*framework.Path {
	return []*framework.Path{{
		Pattern:      tidyFormerPath,
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "tidy", OperationSuffix: "former-mount"},
		Fields: fields.WithTaxpayerDefault(fields.TaxpayerOfConfig, map[string]*framework.FieldSchema{
			"mount_id": {Type: framework.TypeString, Required: true, Description: "Id of the mount that is gone: the 12 digits after \"vault:\" in the description of its tokens."},
			"expect":   {Type: framework.TypeInt, Description: "How many tokens must be found for them to be revoked. Default: none; nothing is revoked."},
		}),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: fields.Forwarded(b.pathTidyFormerWrite, "tidy", tidyFormerSchema()),
		},
		HelpSynopsis:    "Find and revoke the tokens that a removed mount has left in KSeF.",
		HelpDescription: strings.TrimSpace(helpTidyFormer),
	}}
}

// formerRequest is a checked write to tidy/former.
type formerRequest struct {
	mountID string
	context client.ContextIdentifier
	// expect is nil where nothing is to be revoked.
	expect *int
}

func formerRequestFrom(data *framework.FieldData) (formerRequest, error) {
	request := formerRequest{mountID: data.Get("mount_id").(string)}
	if err := ledger.CheckMountID(request.mountID); err != nil {
		return request, err
	}
	if value, given := data.GetOk("expect"); given {
		expect := value.(int)
		request.expect = &expect
	}
	return request, nil
}

func (b *backend) pathTidyFormerWrite(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	request, err := formerRequestFrom(data)
	if err != nil {
		return errorResponse(err)
	}
	current, taxpayer, err := b.requestContext(ctx, data, useToManage)
	if err != nil {
		return errorResponse(err)
	}
	request.context = taxpayer
	if err := b.refuseLoadedMount(ctx, request.mountID); err != nil {
		return errorResponse(err)
	}
	target := ledger.Target{API: current.config.URL, Context: request.context}
	ctx, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	found, err := b.ledger.FormerTokens(ctx, target, request.mountID)
	if err != nil {
		return errorResponse(err)
	}
	if request.expect == nil {
		return formerFound(request, found), nil
	}
	if *request.expect != len(found) {
		return errorResponse(&client.InputError{
			Field: "expect", Fault: fmt.Sprintf("is %d, and KSeF has %d living tokens of the mount %s in %s", *request.expect, len(found), request.mountID, request.context),
			Remedy: "nothing was revoked; look at the list that a write without expect gives, and give its number",
		})
	}
	return b.revokeFormer(ctx, request, target, found), nil
}

// refuseLoadedMount refuses the id of a mount that this process serves: its tokens are in use. It
// fails where a mount's id cannot be read, since that may be the one.
func (b *backend) refuseLoadedMount(ctx context.Context, id string) (err error) {
	b.loaded.Range(func(other, _ any) bool {
		known, unread := other.(*ledger.Ledger).MountID(ctx)
		switch {
		case unread != nil:
			err = fmt.Errorf("a mount of this process cannot read its id, and may be the one: %w", unread)
		case known == id:
			err = &client.InputError{
				Field: "mount_id", Fault: fmt.Sprintf("is %s, which is a mount that exists", id),
				Remedy: "its own tidy and leases see to its tokens; give the id of a mount that is gone",
			}
		}
		return err == nil
	})
	return err
}

func formerFound(request formerRequest, found []client.Token) *logical.Response {
	response := &logical.Response{Data: formerResponse(request, found, nil)}
	if len(found) > 0 {
		response.AddWarning(fmt.Sprintf("Nothing was revoked. A mount with this id that exists in another Vault, or under another version or name of this plugin, would lose its tokens too; "+
			"if there is none, revoke these with expect=%d.", len(found)))
	}
	return response
}

func (b *backend) revokeFormer(ctx context.Context, request formerRequest, target ledger.Target, found []client.Token) *logical.Response {
	revoked, err := b.ledger.RevokeFormer(ctx, target, found)
	left := len(found) - len(revoked)
	b.Logger().Warn("tokens of a former mount have been revoked", "former_mount_id", request.mountID, "context", request.context.String(),
		"revoked", len(revoked), "left", left)
	b.sendBackgroundEvent("tidy-former", tidyFormerPath, logical.EventMetadataModified, "true",
		"context", request.context.String(), "former_mount_id", request.mountID, "revoked", fmt.Sprint(len(revoked)), "left", fmt.Sprint(left))
	response := &logical.Response{Data: formerResponse(request, found, revoked)}
	if err != nil {
		response.AddWarning(fmt.Sprintf("%s left; write to %s again with expect=%d: %v", countTokens(left), tidyFormerPath, left, err))
	}
	return response
}

func formerResponse(request formerRequest, found []client.Token, revoked []string) map[string]any {
	tokens := make([]map[string]any, 0, len(found))
	for _, token := range found {
		tokens = append(tokens, metadataSchema(&token))
	}
	answer := map[string]any{
		"mount_id": request.mountID,
		"found":    len(found),
		"tokens":   tokens,
		"revoked":  orEmpty(revoked),
		"left":     len(found) - len(revoked),
	}
	fields.AddTaxpayer(answer, request.context)
	return answer
}

func tidyFormerSchema() map[int][]framework.Response {
	return fields.ResponseSchema(fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"mount_id": {Type: framework.TypeString, Description: "The mount that is gone."},
		"found":    {Type: framework.TypeInt, Description: "How many of its tokens were alive; what expect must be to revoke them."},
		"tokens":   {Type: framework.TypeSlice, Description: "Those tokens; the fields of each are those of tokens/<reference_number>."},
		"revoked":  {Type: framework.TypeStringSlice, Description: "The tokens whose end KSeF has confirmed now."},
		"left":     {Type: framework.TypeInt, Description: "How many of them are still alive."},
	}))
}

const helpTidyFormer = `
Find the tokens of a mount that is gone by its id in their description, in one
context, config's unless nip or internal_id names another. A mount that is removed
revokes its tokens; where it could not, as when KSeF was out of reach, its log names
them, and no mount looks after them:

  vault write ksef/tidy/former mount_id=5b1c0a9de277

That counts and lists them. Give the number found to revoke them:

  vault write ksef/tidy/former mount_id=5b1c0a9de277 expect=3

The ids of mounts that this process serves are refused. A mount in another Vault,
or under another version or name of this plugin, is not known here: make sure that
the id is not in use there. The policy needs the capability sudo besides update.
`

// loadedMounts are the mounts of this process: their tokens are in use.
type loadedMounts struct {
	mu     sync.Mutex
	mounts map[*backend]struct{}
}

func newLoadedMounts() *loadedMounts {
	return &loadedMounts{mounts: make(map[*backend]struct{})}
}

func (l *loadedMounts) add(b *backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mounts[b] = struct{}{}
}

func (l *loadedMounts) remove(b *backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mounts, b)
}

// has reports whether a loaded mount has the id. It fails if a mount cannot read its own id, since it
// may be that one.
func (l *loadedMounts) has(ctx context.Context, id string) (bool, error) {
	l.mu.Lock()
	mounts := slices.Collect(maps.Keys(l.mounts))
	l.mu.Unlock()
	for _, mount := range mounts {
		known, err := mount.ledger.MountID(ctx)
		if err != nil {
			return false, fmt.Errorf("a mount of this process cannot tell its id, and may be the one: %w", err)
		}
		if known == id {
			return true, nil
		}
	}
	return false, nil
}
