// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"fmt"

	"vault-plugin-secrets-ksef/client"
)

// mountMark is how the mark of each of the mount's tokens begins. KSeF's list can be filtered by
// it.
func mountMark(mountID string) string { return "[vault:" + mountID + ":" }

// maxPages bounds the reading of a list, whatever KSeF answers.
const maxPages = 1000

// eachPage goes through the pages of KSeF's list, newest tokens first, until visit wants no more.
// It fails where it could not come to the last.
func eachPage(ctx context.Context, api Upstream, query client.TokenQuery, visit func([]client.Token) (more bool)) error {
	query.PageSize = client.MaxPageSize
	for range maxPages {
		page, err := api.QueryTokens(ctx, query)
		if err != nil {
			return err
		}
		if !visit(page.Tokens) || page.Continuation == "" {
			return nil
		}
		query.Continuation = page.Continuation
	}
	return fmt.Errorf("KSeF's list has more than %d pages", maxPages)
}
