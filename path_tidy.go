// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// tidyTimeout keeps a tidy within the 60 seconds that Vault's client gives a request.
const tidyTimeout = 50 * time.Second

func (b *backend) pathTidy() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "tidy",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "tidy"},
		Fields: fields.WithTaxpayerDefault(fields.TaxpayerOfConfig, map[string]*framework.FieldSchema{
			"dry_run": {Type: framework.TypeBool, Default: true, Description: "Only tell what would be done. Default: true."},
		}),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: fields.Forwarded(b.pathTidyWrite, "tidy", tidyResponse()),
		},
		HelpSynopsis:    "Reconcile this mount's records with KSeF.",
		HelpDescription: strings.TrimSpace(helpTidy),
	}}
}

func (b *backend) pathTidyWrite(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	current, taxpayer, err := b.requestContext(ctx, data, useToManage)
	if err != nil {
		return errorResponse(err)
	}
	dryRun := data.Get("dry_run").(bool)
	bounded, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	report, err := b.ledger.Tidy(bounded, ledger.Target{API: current.config.URL, Context: taxpayer}, dryRun)
	if err != nil {
		return errorResponse(err)
	}
	response := &logical.Response{Data: tidyReportSchema(report, taxpayer, dryRun)}
	if report.Incomplete != nil {
		response.AddWarning(fmt.Sprintf("Not everything was looked at; write to tidy again later: %v", report.Incomplete))
	}
	if !dryRun {
		b.sendEvent(ctx, "tidy", "tidy", logical.EventMetadataModified, "true", "context", taxpayer.String(), "revoking", fmt.Sprint(report.Revoking), "closed", fmt.Sprint(report.Closed))
	}
	return response, nil
}

func tidyReportSchema(report *ledger.TidyReport, taxpayer client.ContextIdentifier, dryRun bool) map[string]any {
	answer := map[string]any{
		"dry_run":       dryRun,
		"complete":      report.Incomplete == nil,
		"orphans":       orEmpty(report.Orphans),
		"stale_records": orEmpty(report.StaleRecords),
		"overdue":       orEmpty(report.Overdue),
		"unknown":       orEmpty(report.Unknown),
		"unreadable":    orEmpty(report.Unreadable),
		"known":         report.Known,
		"foreign":       report.Foreign,
		"revoking":      report.Revoking,
		"closed":        report.Closed,
	}
	fields.AddTaxpayer(answer, taxpayer)
	return answer
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func tidyResponse() map[int][]framework.Response {
	return fields.ResponseSchema(fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"dry_run":       {Type: framework.TypeBool, Description: "Nothing was changed."},
		"complete":      {Type: framework.TypeBool, Description: "Everything was looked at."},
		"orphans":       {Type: framework.TypeStringSlice, Description: "Living tokens with this mount's mark and no record."},
		"stale_records": {Type: framework.TypeStringSlice, Description: "Tokens whose record says live, while KSeF says that they are dead."},
		"overdue":       {Type: framework.TypeStringSlice, Description: "Tokens that have outlived their lease by more than an hour; the engine is revoking them."},
		"unknown":       {Type: framework.TypeStringSlice, Description: "Tokens whose record says live, and of which KSeF does not tell."},
		"unreadable":    {Type: framework.TypeStringSlice, Description: "Storage keys of records that cannot be read. Their tokens are not touched."},
		"known":         {Type: framework.TypeInt, Description: "Living tokens with a record."},
		"foreign":       {Type: framework.TypeInt, Description: "Living tokens of others. They are never touched."},
		"revoking":      {Type: framework.TypeInt, Description: "This mount's tokens in the context whose revocation has begun and KSeF has not confirmed, as status counts them for all contexts; orphans that were taken up are among them."},
		"closed":        {Type: framework.TypeInt, Description: "Stale records that were closed."},
	}))
}

const helpTidy = `
Compare KSeF's list of living tokens in one context, config's unless nip or
internal_id names another, with this mount's records:

  vault write -f ksef/tidy
  vault write ksef/tidy dry_run=false

The first only tells what the second does. Orphans carry this mount's mark and have
no record, as after a restore from an old snapshot: they are revoked. Stale records
are of tokens that are dead in KSeF: they are closed. Tokens of others are counted
and never touched. revoking counts what is being revoked, as status does. The requests
go only when nothing more urgent wants KSeF's limits.
`
