// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"encoding/base64"
	"errors"
	"regexp"
	"slices"

	"vault-plugin-secrets-ksef/client"
)

// readsPerToken bounds the records that a page reads, by the tokens that it may have: where few
// tokens pass a filter, a page is short rather than slow.
const readsPerToken = 4

// maxDetails is how many records a list of all tokens reads; of the others it has the numbers.
const maxDetails = 1000

// ListQuery asks for a page of the tokens that have a record and a reference number.
type ListQuery struct {
	// After is Next of the page before; "" for the first page.
	After string
	// Limit is the most tokens of the page; 0 for all.
	Limit int
	// Role, also that of a holder, and Taxpayer are those of the tokens; their zero values stand
	// for any.
	Role     string
	Taxpayer client.ContextIdentifier
}

// Page has tokens in the order of their leases' ends as issued, by the hour; then come those
// without a lease, and last those that are revoking or dead. A token that changes its place between
// two pages may be on both.
type Page struct {
	Tokens []Listed
	// Next is After of the next page; "" on the last.
	Next string
}

// Listed is a token of a page.
type Listed struct {
	ReferenceNumber string
	// Record is nil where it cannot be read, or was not; its state is Revoking as soon as the
	// token's revocation has begun.
	Record     *Record
	Unreadable bool
}

// List returns a page of tokens. With a limit it reads four times as many records at most, so that
// a page may be short, or empty, and not be the last. Without a limit and a filter it reads the
// first 1000 records. A *client.InputError says that After is no Next of a page; other errors are
// faults of storage.
func (l *Ledger) List(ctx context.Context, query ListQuery) (*Page, error) {
	after, err := parsePosition(query.After)
	if err != nil {
		return nil, err
	}
	reading := pageReading{ledger: l, query: query, at: make(map[string]int)}
	err = l.store.eachAfter(ctx, after, func(next position) error {
		if reading.isFull() {
			return errPageFull
		}
		return reading.add(ctx, next)
	})
	if errors.Is(err, errPageFull) {
		reading.page.Next, err = reading.last.String(), nil
	}
	return &reading.page, err
}

var errPageFull = errors.New("the page is full")

// pageReading is the reading of one page.
type pageReading struct {
	ledger *Ledger
	query  ListQuery
	page   Page
	// at maps a reference number to its index in the page.
	at    map[string]int
	reads int
	last  position
}

func (p *pageReading) isFull() bool {
	limit := p.query.Limit
	return limit > 0 && (len(p.page.Tokens) == limit || p.reads/readsPerToken >= limit)
}

func (p *pageReading) hasFilter() bool { return p.query.Role != "" || !p.query.Taxpayer.IsZero() }

func (p *pageReading) add(ctx context.Context, next position) error {
	p.last = next
	if p.query.Limit == 0 && !p.hasFilter() && p.reads == maxDetails {
		p.put(Listed{ReferenceNumber: next.name})
		return nil
	}
	p.reads++
	record, err := p.ledger.store.get(ctx, next.prefix+next.name)
	unreadable := errors.Is(err, errUnreadableRecord)
	switch {
	case unreadable && !p.hasFilter():
		p.put(Listed{ReferenceNumber: next.name, Unreadable: true})
	case err != nil && !unreadable:
		return err
	case record != nil && p.query.matches(record):
		if record.State == Live && p.ledger.reconciler.isEnding(next.name) {
			record.State = Revoking
		}
		p.put(Listed{ReferenceNumber: next.name, Record: record})
	}
	return nil
}

// put adds a token to the page. A second record of one is that of the later state, which counts.
func (p *pageReading) put(token Listed) {
	if at, twice := p.at[token.ReferenceNumber]; twice {
		if token.Record != nil {
			p.page.Tokens[at] = token
		}
		return
	}
	p.at[token.ReferenceNumber] = len(p.page.Tokens)
	p.page.Tokens = append(p.page.Tokens, token)
}

func (q *ListQuery) matches(record *Record) bool {
	return (q.Role == "" || q.Role == record.Role || q.Role == record.Holder.Role) && (q.Taxpayer.IsZero() || q.Taxpayer == record.Target.Context)
}

// position is the place of a record in the order of a list: the prefix of its key and its name.
type position struct{ prefix, name string }

// String returns the position as a text that means nothing to users.
func (p position) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.prefix[len(StoragePrefix):] + p.name))
}

var positionPattern = regexp.MustCompile(`^((?:live/[^/]+|unleased/live|ending)/)([^/]+)$`)

// parsePosition returns the zero position, which is before all others, for "".
func parsePosition(text string) (position, error) {
	if text == "" {
		return position{}, nil
	}
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	found := positionPattern.FindSubmatch(decoded)
	if err != nil || found == nil {
		return position{}, &client.InputError{
			Field: "after", Fault: "is not the end of a page", Remedy: "give next of the page before, unchanged, or leave it out for the first page",
		}
	}
	return position{prefix: StoragePrefix + string(found[1]), name: string(found[2])}, nil
}

// eachAfter calls do with the positions behind another one until do fails: of live records, then of
// those without a lease, then of ending ones. It lists them in the order in which records move.
func (s store) eachAfter(ctx context.Context, after position, do func(position) error) error {
	prefixes, err := s.livePrefixes(ctx)
	if err != nil {
		return err
	}
	prefixes = append(prefixes, unleasedPrefix, endingPrefix)
	first := slices.IndexFunc(prefixes, func(prefix string) bool {
		return prefix == endingPrefix || after.prefix != endingPrefix && prefix >= after.prefix
	})
	return s.eachName(ctx, prefixes[first:], func(prefix, name string) error {
		if prefix == after.prefix && name <= after.name {
			return nil
		}
		return do(position{prefix, name})
	})
}
