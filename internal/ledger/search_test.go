// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// sparse is a KSeF that lists tokens on the pages given, of which some are empty.
type sparse struct {
	Upstream
	pages [][]client.Token
}

func (sparse) Subject() string { return "" }

func (s sparse) QueryTokens(_ context.Context, query client.TokenQuery) (*client.TokenPage, error) {
	number := 0
	if query.Continuation != "" {
		if _, err := fmt.Sscan(query.Continuation, &number); err != nil {
			return nil, err
		}
	}
	page := &client.TokenPage{Tokens: s.pages[number]}
	if number+1 < len(s.pages) {
		page.Continuation = fmt.Sprint(number + 1)
	}
	return page, nil
}

// TestSearch_emptyPages has a list whose pages may be empty before the last: only a missing
// continuation token says that there are no more.
func TestSearch_emptyPages(t *testing.T) {
	now := time.Now()
	nonce := newNonce(now.Add(time.Hour))
	const mountID = "0123456789ab"
	made := client.Token{Description: "Report " + marker(mountID, nonce), Created: now, Status: client.StatusActive}
	old := client.Token{Description: "Report", Created: now.Add(-48 * time.Hour), Status: client.StatusActive}
	for name, pages := range map[string][][]client.Token{
		"first":   {{}, {made}, {old}},
		"several": {{}, {}, {}, {made}},
		"between": {{{Description: "Report", Created: now}}, {}, {made}},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(testOptions(&logical.InmemStorage{}, sparse{pages: pages}))
			require.NoError(t, l.store.Put(t.Context(), &logical.StorageEntry{Key: mountIDKey, Value: []byte(mountID)}))
			search, err := l.readList(t.Context(), Target{}, []Record{{Nonce: nonce, Created: now}}, 0, absentAfter)
			require.NoError(t, err)
			require.Len(t, search.found[nonce], 1)
		})
	}
}

// onePerPage is a list of active tokens with the descriptions.
func onePerPage(descriptions []string) sparse {
	var list sparse
	for _, description := range descriptions {
		list.pages = append(list.pages, []client.Token{{Description: description, Status: client.StatusActive}})
	}
	return list
}

func TestSearchAllPages(t *testing.T) {
	record := &Record{Nonce: "079c2f146d2dce40490c25", ReferenceNumber: "20251010-EC-1DCE3E3000-12ECB5B36E-45"}
	decoys := make([]string, 30)
	for i := range decoys {
		decoys[i] = record.Nonce + " in a text"
	}
	found, err := searchAllPages(t.Context(), onePerPage(decoys), record)
	require.NoError(t, err)
	require.Nil(t, found)

	marked := "Report " + marker("0123456789ab", record.Nonce)
	found, err = searchAllPages(t.Context(), onePerPage(slices.Concat(decoys, []string{marked})), record)
	require.NoError(t, err)
	require.NotNil(t, found, "decoys hide nothing")

	_, err = searchAllPages(t.Context(), onePerPage(make([]string, maxPages+1)), record)
	require.Error(t, err, "a list without an end")
}
