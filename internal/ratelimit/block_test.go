// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

func TestBlockHoldsUntilRetryAfterIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ratelimit.NewRegistry()
		l, b := open(t, r, &memory{}), open(t, r, &memory{})
		begin := time.Now()
		send(t, l, 10)
		hasty := waiting(ctx(), b, ratelimit.Wait{AtMost: 29 * time.Second}, synctest.Wait)
		patient := waiting(ctx(), b, ratelimit.Wait{AtMost: 30 * time.Second}, synctest.Wait)

		require.NoError(t, l.Block(ctx(), revoke, begin.Add(30*time.Second)))
		require.NoError(t, l.Block(ctx(), revoke, begin.Add(20*time.Second)), "a block is never shortened")
		got := <-hasty
		require.Equal(t, begin, got.at)
		require.Equal(t, &ratelimit.ExhaustedError{Endpoint: revoke, Next: begin.Add(30 * time.Second), Position: 1}, refused(t, got.err))
		require.Equal(t, begin.Add(30*time.Second), l.NextPermit(revoke, 0))
		require.Equal(t, begin.Add(30*time.Second+keptSecond), l.NextPermit(revoke, 10))

		got = <-patient
		require.NoError(t, got.err)
		require.Equal(t, begin.Add(30*time.Second), got.at)
		got.permit.Done()
	})
}

func TestBlockSurvivesRestart(t *testing.T) {
	for _, endpoint := range []string{revoke, "POST /auth/challenge"} {
		t.Run(endpoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &memory{}
				l := open(t, ratelimit.NewRegistry(), j)
				until := time.Now().Add(2680 * time.Second)
				require.NoError(t, l.Block(ctx(), endpoint, until))
				require.NoError(t, l.Block(ctx(), endpoint, until))
				require.Equal(t, 1, j.count())
				time.Sleep(1000 * time.Second)
				require.True(t, until.Equal(open(t, ratelimit.NewRegistry(), j.afterCrash()).NextPermit(endpoint, 0)))
				time.Sleep(1680 * time.Second)
				require.Zero(t, usage(t, open(t, ratelimit.NewRegistry(), j.afterCrash()), endpoint).BlockedUntil)
			})
		})
	}
}

func TestBlockInThePastIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		l := open(t, ratelimit.NewRegistry(), j)
		require.NoError(t, l.Block(ctx(), revoke, time.Now()))
		require.Zero(t, usage(t, l, revoke).BlockedUntil)
		require.Zero(t, j.count())
	})
}

func TestBlockHoldsWhenJournalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, broken := &memory{}, errors.New("storage is read-only")
		r := ratelimit.NewRegistry()
		l := open(t, r, j)
		j.fail(broken)
		until := time.Now().Add(time.Minute)
		require.ErrorIs(t, l.Block(ctx(), revoke, until), broken)
		require.True(t, until.Equal(l.NextPermit(revoke, 0)))
		require.ErrorIs(t, l.Close(ctx()), broken)
		j.fail(nil)

		l = open(t, r, j)
		require.True(t, until.Equal(l.NextPermit(revoke, 0)), "the registry keeps what no journal has")
		require.NoError(t, l.Block(ctx(), revoke, until.Add(time.Second)))
		require.True(t, until.Add(time.Second).Equal(open(t, ratelimit.NewRegistry(), j.afterCrash()).NextPermit(revoke, 0)))
	})
}

func TestBlockReachesRequestThatWaitsForJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ratelimit.NewRegistry()
		l, b := open(t, r, &memory{delay: time.Second}), open(t, r, &memory{})
		begin := time.Now()
		patient := waiting(ctx(), l, hour, synctest.Wait)
		hasty := waiting(ctx(), l, ratelimit.Wait{AtMost: 10 * time.Second}, synctest.Wait)
		require.NoError(t, b.Block(ctx(), revoke, begin.Add(time.Minute)))
		got := <-hasty
		require.Equal(t, begin.Add(time.Second), got.at)
		require.Equal(t, begin.Add(time.Minute), refused(t, got.err).Next)
		got = <-patient
		require.NoError(t, got.err)
		require.Equal(t, begin.Add(time.Minute), got.at)
		got.permit.Done()
		require.NoError(t, l.Close(ctx()))
	})
}

func TestBlockKeepsPlacesInQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ratelimit.NewRegistry()
		slow := &memory{delay: time.Second}
		l, b := open(t, r, slow), open(t, r, &memory{})
		begin := time.Now()
		var waiters []<-chan result
		for range 15 { // 10 have a permit and wait for the journal, 5 wait for a permit
			waiters = append(waiters, waiting(ctx(), l, hour, synctest.Wait))
		}
		b.SetLimits(revoke, ratelimit.Limits{PerSecond: 1})
		slow.set(0, false, false)
		require.NoError(t, b.Block(ctx(), revoke, begin.Add(time.Minute)))
		for i, w := range waiters {
			got := <-w
			require.NoError(t, got.err)
			require.Equal(t, begin.Add(time.Minute+time.Duration(i)*keptSecond), got.at, i)
			got.permit.Done()
		}
	})
}

func TestBlockOfTwoJournalsIsTheLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		short, long := &memory{}, &memory{}
		require.NoError(t, open(t, ratelimit.NewRegistry(), short).Block(ctx(), revoke, begin.Add(time.Minute)))
		require.NoError(t, open(t, ratelimit.NewRegistry(), long).Block(ctx(), revoke, begin.Add(time.Hour)))
		for _, journals := range [][]*memory{{short, long}, {long, short}} {
			r := ratelimit.NewRegistry()
			open(t, r, journals[0])
			require.Equal(t, begin.Add(time.Hour), open(t, r, journals[1]).NextPermit(revoke, 0))
		}
	})
}
