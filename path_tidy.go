// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/unleased"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// tidyTimeout keeps a tidy within the 60 seconds that Vault's client gives a request.
const tidyTimeout = 50 * time.Second

// tidyFormerPath wants sudo: it revokes tokens that this mount has not issued.
const tidyFormerPath = "tidy/former"

func (b *backend) pathTidy() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "tidy",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "tidy"},
		Fields: fields.WithTaxpayerDefault(fields.TaxpayerOfConfig, map[string]*framework.FieldSchema{
			"dry_run": {Type: framework.TypeBool, Default: true, Description: "Only report what would be done. Default: true."},
		}),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: fields.Forwarded(b.pathTidyWrite, "tidy", tidySchema()),
		},
		HelpSynopsis:    "Reconcile this mount's records with KSeF.",
		HelpDescription: strings.TrimSpace(helpTidy),
	}, {
		Pattern:      tidyFormerPath,
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "tidy", OperationSuffix: "former-mount"},
		Fields: fields.WithTaxpayerDefault(fields.TaxpayerOfConfig, map[string]*framework.FieldSchema{
			"mount_id": {Type: framework.TypeString, Required: true, Description: "Id of the removed mount: the 12 digits after \"vault:\" in the description of its tokens."},
			"expect":   {Type: framework.TypeInt, Description: "Revoke the tokens if exactly this many are found. Default: none; nothing is revoked."},
		}),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: fields.Forwarded(b.pathTidyFormerWrite, "tidy", tidyFormerSchema()),
		},
		HelpSynopsis:    "Find and revoke the tokens of a removed mount.",
		HelpDescription: strings.TrimSpace(helpTidyFormer),
	}}
}

func (b *backend) pathTidyWrite(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	current, taxpayer, err := b.requestContext(ctx, data, useToManage)
	if err != nil {
		return failure.Response(err)
	}
	dryRun := data.Get("dry_run").(bool)
	bounded, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	report, err := b.ledger.Tidy(bounded, ledger.Target{API: current.config.URL, Context: taxpayer}, dryRun)
	if err != nil {
		return failure.Response(err)
	}
	response := &logical.Response{Data: tidyReport(report, taxpayer, dryRun)}
	if report.Incomplete != nil {
		response.AddWarning(fmt.Sprintf("Not everything was checked; write to tidy again later: %v", report.Incomplete))
	}
	if !dryRun {
		fields.AddWarnings(response, b.replaceStale(ctx, report)...)
		b.events.Publish("tidy", "tidy", logical.EventMetadataModified, "true", "context", taxpayer.String(), "revoking", fmt.Sprint(report.Revoking), "closed", fmt.Sprint(report.Closed))
	}
	return response, nil
}

// replaceStale has those of the dead tokens replaced that the engine keeps, and returns a warning
// for each where that fails: they have no lease whose holder could ask for another.
func (b *backend) replaceStale(ctx context.Context, report *ledger.TidyReport) (warnings []string) {
	for _, number := range report.StaleRecords {
		record, err := b.ledger.Find(ctx, number)
		if err == nil && (record == nil || !record.Unleased() || record.State != ledger.Live) {
			continue
		}
		if err == nil {
			dead := unleased.Dead{ReferenceNumber: number, NeverActive: slices.Contains(report.NeverActive, number)}
			_, err = b.holders.Replace(ctx, unleased.HolderOf(record), dead)
		}
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("the dead token %s could not be replaced yet: %v", number, err))
		}
	}
	return warnings
}

func tidyReport(report *ledger.TidyReport, taxpayer client.ContextIdentifier, dryRun bool) map[string]any {
	shown := map[string]any{
		"dry_run":       dryRun,
		"complete":      report.Incomplete == nil,
		"orphans":       orEmpty(report.Orphans),
		"stale_records": orEmpty(report.StaleRecords),
		"overdue":       orEmpty(report.Overdue),
		"unknown":       orEmpty(report.Unknown),
		"unreadable":    orEmpty(report.Unreadable),
		"known":         report.Known,
		"released":      report.Released,
		"foreign":       report.Foreign,
		"revoking":      report.Revoking,
		"closed":        report.Closed,
	}
	fields.AddTaxpayer(shown, taxpayer)
	return shown
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func tidySchema() map[int][]framework.Response {
	return fields.ResponseSchema(fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"dry_run":       {Type: framework.TypeBool, Description: "Nothing was changed."},
		"complete":      {Type: framework.TypeBool, Description: "Everything was checked."},
		"orphans":       {Type: framework.TypeStringSlice, Description: "Living tokens with this mount's mark and no record."},
		"stale_records": {Type: framework.TypeStringSlice, Description: "Tokens that are live or released in their record and dead in KSeF."},
		"overdue":       {Type: framework.TypeStringSlice, Description: "Tokens whose lease ended more than an hour ago; the engine is revoking them."},
		"unknown":       {Type: framework.TypeStringSlice, Description: "Tokens that are live in their record and unknown to KSeF."},
		"unreadable":    {Type: framework.TypeStringSlice, Description: "Storage keys of records that cannot be read. Their tokens are not touched."},
		"known":         {Type: framework.TypeInt, Description: "Living tokens with a record."},
		"released":      {Type: framework.TypeInt, Description: "Living tokens that static roles have handed back. They are never touched."},
		"foreign":       {Type: framework.TypeInt, Description: "Living tokens of others. They are never touched."},
		"revoking":      {Type: framework.TypeInt, Description: "This mount's tokens in the context whose revocation KSeF has not confirmed, revoked orphans included; status counts those of all contexts."},
		"closed":        {Type: framework.TypeInt, Description: "Stale records that were closed. Those of static and access-token roles stay: the role replaces the token."},
	}))
}

func (b *backend) pathTidyFormerWrite(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	mountID := data.Get("mount_id").(string)
	if err := ledger.CheckMountID(mountID); err != nil {
		return failure.Response(err)
	}
	current, taxpayer, err := b.requestContext(ctx, data, useToManage)
	if err != nil {
		return failure.Response(err)
	}
	if err := b.refuseLoadedMount(ctx, mountID); err != nil {
		return failure.Response(err)
	}
	target := ledger.Target{API: current.config.URL, Context: taxpayer}
	ctx, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	found, err := b.ledger.FormerTokens(ctx, target, mountID)
	if err != nil {
		return failure.Response(err)
	}
	expected, given := data.GetOk("expect")
	switch {
	case given && expected != len(found):
		return failure.Response(&client.InputError{
			Field: "expect", Fault: fmt.Sprintf("is %d, and KSeF has %d living tokens of the mount %s in %s", expected, len(found), mountID, taxpayer),
			Remedy: "nothing was revoked; check the list that a write without expect returns, and give its number",
		})
	case given:
		return b.revokeFormer(ctx, mountID, target, found), nil
	}
	response := formerResponse(mountID, taxpayer, found, nil)
	if len(found) > 0 {
		response.AddWarning(fmt.Sprintf("Nothing was revoked. A mount with this id that exists in another Vault, or under another version or name of this plugin, would lose its tokens too; "+
			"if there is none, revoke these with expect=%d.", len(found)))
	}
	return response, nil
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

func (b *backend) revokeFormer(ctx context.Context, mountID string, target ledger.Target, found []client.Token) *logical.Response {
	revoked, err := b.ledger.RevokeFormer(ctx, target, found)
	left := len(found) - len(revoked)
	b.Logger().Warn("tokens of a former mount have been revoked", "former_mount_id", mountID, "context", target.Context.String(),
		"revoked", len(revoked), "left", left)
	b.events.Publish("tidy-former", tidyFormerPath, logical.EventMetadataModified, "true",
		"context", target.Context.String(), "former_mount_id", mountID, "revoked", fmt.Sprint(len(revoked)), "left", fmt.Sprint(left))
	response := formerResponse(mountID, target.Context, found, revoked)
	if err != nil {
		response.AddWarning(fmt.Sprintf("%s left; write to %s again with expect=%d: %v", countTokens(left), tidyFormerPath, left, err))
	}
	return response
}

func formerResponse(mountID string, taxpayer client.ContextIdentifier, found []client.Token, revoked []string) *logical.Response {
	shown := map[string]any{
		"mount_id": mountID,
		"found":    len(found),
		"tokens":   tokensResponse(found),
		"revoked":  orEmpty(revoked),
		"left":     len(found) - len(revoked),
	}
	fields.AddTaxpayer(shown, taxpayer)
	return &logical.Response{Data: shown}
}

func tidyFormerSchema() map[int][]framework.Response {
	return fields.ResponseSchema(fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"mount_id": {Type: framework.TypeString, Description: "Id of the removed mount."},
		"found":    {Type: framework.TypeInt, Description: "How many of its tokens were alive; give it in expect to revoke them."},
		"tokens":   {Type: framework.TypeSlice, Description: "Those tokens; the fields of each are those of tokens/<reference_number>."},
		"revoked":  {Type: framework.TypeStringSlice, Description: "Tokens whose revocation KSeF has confirmed."},
		"left":     {Type: framework.TypeInt, Description: "How many of them are still alive."},
	}))
}

const helpTidy = `
Compare this mount's records with KSeF's list of living tokens in one context:
config's, unless nip or internal_id names another.

  vault write -f ksef/tidy
  vault write ksef/tidy dry_run=false

The first command only reports what the second does. Orphans have this mount's mark
and no record, as after a restore from an old snapshot: they are revoked. Stale
records are of tokens that are dead in KSeF: they are closed, but for those of static
and access-token roles, which replace their tokens. Tokens of others, and released
ones, are counted and never touched. revoking counts pending revocations, as status
does.
Its requests wait for more urgent ones.
`

const helpTidyFormer = `
Find the tokens of a removed mount by its id in their description, in one context:
config's, unless nip or internal_id names another. A mount revokes its tokens when it
is removed. If it could not, as when KSeF was out of reach, its log has their numbers.

Count and list the tokens:

  vault write ksef/tidy/former mount_id=5b1c0a9de277

Revoke them, with the number found:

  vault write ksef/tidy/former mount_id=5b1c0a9de277 expect=3

The ids of mounts that this process serves are refused. Mounts of another Vault, or of
another version or name of this plugin, are not known here: make sure that none of
them has the id. The policy needs the capability sudo besides update.
`
