// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package quota

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// hour is what MaxPerHour looks back over.
const hour = time.Hour

// Index has the tokens by the keys of their records.
type Index struct {
	byKey  map[string]*counted
	byID   map[string]*counted
	groups map[Group]*counts
}

// counted is a token with the number of its keys: for a moment, a record that moves has two. Many
// share their texts by the pointers.
type counted struct {
	id        string
	group     *counts
	requester *requester
	keys      int
}

// requester is who has asked for so many tokens of a group.
type requester struct {
	name string
	live int
}

// counts are those of a group.
type counts struct {
	live        int
	byRequester map[string]*requester
	// issued are the tokens of the last hour, dead ones included, and some that are older; pruneAt
	// is how many there may be before those are removed.
	issued  map[string]time.Time
	pruneAt int
}

func newIndex() *Index {
	return &Index{byKey: make(map[string]*counted), byID: make(map[string]*counted), groups: make(map[Group]*counts)}
}

func (i *Index) group(group Group) *counts {
	found := i.groups[group]
	if found == nil {
		found = &counts{byRequester: make(map[string]*requester), issued: make(map[string]time.Time)}
		i.groups[group] = found
	}
	return found
}

func (c *counts) requester(name string) *requester {
	found := c.byRequester[name]
	if found == nil {
		found = &requester{name: name}
		c.byRequester[name] = found
	}
	return found
}

// Add counts a token that has a record under a key.
func (i *Index) Add(key string, token Token) {
	if i.byKey[key] != nil {
		return
	}
	found := i.byID[token.ID]
	if found == nil {
		group := i.group(token.Group)
		found = &counted{id: token.ID, group: group, requester: group.requester(token.Requester)}
		i.byID[token.ID] = found
		group.live++
		found.requester.live++
		i.AddIssued(token.Group, token.ID, token.Created)
	}
	found.keys++
	i.byKey[key] = found
}

// remove ends a record, and with the last of a token the token's life.
func (i *Index) remove(key string) {
	found := i.byKey[key]
	if found == nil {
		return
	}
	delete(i.byKey, key)
	if found.keys--; found.keys > 0 {
		return
	}
	delete(i.byID, found.id)
	found.group.live--
	if found.requester.live--; found.requester.live == 0 {
		delete(found.group.byRequester, found.requester.name)
	}
}

// AddIssued says when a token was issued that may be dead.
func (i *Index) AddIssued(group Group, id string, at time.Time) {
	now := time.Now()
	if !IsRecent(at, now) {
		return
	}
	counts := i.group(group)
	counts.issued[id] = at
	if len(counts.issued) > counts.pruneAt {
		counts.prune(now)
	}
}

func (i *Index) live() map[Group]int {
	live := make(map[Group]int, len(i.groups))
	for group, counts := range i.groups {
		if counts.live > 0 {
			live[group] = counts.live
		}
	}
	return live
}

func (i *Index) removeIssued(token Token) { delete(i.group(token.Group).issued, token.ID) }

func (i *Index) issuedSince(group Group, now time.Time) map[string]time.Time {
	found := i.group(group)
	found.prune(now)
	return maps.Clone(found.issued)
}

// minPrune keeps small groups from being searched at each token.
const minPrune = 64

func (c *counts) prune(now time.Time) {
	maps.DeleteFunc(c.issued, func(_ string, at time.Time) bool { return !IsRecent(at, now) })
	c.pruneAt = max(minPrune, 2*len(c.issued))
}

// IsRecent says that the hour up to now counts a token. One that was issued more than an hour in
// the future does not count: the clock was wrong then.
func IsRecent(at, now time.Time) bool { return now.Sub(at).Abs() < hour }

// check returns a *client.InputError where a further token would be beyond a limit.
func (i *Index) check(token *Token, limits Limits, now time.Time) error {
	group := i.group(token.Group)
	if reached(limits.MaxLive, group.live) {
		return &client.InputError{
			Field: "max_live", Fault: fmt.Sprintf("is %d, and %s has %s issuing, live or revoking", limits.MaxLive, token.Group, tokens(group.live)),
			Remedy: remedyOfLive("max_live", token.Role),
		}
	}
	if own := group.liveOf(token.Requester); reached(limits.MaxLivePerEntity, own) {
		return &client.InputError{
			Field: "max_live_per_entity",
			Fault: fmt.Sprintf("is %d, and %s has %s issuing, live or revoking for %s",
				limits.MaxLivePerEntity, token.Group, tokens(own), cmp.Or(token.Requester, "requests without an entity and a display name")),
			Remedy: remedyOfLive("max_live_per_entity", token.Role),
		}
	}
	return group.checkHour(token, limits.MaxPerHour, now)
}

func (c *counts) liveOf(name string) int {
	if found := c.byRequester[name]; found != nil {
		return found.live
	}
	return 0
}

func (c *counts) checkHour(token *Token, limit int, now time.Time) error {
	c.prune(now)
	if !reached(limit, len(c.issued)) {
		return nil
	}
	oldestFirst := slices.SortedFunc(maps.Values(c.issued), time.Time.Compare)
	next := oldestFirst[len(oldestFirst)-limit].Add(hour)
	return &client.InputError{
		Field: "max_per_hour", Fault: fmt.Sprintf("is %d, and %s has had %s within the last hour", limit, token.Group, tokens(len(c.issued))),
		Remedy: fmt.Sprintf("keep a token for its whole lease, or raise it (vault write <mount>/roles/%s max_per_hour=...), or ask again at %s",
			token.Role, next.UTC().Format(time.RFC3339)),
	}
}

func tokens(count int) string {
	if count == 1 {
		return "1 token"
	}
	return fmt.Sprintf("%d tokens", count)
}

// reached says that a limit leaves no room; 0 is no limit.
func reached(limit, count int) bool { return limit > 0 && count >= limit }

func remedyOfLive(field, role string) string {
	return fmt.Sprintf("revoke a token that is not needed any more (vault list sys/leases/lookup/<mount>/creds/%s leads to the ids of leases), "+
		"or raise it: vault write <mount>/roles/%s %s=...", role, role, field)
}

// String names the group in errors.
func (g Group) String() string { return fmt.Sprintf("the role %s in %s", g.Role, g.Target) }
