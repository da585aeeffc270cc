// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// unmountable is a mount that can be disabled as Vault does it.
type unmountable struct {
	*Mount
}

func withUnmountable(t *testing.T, options simulator.Options, test func(t *testing.T, u *unmountable)) {
	t.Helper()
	WithMount(t, options, func(t *testing.T, m *Mount) {
		u := &unmountable{Mount: m}
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
		test(t, u)
	})
}

// rollback makes the request that Vault makes each minute, and once after it has tainted a mount.
func (u *unmountable) rollback() {
	u.T.Helper()
	_, err := u.Request(logical.RollbackOperation, "", nil)
	require.NoError(u.T, err)
}

// disable does what Vault does at secrets disable. It returns the leases that remain if one cannot
// be revoked.
func (u *unmountable) disable(leases ...*logical.Response) (left []*logical.Response, err error) {
	u.View.tainted.Store(true)
	u.rollback()
	for number, lease := range leases {
		if err := u.Revoke(u.Lease(lease)); err != nil {
			return leases[number:], err
		}
	}
	u.Backend.Cleanup(u.Ctx)
	require.NoError(u.T, logical.ClearView(u.Ctx, u.Storage))
	return nil, nil
}

// reading asks for tokens. The returned function waits for all responses and counts the successful
// ones.
func (u *unmountable) reading(readers int) (answered func() int) {
	var work sync.WaitGroup
	var count atomic.Int64
	for range readers {
		work.Go(func() {
			response, err := u.Read("creds/invoices", nil)
			if err == nil && !response.IsError() {
				count.Add(1)
			}
		})
	}
	return func() int { work.Wait(); return int(count.Load()) }
}

func TestUnmount(t *testing.T) {
	t.Run("ends_reads_in_flight", testUnmountEndsReadsInFlight)
	t.Run("revokes_tokens_without_lease", testUnmountRevokesTokensWithoutLease)
	t.Run("lets_a_lease_be_stored", testUnmountLetsALeaseBeStored)
	t.Run("refuses_new_tokens", testUnmountRefusesNewTokens)
	t.Run("ends_an_unanswered_request", testUnmountEndsAnUnansweredRequest)
	t.Run("searches_for_lost_replies", testUnmountSearchesForLostReplies)
	t.Run("names_unconfirmed_tokens", testUnmountNamesUnconfirmedTokens)
	t.Run("names_unreadable_entries", testUnmountNamesUnreadableEntries)
	t.Run("unload_keeps_tokens", testUnmountUnloadKeepsTokens)
	t.Run("move_resumes_issuing", testUnmountMoveResumesIssuing)
	t.Run("many_leases", testUnmountManyLeases)
	t.Run("waiting_does_not_help", testUnmountWaitingDoesNotHelp)
	t.Run("warns_of_many_leases", testUnmountWarnsOfManyLeases)
	t.Run("warns_of_few_leases_under_low_limits", testUnmountWarnsOfFewLeasesUnderLowLimits)
	t.Run("mount_id_is_shown_and_logged", testUnmountMountIDIsShownAndLogged)
	t.Run("forgets_no_request", testUnmountForgetsNoRequest)
}

// testUnmountEndsReadsInFlight disables a mount while six requests for tokens wait for KSeF: each
// ends with an error, and no token stays active.
func testUnmountEndsReadsInFlight(t *testing.T) {
	for _, withRollback := range []bool{true, false} {
		t.Run(fmt.Sprintf("rollback_%t", withRollback), func(t *testing.T) {
			withUnmountable(t, simulator.Options{ActivationDelay: 20 * time.Second}, func(t *testing.T, u *unmountable) {
				answered := u.reading(6)
				u.Elapse(5 * time.Second)
				require.Len(t, u.AliveTokens(), 6)
				u.View.tainted.Store(true)
				if withRollback {
					u.rollback()
				}
				u.Backend.Cleanup(u.Ctx)
				require.Empty(t, u.AliveTokens())
				require.Zero(t, answered())
				require.NotContains(t, u.Logs.String(), "KSeF has not confirmed that these tokens are revoked")
			})
		})
	}
}

func testUnmountRevokesTokensWithoutLease(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		u.Must(u.Read("creds/invoices", nil))
		_, err := u.disable()
		require.NoError(t, err, "Vault has not stored the lease yet")
		require.Empty(t, u.AliveTokens())
	})
}

func testUnmountLetsALeaseBeStored(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		u.Must(u.Read("creds/invoices", nil))
		u.View.tainted.Store(true)
		began := time.Now()
		u.rollback()
		require.GreaterOrEqual(t, time.Since(began), time.Second)
		began = time.Now()
		u.rollback()
		require.Zero(t, time.Since(began), "only the first call waits")
	})
}

func testUnmountRefusesNewTokens(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		u.View.tainted.Store(true)
		u.rollback()
		before := u.Requests(IssueEndpoint)
		_, err := u.Read("creds/invoices", nil)
		require.ErrorContains(t, err, ledger.ErrUnmounting.Error())
		var coded logical.HTTPCodedError
		require.ErrorAs(t, err, &coded)
		require.Equal(t, http.StatusServiceUnavailable, coded.Code())
		u.Backend.Cleanup(u.Ctx)
		_, err = u.Read("creds/invoices", nil)
		require.ErrorContains(t, err, ledger.ErrUnmounting.Error())
		require.Equal(t, before, u.Requests(IssueEndpoint))
	})
}

// testUnmountEndsAnUnansweredRequest holds the time that Clean may take, and that the log names
// what may remain.
func testUnmountEndsAnUnansweredRequest(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		u.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDelay, Delay: time.Hour})
		answered := u.reading(1)
		u.Elapse(time.Second)
		u.View.tainted.Store(true)
		began := time.Now()
		u.Backend.Cleanup(u.Ctx)
		require.Less(t, time.Since(began), 20*time.Second)
		require.Zero(t, answered())
		require.Contains(t, u.Logs.String(), "marks_of_lost_replies")
	})
}

// testUnmountSearchesForLostReplies disables a mount just after the reply to a request for a token
// was lost. The log names a token that is not found.
func testUnmountSearchesForLostReplies(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"made":      {Endpoint: IssueEndpoint, Kind: simulator.FaultDropResponse},
		"not_found": {Endpoint: IssueEndpoint, Kind: simulator.FaultStatus, Status: http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
				u.Fault(fault)
				_, err := u.Read("creds/invoices", nil)
				require.Error(t, err)
				began := time.Now()
				_, err = u.disable()
				require.NoError(t, err)
				require.LessOrEqual(t, time.Since(began), 10*time.Second)
				require.Empty(t, u.AliveTokens())
				require.Equal(t, name == "not_found", strings.Contains(u.Logs.String(), "marks_of_lost_replies"))
			})
		})
	}
}

func testUnmountNamesUnconfirmedTokens(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		issued := u.Must(u.Read("creds/invoices", nil))
		u.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
		u.View.tainted.Store(true)
		began := time.Now()
		u.Backend.Cleanup(u.Ctx)
		require.Less(t, time.Since(began), 20*time.Second)
		id := u.Status()["mount_id"].(string)
		require.Regexp(t, `\[ERROR\].*KSeF has not confirmed that these tokens are revoked.*`+
			`mount_id=`+id+` reference_numbers=.*`+issued.Data["reference_number"].(string), u.Logs.String())
	})
}

// testUnmountNamesUnreadableEntries has an unreadable record, and no lease that would revoke its
// token.
func testUnmountNamesUnreadableEntries(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		number := u.Must(u.Read("creds/invoices", nil)).Data["reference_number"].(string)
		for _, key := range u.Keys("") {
			if strings.HasSuffix(key, number) {
				require.NoError(t, u.Storage.Put(u.Ctx, &logical.StorageEntry{Key: key, Value: []byte(`{"version":2}`)}))
			}
		}
		_, err := u.disable()
		require.NoError(t, err)
		require.Len(t, u.AliveTokens(), 1)
		require.Regexp(t, `\[ERROR\].*KSeF has not confirmed that these tokens are revoked.*unreadable_records=.*`+number, u.Logs.String())
	})
}

// testUnmountUnloadKeepsTokens seals or reloads: storage and leases stay.
func testUnmountUnloadKeepsTokens(t *testing.T) {
	withUnmountable(t, simulator.Options{ActivationDelay: 4 * time.Second}, func(t *testing.T, u *unmountable) {
		leased := u.Must(u.Read("creds/invoices", nil))
		answered := u.reading(1)
		u.Elapse(2 * time.Second)
		u.Backend.Cleanup(u.Ctx)
		require.Zero(t, answered(), "a read in flight gets an error")
		require.Equal(t, "Active", u.StatusInKSeF(leased.Data["reference_number"]))
		u.Start()
		u.Elapse(time.Minute)
		require.Len(t, u.AliveTokens(), 1, "the next start revokes what was never received")
		require.NoError(t, u.Revoke(u.Lease(leased)))
		require.Empty(t, u.AliveTokens())
	})
}

// testUnmountMoveResumesIssuing is secrets move: Vault taints the mount, revokes its leases, and
// removes the taint. The mount stays loaded.
func testUnmountMoveResumesIssuing(t *testing.T) {
	withUnmountable(t, simulator.Options{ActivationDelay: 3 * time.Second}, func(t *testing.T, u *unmountable) {
		answered := u.reading(4)
		u.Elapse(2 * time.Second)
		u.View.tainted.Store(true)
		u.rollback()
		require.Zero(t, answered())
		u.Elapse(time.Second)
		require.Empty(t, u.AliveTokens())
		u.View.tainted.Store(false)
		u.Must(u.Read("creds/invoices", nil))
		u.rollback()
		u.Must(u.Read("creds/invoices", nil))
		require.Len(t, u.AliveTokens(), 2)
	})
}

// testUnmountManyLeases has more leases than KSeF lets be revoked in a minute. The first try fails
// and says how long to wait. The engine revokes all tokens in that time, so that the next try
// succeeds.
func testUnmountManyLeases(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		leases := u.IssueMany(40)
		left, err := u.disable(leases...)
		require.ErrorContains(t, err, "KSeF has yet to confirm the end of")
		require.ErrorContains(t, err, "then disable (or move) the mount again")
		until := mentionedTime(t, err.Error(), `Wait until about (\S+),`)
		require.InDelta(t, time.Minute.Seconds(), time.Until(until).Seconds(), 10)
		u.Elapse(time.Until(until) + 5*time.Second)
		require.Empty(t, u.AliveTokens())
		_, err = u.disable(left...)
		require.NoError(t, err)
		require.Equal(t, 40, u.Requests(RevokeEndpoint), "one request for each token")
	})
}

// testUnmountWaitingDoesNotHelp has a cause that stays. The mount accepts no config and no login
// any more, so the error must say how to go on.
func testUnmountWaitingDoesNotHelp(t *testing.T) {
	for name, spoil := range map[string]func(u *unmountable){
		"without_config": func(u *unmountable) {
			u.Must(u.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
		},
		"config_leads_elsewhere": func(u *unmountable) {
			fields := u.ConfigFields()
			fields["url"], fields["verify"], fields["force"] = "https://elsewhere.test/v2", false, "tokens"
			u.Must(u.Write("config", fields))
		},
		"forbidden": func(u *unmountable) {
			for _, endpoint := range []string{RevokeEndpoint, StatusEndpoint} {
				u.Fault(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: http.StatusForbidden, Times: -1})
			}
		},
		"unknown_to_ksef": func(u *unmountable) { u.KSeF.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
				lease := u.Must(u.Read("creds/invoices", nil))
				id := u.Must(u.Read("status", nil)).Data["mount_id"].(string)
				spoil(u)
				_, err := u.disable(lease)
				require.NotContains(t, err.Error(), "Wait until about")
				require.ErrorContains(t, err, "the mount answers no requests any more")
				require.ErrorContains(t, err, "vault lease revoke -force -prefix")
				require.ErrorContains(t, err, "tidy/former mount_id="+id)
				_, err = u.disable()
				require.NoError(t, err, "with its leases given up the mount goes")
				require.Contains(t, u.Logs.String(), "KSeF has not confirmed that these tokens are revoked")
			})
		})
	}
}

func testUnmountWarnsOfManyLeases(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		u.IssueMany(30)
		for _, path := range []string{"config", "status"} {
			require.Empty(t, u.Must(u.Read(path, nil)).Warnings, path)
		}
		u.IssueMany(1)
		for _, path := range []string{"config", "status"} {
			warnings := u.Must(u.Read(path, nil)).Warnings
			require.Len(t, warnings, 1, path)
			require.Contains(t, warnings[0], "Not revoked: 31 live tokens. Before vault secrets disable or move, end their leases (vault lease revoke -prefix ksef/)")
		}
	})
}

// testUnmountWarnsOfFewLeasesUnderLowLimits has KSeF report lower limits than documented.
func testUnmountWarnsOfFewLeasesUnderLowLimits(t *testing.T) {
	limits := simulator.Limits{Context: simulator.Windows{PerSecond: 5, PerMinute: 10, PerHour: 60}}
	withUnmountable(t, simulator.Options{Limits: limits}, func(t *testing.T, u *unmountable) {
		leases := u.IssueMany(10)
		require.Empty(t, u.StatusWarnings())
		leases = append(leases, u.IssueMany(5)...)
		require.Contains(t, u.StatusWarnings(), "Not revoked: 15 live tokens. Before vault secrets disable or move, end their leases")
		_, err := u.disable(leases...)
		require.ErrorContains(t, err, "then disable (or move) the mount again")
	})
}

func mentionedTime(t *testing.T, text, pattern string) time.Time {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(text)
	require.NotNil(t, found, text)
	mentioned, err := time.Parse(time.RFC3339, found[1])
	require.NoError(t, err)
	return mentioned
}

func testUnmountMountIDIsShownAndLogged(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		issued := u.Must(u.Read("creds/invoices", nil))
		id := u.Must(u.Read("status", nil)).Data["mount_id"].(string)
		require.Contains(t, issued.Data["description"], "[vault:"+id+":")
		u.Backend.Cleanup(u.Ctx)
		require.Contains(t, u.Logs.String(), "the mount issues tokens with its id: mount_id="+id)
		require.Contains(t, u.Logs.String(), "the mount has been unloaded: mount_id="+id)
		u.Start()
		require.Contains(t, u.Logs.String(), "the mount has been loaded: mount_id="+id)
	})
}

// testUnmountForgetsNoRequest enables a mount in place of another, whose counts of requests have
// gone with its storage.
func testUnmountForgetsNoRequest(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		config := u.ConfigFields()
		config["activation_timeout"] = 0
		u.Must(u.Write("config", config))
		leases := u.IssueMany(30)
		_, err := u.disable(leases...)
		require.NoError(t, err)

		next := &unmountable{Mount: u.Env.Mount(&logical.InmemStorage{})}
		defer next.Stop()
		next.Must(next.Write("config", config))
		next.Must(next.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
		_, err = next.Read("creds/invoices", nil)
		require.ErrorContains(t, err, "KSeF's limit for POST /tokens is used up")
		require.Zero(t, u.KSeF.State().Requests[IssueEndpoint]["429"])
		next.IssueMany(1)
		require.Zero(t, u.KSeF.State().Requests[IssueEndpoint]["429"])
	})
}
