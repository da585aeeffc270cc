// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/externallogin"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestAdvance(t *testing.T) {
	run(t, map[string]func(f *fixture){
		"polls at growing intervals while KSeF decides": func(f *fixture) {
			f.inProgress()
			var pauses []time.Duration
			for range 8 {
				pause := f.advance()
				pauses = append(pauses, pause/time.Second)
				<-time.After(pause)
			}
			require.True(f, slices.IsSorted(pauses), "%v", pauses)
			require.LessOrEqual(f, pauses[0], time.Duration(2))
			require.LessOrEqual(f, pauses[7], time.Duration(30))
			require.Equal(f, 8, f.ksef.requests[loginState])
		},
		"does not poll before the next step is due": func(f *fixture) {
			f.inProgress()
			f.advance()
			f.advance()
			require.Equal(f, 1, f.ksef.requests[loginState])
		},
		"continues a login after a restart": func(f *fixture) {
			f.inProgress()
			f.advance()
			f.restart()
			f.succeed()
			require.Zero(f, f.advance())
			require.Len(f, f.kept, 1)
			require.Equal(f, reference, f.kept[0].ReferenceNumber)
			require.True(f, f.kept[0].External)
		},
		"leaves a login alone that was not submitted": func(f *fixture) {
			f.begin()
			require.Zero(f, f.advance())
			require.Zero(f, f.ksef.requests[loginState])
		},
		"fails a login for another environment without a request": func(f *fixture) {
			f.inProgress()
			f.upstream.API = "https://other.test/v2"
			require.Zero(f, f.advance())
			require.Len(f, f.failures, 1)
			require.ErrorContains(f, f.failures[0], "another KSeF")
			require.Zero(f, f.ksef.requests[loginState])
		},
		"fails a login that KSeF can no longer be asked for, without a request": func(f *fixture) {
			f.inProgress()
			<-time.After(46 * time.Minute)
			require.Zero(f, f.advance())
			require.Len(f, f.failures, 1)
			require.Zero(f, f.ksef.requests[loginState])
		},
		"fails a refused login once, with KSeF's status": func(f *fixture) {
			f.inProgress()
			f.ksef.responses[loginState] = state(415, false)
			require.Zero(f, f.advance())
			require.Zero(f, f.advance())
			require.Len(f, f.failures, 1)
			require.ErrorAs(f, f.failures[0], new(*client.LoginError))
			require.Equal(f, 1, f.ksef.requests[loginState])
			require.Contains(f, f.states()[0].Failure, "415")
			_, err := f.await()
			require.ErrorAs(f, err, new(*externallogin.FailedError))
		},
		"removes the bearer token of a failed login from storage": func(f *fixture) {
			f.inProgress()
			require.Contains(f, f.stored(), "operation-token")
			f.ksef.responses[loginState] = state(415, false)
			f.advance()
			require.NotContains(f, f.stored(), "operation-token")
		},
		"retries after an error of KSeF's": func(f *fixture) {
			f.inProgress()
			f.ksef.responses[loginState] = response{status: 500}
			<-time.After(f.advance())
			require.Error(f, f.states()[0].Err)
			require.Empty(f, f.failures)
			f.succeed()
			require.Zero(f, f.advance())
			require.Len(f, f.kept, 1)
		},
		"retries without a usable configuration": func(f *fixture) {
			f.inProgress()
			upstream := f.upstream
			f.options.Open = func(context.Context) (*externallogin.Upstream, error) {
				if f.upstream == nil {
					return nil, errors.New("no configuration")
				}
				return f.upstream, nil
			}
			f.restart()
			f.upstream = nil
			<-time.After(f.advance())
			require.Empty(f, f.failures)
			f.upstream = upstream
			f.succeed()
			require.Zero(f, f.advance())
			require.Len(f, f.kept, 1)
		},
		"continues past an unreadable record": func(f *fixture) {
			f.inProgress()
			damaged := &logical.StorageEntry{Key: externallogin.StoragePrefix + "0", Value: []byte("damaged")}
			require.NoError(f, f.storage.Put(f.Context(), damaged))
			f.succeed()
			require.Zero(f, f.advance())
			require.Len(f, f.kept, 1)
		},
	})
	for name, gone := range map[string]response{
		"410": refusal(410, 21304), "401": {status: 401}, "unknown login": refusal(400, 21304), "invalid session": refusal(400, 21308),
	} {
		t.Run("fails a login that KSeF no longer knows/"+name, func(t *testing.T) {
			withFake(t, func(f *fixture) {
				f.inProgress()
				f.ksef.responses[loginState] = gone
				require.Zero(f, f.advance())
				require.Len(f, f.failures, 1)
			})
		})
	}
}

func TestRedeemRules(t *testing.T) {
	run(t, map[string]func(f *fixture){
		"waits a minute for a session that is not redeemable yet, then fails": func(f *fixture) {
			f.inProgress()
			f.succeed()
			f.ksef.responses[redeem] = refusal(400, 21301)
			took, err := f.await()
			require.ErrorContains(f, err, "does not give out the session")
			require.GreaterOrEqual(f, took, time.Minute)
			require.LessOrEqual(f, took, 91*time.Second)
			require.Empty(f, f.lost)
		},
		"fails after a refusal": func(f *fixture) {
			f.inProgress()
			f.succeed()
			f.ksef.responses[redeem] = refusal(400, 21999)
			_, err := f.await()
			require.ErrorContains(f, err, "does not give out the session")
			require.Equal(f, 1, f.ksef.requests[redeem])
		},
		"retries after 429": func(f *fixture) {
			f.inProgress()
			f.succeed()
			session := f.ksef.responses[redeem]
			f.ksef.responses[redeem] = response{status: 429}
			<-time.After(f.advance())
			require.Empty(f, f.failures)
			f.ksef.responses[redeem] = session
			require.Zero(f, f.advance())
			require.Len(f, f.kept, 1)
		},
		"retries after a lost response, since KSeF may not have seen the request": func(f *fixture) {
			f.inProgress()
			f.succeed()
			session := f.ksef.responses[redeem]
			f.ksef.responses[redeem] = response{lost: true}
			<-time.After(f.advance())
			f.ksef.responses[redeem] = session
			require.Zero(f, f.advance())
			require.Len(f, f.kept, 1)
			require.Empty(f, f.lost)
		},
		"gives up after a lost response once KSeF reports the session as redeemed": func(f *fixture) {
			f.inProgress()
			f.succeed()
			f.ksef.responses[redeem] = response{lost: true}
			<-time.After(f.advance())
			f.ksef.responses[loginState] = state(200, true)
			_, err := f.await()
			require.ErrorContains(f, err, "begin again with login/begin")
			require.Len(f, f.lost, 1)
			require.Equal(f, reference, f.lost[0].ReferenceNumber)
			require.Len(f, f.failures, 1)
			require.Equal(f, 1, f.ksef.requests[redeem])
		},
		"gives up after a lost response once KSeF refuses a second redemption": func(f *fixture) {
			f.inProgress()
			f.succeed()
			f.ksef.responses[redeem] = response{lost: true}
			<-time.After(f.advance())
			f.ksef.responses[redeem] = refusal(400, 21301)
			took, err := f.await()
			require.ErrorContains(f, err, "begin again with login/begin")
			require.Less(f, took, time.Minute)
			require.Len(f, f.lost, 1)
		},
		"retries where the lost session could not be recorded": func(f *fixture) {
			f.inProgress()
			f.ksef.responses[loginState] = state(200, true)
			f.lostErr = errDisk
			<-time.After(f.advance())
			require.Empty(f, f.failures)
			f.lostErr = nil
			f.advance()
			require.Len(f, f.failures, 1)
		},
		"ends the login quietly after a restart between keeping the session and deleting the record": func(f *fixture) {
			f.inProgress()
			f.succeed()
			f.storage.deleteErr = errDisk
			f.advance()
			require.Len(f, f.kept, 1)
			f.storage.deleteErr = nil
			f.restart()
			f.ksef.responses[loginState], f.lostButKept = state(200, true), true
			require.Zero(f, f.advance())
			require.Empty(f, f.failures)
			require.Empty(f, f.stored())
		},
		"gives up after a restart between redeeming and keeping": func(f *fixture) {
			f.inProgress()
			f.restart()
			f.ksef.responses[loginState] = state(200, true)
			_, err := f.await()
			require.ErrorContains(f, err, "begin again with login/begin")
			require.Empty(f, f.kept)
			require.Len(f, f.lost, 1)
			require.Zero(f, f.ksef.requests[redeem])
		},
	})
}

func TestKeep(t *testing.T) {
	gone := errors.New("there is no configuration")
	run(t, map[string]func(f *fixture){
		"gets the session with its tokens, bound to the login's addresses": func(f *fixture) {
			f.upstream.AllowedIPs = []string{ownAddress}
			f.inProgress()
			f.succeed()
			_, err := f.await()
			require.NoError(f, err)
			made := f.kept[0]
			require.Equal(f, []string{"access", "refresh"}, []string{made.Access.Token.Reveal(), made.Refresh.Token.Reveal()})
			require.Equal(f, []string{ownAddress}, made.AllowedIPs)
			require.Equal(f, taxpayer, made.Context)
			require.Equal(f, ownAPI, made.API)
			require.Empty(f, f.stored())
		},
		"in memory alone ends the login, and is reported": func(f *fixture) {
			f.inProgress()
			f.succeed()
			f.keepErr = session.ErrNotStored
			_, err := f.await()
			require.ErrorIs(f, err, session.ErrNotStored)
			require.Empty(f, f.discarded)
			require.Empty(f, f.failures)
			require.Empty(f, f.stored())
		},
		"that fails has the session ended": func(f *fixture) {
			f.inProgress()
			f.succeed()
			f.keepErr = gone
			_, err := f.await()
			require.ErrorIs(f, err, gone)
			require.Len(f, f.discarded, 1)
			require.Empty(f, f.lost)
			require.Len(f, f.failures, 1)
		},
		"that fails has the session recorded as lost where it cannot be ended": func(f *fixture) {
			f.inProgress()
			f.succeed()
			f.keepErr, f.discardErr = gone, errors.New("KSeF is away")
			_, err := f.await()
			require.ErrorContains(f, err, "KSeF is away")
			require.Len(f, f.lost, 1)
		},
	})
}

func TestAbandon(t *testing.T) {
	run(t, map[string]func(f *fixture){
		"ends all logins, failed and unreadable ones included": func(f *fixture) {
			f.inProgress()
			damaged := &logical.StorageEntry{Key: externallogin.StoragePrefix + "0", Value: []byte("damaged")}
			require.NoError(f, f.storage.Put(f.Context(), damaged))
			require.NoError(f, f.logins.Abandon(f.Context()))
			require.Empty(f, f.stored())
			require.Zero(f, f.advance())
			require.Zero(f, f.ksef.requests[loginState])
		},
		"makes a later submission fail": func(f *fixture) {
			document := signed(f.begin().Document)
			require.NoError(f, f.logins.Abandon(f.Context()))
			require.ErrorContains(f, f.submit(document), "whose login is over")
		},
	})
}

func TestStates(t *testing.T) {
	run(t, map[string]func(f *fixture){
		"show a login until its challenge expires": func(f *fixture) {
			begun := f.begin()
			require.Equal(f, begun.ValidUntil, f.states()[0].ValidUntil)
			require.Empty(f, f.states()[0].ReferenceNumber)
			<-time.After(10*time.Minute + time.Second)
			require.Empty(f, f.states())
		},
		"show a failed login for a day": func(f *fixture) {
			f.inProgress()
			f.ksef.responses[loginState] = state(415, false)
			f.advance()
			<-time.After(24 * time.Hour)
			require.Len(f, f.states(), 1)
			<-time.After(time.Second)
			require.Empty(f, f.states())
		},
		"show when KSeF is polled next": func(f *fixture) {
			f.inProgress()
			next := f.advance()
			require.Equal(f, time.Now().Add(next), f.states()[0].Next)
			require.Equal(f, reference, f.states()[0].ReferenceNumber)
		},
	})
}
