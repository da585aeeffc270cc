// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

var secondTarget = Target{API: client.TestURL, Context: client.ContextIdentifier{Type: client.ContextNIP, Value: "1234563218"}}

// putRecord stores a record of a token whose lease ends after so many hours.
func (e *env) putRecord(number, hours int, change func(*Record)) *Record {
	e.t.Helper()
	deadline := time.Now().Add(time.Duration(hours) * time.Hour)
	record := &Record{
		Version: recordVersion, State: Live, Nonce: newNonce(deadline), ReferenceNumber: fmt.Sprintf("20251010-EC-%010X-0000000000-00", number),
		Target: testTarget, Role: "invoices", Created: time.Now(), Deadline: deadline,
	}
	change(record)
	require.NoError(e.t, e.store.put(e.t.Context(), record))
	return record
}

func unchanged(*Record) {}

func (e *env) list(query ListQuery) *Page {
	e.t.Helper()
	page, err := e.List(e.t.Context(), query)
	require.NoError(e.t, err)
	return page
}

// pages lists page by page.
func (e *env) pages(query ListQuery) (pages [][]string) {
	e.t.Helper()
	for {
		page := e.list(query)
		pages = append(pages, numbers(page))
		if page.Next == "" {
			return pages
		}
		query.After = page.Next
	}
}

func numbers(page *Page) []string {
	all := make([]string, 0, len(page.Tokens))
	for _, token := range page.Tokens {
		all = append(all, token.ReferenceNumber)
	}
	return all
}

func TestList(t *testing.T) {
	bubble(t, "is_in_order_of_the_deadlines_and_ends_with_what_is_ending", func(t *testing.T, e *env) {
		late, early := e.putRecord(1, 9, unchanged), e.putRecord(2, 3, unchanged)
		dead := e.putRecord(3, 1, func(r *Record) { r.State = Dead })
		middle := e.putRecord(4, 6, unchanged)
		order := []string{early.ReferenceNumber, middle.ReferenceNumber, late.ReferenceNumber, dead.ReferenceNumber}
		require.Equal(t, [][]string{order}, e.pages(ListQuery{}))
		require.Equal(t, [][]string{order}, e.pages(ListQuery{Limit: 4}))
		require.Equal(t, [][]string{order[:3], order[3:]}, e.pages(ListQuery{Limit: 3}))
		require.Equal(t, [][]string{order[:1], order[1:2], order[2:3], order[3:]}, e.pages(ListQuery{Limit: 1}))
		page := e.list(ListQuery{})
		require.Equal(t, early.Deadline.UTC(), page.Tokens[0].Record.Deadline.UTC())
		require.Equal(t, Dead, page.Tokens[3].Record.State)
	})
	bubble(t, "filters", func(t *testing.T, e *env) {
		ours := e.putRecord(1, 3, unchanged).ReferenceNumber
		reports := e.putRecord(2, 4, func(r *Record) { r.Role = "reports" }).ReferenceNumber
		theirs := e.putRecord(3, 5, func(r *Record) { r.Target = secondTarget }).ReferenceNumber
		require.Equal(t, [][]string{{reports}}, e.pages(ListQuery{Role: "reports"}))
		require.Equal(t, [][]string{{theirs}}, e.pages(ListQuery{Taxpayer: secondTarget.Context}))
		require.Equal(t, [][]string{{ours}}, e.pages(ListQuery{Taxpayer: testTarget.Context, Role: "invoices"}))
	})
	bubble(t, "page_of_a_rare_match_is_short", func(t *testing.T, e *env) {
		for number := range 20 {
			e.putRecord(number, 3, unchanged)
		}
		rare := e.putRecord(30, 4, func(r *Record) { r.Role = "reports" }).ReferenceNumber
		require.Equal(t, [][]string{{}, {}, {rare}}, e.pages(ListQuery{Role: "reports", Limit: 2}))
	})
	bubble(t, "goes_on_where_the_last_record_of_a_page_is_gone", func(t *testing.T, e *env) {
		first, second := e.putRecord(1, 3, unchanged), e.putRecord(2, 5, unchanged)
		page := e.list(ListQuery{Limit: 1})
		require.NoError(t, e.store.remove(t.Context(), first.key()))
		require.Equal(t, [][]string{{second.ReferenceNumber}}, e.pages(ListQuery{Limit: 1, After: page.Next}))
	})
	bubble(t, "token_whose_end_has_begun_is_revoking", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.fail(&e.ksef.before, "DELETE", lostReply("DELETE"))
		e.reconciler.queueRevocation(e.stored(lease), "a test", false)
		require.Equal(t, Live, e.stored(lease).State)
		require.Equal(t, Revoking, e.list(ListQuery{}).Tokens[0].Record.State)
	})
	bubble(t, "two_records_of_a_token_are_one_of_the_later_state", func(t *testing.T, e *env) {
		record := e.putRecord(1, 3, unchanged)
		ending := *record
		ending.State = Revoking
		require.NoError(t, e.store.put(t.Context(), &ending))
		page := e.list(ListQuery{})
		require.Equal(t, []string{record.ReferenceNumber}, numbers(page))
		require.Equal(t, Revoking, page.Tokens[0].Record.State)
	})
	bubble(t, "unreadable_record_is_listed_without_a_filter", func(t *testing.T, e *env) {
		record := e.putRecord(1, 3, unchanged)
		require.NoError(t, e.diskByHand().Put(t.Context(), &logical.StorageEntry{Key: record.key(), Value: []byte("{")}))
		require.Equal(t, []Listed{{ReferenceNumber: record.ReferenceNumber, Unreadable: true}}, e.list(ListQuery{}).Tokens)
		require.Empty(t, e.list(ListQuery{Role: "invoices"}).Tokens)
	})
	bubble(t, "refuses_what_is_no_end_of_a_page", func(t *testing.T, e *env) {
		for _, after := range []string{"x", "20251010-EC-0000000001-0000000000-00", position{prefix: issuingPrefix, name: "a"}.String(), "bGl2ZS8"} {
			_, err := e.List(t.Context(), ListQuery{After: after})
			var mistake *client.InputError
			require.ErrorAs(t, err, &mistake, after)
			require.Equal(t, "after", mistake.Field)
		}
	})
	bubble(t, "fault_of_storage_is_returned", func(t *testing.T, e *env) {
		e.putRecord(1, 3, unchanged)
		e.disk.failReads(true)
		_, err := e.List(t.Context(), ListQuery{Limit: 1})
		require.ErrorIs(t, err, errDisk)
	})
}

// countingStorage counts the reads of records.
type countingStorage struct {
	logical.Storage
	reads int
}

func (s *countingStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if strings.HasPrefix(key, StoragePrefix) {
		s.reads++
	}
	return s.Storage.Get(ctx, key)
}

// listReads stores records, a hundredth of them of the role "reports", in buckets of a day. next
// lists a page and returns how many records it has read.
func listReads(e *env, count int) (next func(query ListQuery) (*Page, int)) {
	for number := range count {
		e.putRecord(number, 1+number%24, func(r *Record) {
			if number/24%100 == 0 {
				r.Role = "reports"
			}
		})
	}
	counting := &countingStorage{Storage: e.disk}
	e.store.Storage = counting
	return func(query ListQuery) (*Page, int) {
		counting.reads = 0
		return e.list(query), counting.reads
	}
}

func TestListReads(t *testing.T) {
	bubble(t, "no_more_of_many_records_than_a_page_may_need", func(t *testing.T, e *env) {
		const count, limit, pages = 100_000, 100, 10
		next := listReads(e, count)
		for _, role := range []string{"", "reports"} {
			seen, query := make(map[string]bool), ListQuery{Limit: limit, Role: role}
			for range pages {
				page, reads := next(query)
				require.LessOrEqual(t, reads, 4*limit)
				require.NotEmpty(t, page.Next)
				for _, number := range numbers(page) {
					require.False(t, seen[number], "twice")
					seen[number] = true
				}
				query.After = page.Next
			}
			require.NotEmpty(t, seen)
			require.Equal(t, role == "", len(seen) == pages*limit, "pages of a rare role are short")
		}
		page, reads := next(ListQuery{})
		require.Len(t, page.Tokens, count)
		require.Equal(t, maxDetails, reads)
		require.NotNil(t, page.Tokens[maxDetails-1].Record)
		require.Nil(t, page.Tokens[maxDetails].Record)
	})
	bubble(t, "each_record_once_in_all_pages", func(t *testing.T, e *env) {
		const count = 2_400
		next := listReads(e, count)
		for role, expected := range map[string]int{"": count, "invoices": count - 24, "reports": 24, "none": 0} {
			found, total := 0, 0
			for query := (ListQuery{Limit: 7, Role: role}); ; {
				page, reads := next(query)
				found, total = found+len(page.Tokens), total+reads
				if page.Next == "" {
					break
				}
				query.After = page.Next
			}
			require.Equal(t, expected, found, role)
			require.Equal(t, count, total, role)
		}
	})
}
