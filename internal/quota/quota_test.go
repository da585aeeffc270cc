// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package quota

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
)

var invoices = Group{Role: "invoices", Target: "Nip:5265877635"}

func token(id string) Token {
	return Token{Group: invoices, ID: id, Requester: "the entity e1", Created: time.Now()}
}

// of returns a token as Admit and BeginWrite take it.
func of(id string) func() Token {
	counted := token(id)
	return func() Token { return counted }
}

// storage is what counts are read from: tokens by the keys of their records.
type storage struct {
	records map[string]Token
	// during runs in the middle of each reading, before what is added.
	during func()
	err    error
	reads  int
}

func (s *storage) read(_ context.Context, into *Index) error {
	s.reads++
	for key, token := range s.records {
		into.Add(key, token)
	}
	if s.during != nil {
		s.during()
	}
	return s.err
}

// bubble runs a test with counts of an empty storage.
func bubble(t *testing.T, name string, test func(t *testing.T, stored *storage, counts *Counts)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			stored := &storage{records: make(map[string]Token)}
			test(t, stored, New(stored.read))
		})
	})
}

func requireLive(t *testing.T, counts *Counts, expected int) {
	t.Helper()
	live, err := counts.Live(t.Context())
	require.NoError(t, err)
	require.Equal(t, expected, live[invoices])
}

func admit(t *testing.T, counts *Counts, id string, limits Limits) *Place {
	t.Helper()
	place, err := counts.Admit(t.Context(), of(id), limits)
	require.NoError(t, err)
	return place
}

func refuse(t *testing.T, counts *Counts, id string, limits Limits) string {
	t.Helper()
	_, err := counts.Admit(t.Context(), of(id), limits)
	var mistake *client.InputError
	require.ErrorAs(t, err, &mistake)
	return mistake.Error()
}

func TestAdmit(t *testing.T) {
	bubble(t, "without_a_limit_nothing_is_read", func(t *testing.T, stored *storage, counts *Counts) {
		admit(t, counts, "a", Limits{}).Release(true)
		require.Zero(t, stored.reads)
		requireLive(t, counts, 0)
	})
	bubble(t, "storage_is_read_once", func(t *testing.T, stored *storage, counts *Counts) {
		for i := range 5 {
			admit(t, counts, fmt.Sprint(i), Limits{MaxLive: 9})
		}
		require.Equal(t, 1, stored.reads)
		requireLive(t, counts, 5)
	})
	bubble(t, "place_counts_until_its_release", func(t *testing.T, _ *storage, counts *Counts) {
		place := admit(t, counts, "a", Limits{MaxLive: 1})
		require.Equal(t, "max_live: is 1, and the role invoices in Nip:5265877635 has 1 token issuing, live or revoking; "+
			"revoke a token that is not needed any more (vault list sys/leases/lookup/<mount>/creds/invoices leads to the ids of leases), "+
			"or raise it: vault write <mount>/roles/invoices max_live=...", refuse(t, counts, "b", Limits{MaxLive: 1}))
		place.Release(false)
		admit(t, counts, "b", Limits{MaxLive: 1})
	})
	bubble(t, "record_takes_over_the_place", func(t *testing.T, _ *storage, counts *Counts) {
		place := admit(t, counts, "a", Limits{MaxLive: 1})
		counts.BeginWrite("issuing/a", of("a"))(nil)
		requireLive(t, counts, 1)
		place.Release(true)
		requireLive(t, counts, 1)
		counts.BeginWrite("live/a", of("a"))(nil)
		counts.Remove("issuing/a", nil)
		requireLive(t, counts, 1)
		counts.Remove("live/a", nil)
		counts.Remove("live/a", nil)
		requireLive(t, counts, 0)
	})
	bubble(t, "requesters_are_counted_apart", func(t *testing.T, stored *storage, counts *Counts) {
		stored.records["live/a"] = Token{Group: invoices, ID: "a"}
		limits := Limits{MaxLivePerEntity: 1}
		admit(t, counts, "b", limits)
		require.Contains(t, refuse(t, counts, "c", limits), "has 1 token issuing, live or revoking for the entity e1;")
		_, err := counts.Admit(t.Context(), func() Token { return Token{Group: invoices, ID: "c"} }, limits)
		require.ErrorContains(t, err, "for requests without an entity and a display name;")
	})
	bubble(t, "groups_are_counted_apart", func(t *testing.T, stored *storage, counts *Counts) {
		for i, group := range []Group{{Role: "reports", Target: invoices.Target}, {Role: invoices.Role, Target: "Nip:1234563218"}} {
			stored.records[fmt.Sprint(i)] = Token{Group: group, ID: fmt.Sprint(i), Created: time.Now()}
		}
		admit(t, counts, "a", Limits{MaxLive: 1, MaxPerHour: 1})
	})
	bubble(t, "hour_slides", func(t *testing.T, _ *storage, counts *Counts) {
		limits := Limits{MaxPerHour: 2}
		admit(t, counts, "a", limits).Release(true)
		time.Sleep(10 * time.Minute)
		admit(t, counts, "b", limits).Release(true)
		require.Contains(t, refuse(t, counts, "c", limits), "or ask again at 2000-01-01T01:00:00Z")
		time.Sleep(50 * time.Minute)
		admit(t, counts, "c", limits).Release(true)
		require.Equal(t, "max_per_hour: is 1, and the role invoices in Nip:5265877635 has had 2 tokens within the last hour; "+
			"keep a token for its whole lease, or raise it (vault write <mount>/roles/invoices max_per_hour=...), or ask again at 2000-01-01T02:00:00Z",
			refuse(t, counts, "d", Limits{MaxPerHour: 1}))
		require.Contains(t, refuse(t, counts, "d", limits), "or ask again at 2000-01-01T01:10:00Z")
		issued, err := counts.Issued(t.Context(), invoices)
		require.NoError(t, err)
		require.Len(t, issued, 2)
	})
	bubble(t, "token_that_was_not_made_is_not_of_the_hour", func(t *testing.T, _ *storage, counts *Counts) {
		for range 3 {
			admit(t, counts, "a", Limits{MaxPerHour: 1}).Release(false)
		}
	})
	bubble(t, "wrong_clock_of_before_refuses_nothing", func(t *testing.T, stored *storage, counts *Counts) {
		stored.records["live/a"] = Token{Group: invoices, ID: "a", Created: time.Now().Add(24 * time.Hour)}
		admit(t, counts, "b", Limits{MaxPerHour: 1})
	})
	bubble(t, "hours_of_before_are_forgotten", func(t *testing.T, _ *storage, counts *Counts) {
		requireLive(t, counts, 0)
		for i := range 10 * minPrune {
			counts.BeginWrite("live/a", of(fmt.Sprint(i)))(nil)
			counts.Remove("live/a", nil)
			time.Sleep(10 * time.Minute)
		}
		require.LessOrEqual(t, len(counts.index.groups[invoices].issued), minPrune)
	})
}

func TestReading(t *testing.T) {
	errDisk := errors.New("the disk is full")
	bubble(t, "learns_of_changes_during_it", func(t *testing.T, stored *storage, counts *Counts) {
		stored.records["live/a"], stored.records["live/b"] = token("a"), token("b")
		end := counts.BeginWrite("issuing/c", of("c")) // stored after its place in the reading
		stored.during = func() {
			counts.Remove("live/a", nil)
			counts.BeginWrite("ending/b", of("b"))(nil)
			counts.Remove("live/b", nil)
			counts.BeginWrite("issuing/d", of("d"))(nil)
		}
		requireLive(t, counts, 3)
		end(nil)
		requireLive(t, counts, 3)
		for _, key := range []string{"ending/b", "issuing/c", "issuing/d"} {
			counts.Remove(key, nil)
		}
		requireLive(t, counts, 0)
		require.Equal(t, 1, stored.reads)
	})
	bubble(t, "keeps_the_places", func(t *testing.T, stored *storage, counts *Counts) {
		limits := Limits{MaxLive: 2, MaxPerHour: 9}
		first, second := admit(t, counts, "a", limits), admit(t, counts, "b", limits)
		counts.Remove("ending/x", errDisk)
		stored.during = func() { first.Release(false) }
		requireLive(t, counts, 1)
		second.Release(true)
		requireLive(t, counts, 0)
		issued, err := counts.Issued(t.Context(), invoices)
		require.NoError(t, err)
		require.Len(t, issued, 1)
	})
	bubble(t, "is_repeated_after_a_failed_write", func(t *testing.T, stored *storage, counts *Counts) {
		requireLive(t, counts, 0)
		counts.BeginWrite("live/a", of("a"))(errDisk)
		requireLive(t, counts, 0)
		stored.records["live/b"] = token("b")
		counts.Remove("live/b", errDisk)
		requireLive(t, counts, 1)
		require.Equal(t, 3, stored.reads)
	})
	bubble(t, "is_repeated_after_a_write_that_fails_during_it", func(t *testing.T, stored *storage, counts *Counts) {
		stored.during = func() {
			if stored.reads == 1 {
				counts.BeginWrite("live/a", of("a"))(errDisk)
			}
		}
		requireLive(t, counts, 0)
		require.Equal(t, 2, stored.reads)
	})
	bubble(t, "fault_is_returned_and_not_kept", func(t *testing.T, stored *storage, counts *Counts) {
		stored.err = errDisk
		_, err := counts.Admit(t.Context(), of("a"), Limits{MaxLive: 1})
		require.ErrorIs(t, err, errDisk)
		stored.err = nil
		admit(t, counts, "a", Limits{MaxLive: 1})
	})
	bubble(t, "others_wait_for_it", func(t *testing.T, stored *storage, counts *Counts) {
		stored.during = func() { time.Sleep(time.Minute) }
		go func() { _, _ = counts.Live(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := counts.Admit(ctx, of("a"), Limits{MaxLive: 1})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireLive(t, counts, 0)
		require.Equal(t, 1, stored.reads)
	})
}
