// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

func TestJournalKnowsEachRequestBeforeItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, broken := &memory{}, errors.New("storage is sealed")
		l := open(t, ratelimit.NewRegistry(), j)
		j.fail(broken)
		_, err := l.Acquire(ctx(), revoke, now)
		require.ErrorIs(t, err, broken)
		require.Zero(t, usage(t, l, revoke).Hour.Used, "the slot is given back")

		j.delay = time.Second
		var waiters []<-chan result
		for range 10 {
			waiters = append(waiters, waiting(ctx(), l, hour, synctest.Wait))
		}
		for _, w := range waiters {
			require.ErrorIs(t, (<-w).err, broken)
		}
		require.LessOrEqual(t, j.count(), 3, "a failure is shared by those who wait for it")

		_, err = ratelimit.NewRegistry().Open(ctx(), key, j)
		require.ErrorIs(t, err, broken)
		j.fail(nil)
		acquire(t, l, hour).Done()
		require.Equal(t, 1, usage(t, l, revoke).Hour.Used)
	})
}

func TestJournalThatIsSlowDelaysOnlyItsLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, slow := ratelimit.NewRegistry(), &memory{delay: time.Minute}
		l, b := open(t, r, slow), open(t, r, &memory{})
		begin := time.Now()
		w := waiting(ctx(), l, hour, synctest.Wait)
		send(t, b, 1)
		require.Equal(t, begin.Add(time.Second), time.Now(), "another waits a moment, so that this journal counts its requests")
		send(t, b, 1)
		require.Equal(t, begin.Add(time.Second), time.Now(), "and then no more")
		got := <-w
		require.NoError(t, got.err)
		require.Equal(t, begin.Add(time.Minute), got.at)
		got.permit.Done()
	})
}

func TestJournalWriteOfCancelledRequestIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{delay: 10 * time.Second}
		l := open(t, ratelimit.NewRegistry(), j)
		begin := time.Now()
		var hasty []<-chan result
		var patient <-chan result
		for i := range 9 {
			if i == 1 {
				patient = waiting(ctx(), l, hour, synctest.Wait)
			}
			c, cancel := context.WithTimeout(ctx(), time.Duration(i+1)*time.Second)
			t.Cleanup(cancel)
			hasty = append(hasty, waiting(c, l, hour, synctest.Wait))
		}
		for _, w := range hasty {
			require.ErrorIs(t, (<-w).err, context.DeadlineExceeded)
		}
		got := <-patient
		require.NoError(t, got.err)
		require.LessOrEqual(t, got.at.Sub(begin), 19*time.Second)
		require.Equal(t, 1, usage(t, l, revoke).InFlight)
		got.permit.Done()
	})
}

func TestCloseDuringWriteSavesExactState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{delay: time.Second}
		l := open(t, ratelimit.NewRegistry(), j)
		var waiters []<-chan result
		for range 20 {
			waiters = append(waiters, waiting(ctx(), l, hour, synctest.Wait))
		}
		require.NoError(t, l.Close(ctx()))
		for _, w := range waiters {
			require.ErrorIs(t, (<-w).err, ratelimit.ErrClosed)
		}
		require.Empty(t, open(t, ratelimit.NewRegistry(), j.afterCrash()).Usage())
	})
}

func TestClockSetBackLeavesWindowsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		l := open(t, ratelimit.NewRegistry(), j)
		send(t, l, 10)
		require.NoError(t, l.Block(ctx(), "POST /tokens", time.Now().Add(time.Minute)))
		time.Sleep(20 * time.Minute)
		require.NoError(t, l.Close(ctx()))

		saved := time.Now().UnixMilli()
		future := strings.Replace(string(j.data), fmt.Sprint(saved), fmt.Sprint(saved+24*3600*1000), 1)
		require.NotEqual(t, string(j.data), future)
		l = open(t, ratelimit.NewRegistry(), &memory{data: []byte(future)})
		require.Equal(t, 10, usage(t, l, revoke).Hour.Used)
		time.Sleep(keptHour - 20*time.Minute - time.Millisecond)
		require.Equal(t, 10, usage(t, l, revoke).Hour.Used)
		time.Sleep(time.Millisecond)
		require.Zero(t, usage(t, l, revoke).Hour.Used)
	})
}

func TestJournalDamagedErrorSaysWhy(t *testing.T) {
	for data, want := range map[string]string{
		`{`:                                     "decoding the journal of KSeF's request limits",
		`{"version":2}`:                         "version is 2",
		`{"version":1}`:                         "account or saved",
		`{"account":"a","saved":-1}`:            "account or saved",
		endpointEntry(`{"pending":-1}`):         `endpoint "POST /tokens": pending is -1`,
		endpointEntry(`{"pending":9999999}`):    "pending is 9999999",
		endpointEntry(`{"blocked":-1}`):         "blocked is -1",
		endpointEntry(`{"ages":[5,-30001]}`):    "an age is -30001",
		endpointEntry(`{"limits":{"hour":-1}}`): "limits",
	} {
		_, err := ratelimit.NewRegistry().Open(ctx(), key, &memory{data: []byte(data)})
		require.ErrorContains(t, err, want, data)
	}
}

func endpointEntry(e string) string {
	return `{"version":1,"account":"a","saved":1,"endpoints":{"POST /tokens":` + e + `}}`
}

// A node takes over the journal of a node whose clock is behind.
func TestClockOfAnotherNode(t *testing.T) {
	for name, c := range map[string]struct {
		ahead   time.Duration
		shorter time.Duration // than with one clock
	}{
		"as ours":             {0, -clockAllowance},
		"ahead by 2 minutes":  {2 * time.Minute, 0},
		"behind by 2 minutes": {-2 * time.Minute, -4 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &memory{}
				l := open(t, ratelimit.NewRegistry(), j)
				send(t, l, 120)
				begin := time.Now()
				require.NoError(t, l.Block(ctx(), "POST /tokens", begin.Add(45*time.Minute)))
				require.NoError(t, l.Close(ctx()))
				free := l.NextPermit(revoke, 119)

				time.Sleep(10 * time.Minute)
				l = open(t, ratelimit.NewRegistry(), &memory{data: byAnotherClock(t, j.data, c.ahead)})
				require.Equal(t, c.shorter, begin.Add(45*time.Minute).Sub(l.NextPermit("POST /tokens", 0)))
				require.Equal(t, c.shorter, free.Sub(l.NextPermit(revoke, 119)).Round(time.Second))
			})
		})
	}
}

// byAnotherClock returns the journal as written by a node whose clock is so far behind.
func byAnotherClock(t *testing.T, data []byte, ahead time.Duration) []byte {
	t.Helper()
	var record map[string]any
	require.NoError(t, json.Unmarshal(data, &record))
	record["clock"] = "another"
	record["saved"] = int64(record["saved"].(float64)) - ahead.Milliseconds()
	data, err := json.Marshal(record)
	require.NoError(t, err)
	return data
}

// Any content is refused, or the limiter works with it, and writes a journal that can be read and
// keeps every request.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte(endpointEntry(`{"ages":[3599999,1000,0],"pending":9,"blocked":1000,"limits":{"second":1,"hour":5,"age":3}}`)))
	f.Add([]byte(endpointEntry(`{"ages":[9223372036854775807],"pending":65536,"blocked":9223372036854775807,"limits":{"age":9223372036854775807}}`)))
	f.Add(fmt.Appendf(nil, `{"version":1,"account":"a","saved":%d,"endpoints":{"POST /tokens":{"ages":[0,1]}}}`, time.Now().UnixMilli()))
	f.Fuzz(func(t *testing.T, data []byte) {
		j := &memory{data: data}
		l, err := ratelimit.NewRegistry().Open(ctx(), key, j)
		if err != nil {
			return
		}
		l.NextPermit(revoke, 3)
		if p, err := l.Acquire(ctx(), revoke, now); err == nil {
			p.Done()
		}
		before := l.Usage()
		require.NoError(t, l.Close(ctx()))
		if j.count() == 0 {
			return
		}
		require.True(t, json.Valid(j.data))
		after := open(t, ratelimit.NewRegistry(), j)
		for _, u := range before {
			if u.Hour.Limit > 0 && u.Hour.Used > 0 && u.Hour.Used == u.Minute.Used {
				require.Equal(t, u.Hour.Used, usage(t, after, u.Endpoint).Hour.Used)
			}
		}
	})
}
