// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// flows are those whose every step the crash matrix goes through.
func flows() []flow {
	return slices.Concat(issueFlows(), leaseFlows(), loginFlows(), externalFlows(), rotationFlows(), maintenanceFlows(), unmountFlows(), sharingFlows(), contextFlows())
}

// issuing are the kinds of points at which a token is made.
func issuing(more ...string) []string {
	return append(more, "put ledger/issuing/*", IssueEndpoint, "put ledger/live/*", "delete ledger/issuing/*", StatusEndpoint)
}

// revoking are those at which a token is ended.
func revoking(more ...string) []string {
	return append(more, "put budget/*", RevokeEndpoint, "delete ledger/live/*")
}

// loggingIn are those at which a session is made.
func loggingIn(more ...string) []string {
	return append(more, "POST /auth/challenge", "POST /auth/xades-signature", "GET /auth/{referenceNumber}",
		"POST /auth/token/redeem", "GET /rate-limits", "put unstored-sessions/*", "put sessions/*", "delete unstored-sessions/*")
}

func issueFlows() []flow {
	return []flow{{
		name:    "issue",
		prepare: func(s *Cluster) { s.restart() },
		run:     func(s *Cluster) { s.tryIssue() },
		kinds:   issuing("put budget/*"),
	}, {
		name:    "issue the first token of a mount",
		prepare: func(s *Cluster) { s.wipe("mount-id"); s.restart() },
		run:     func(s *Cluster) { s.tryIssue() },
		kinds:   issuing("put mount-id", "put budget/*"),
	}, {
		name:    "issue to somebody who leaves",
		options: simulator.Options{ActivationDelay: 10 * time.Second},
		run: func(s *Cluster) {
			_, _ = s.Vault().Issue(leaving(context.Background(), 500*time.Millisecond), "invoices", time.Hour)
			s.Elapse(time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", IssueEndpoint, "put ledger/live/*", "delete ledger/issuing/*", "put ledger/ending/*", "delete ledger/ending/*"),
	}, {
		name: "issue a token that KSeF does not activate",
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultFailActivation})
			s.tryIssue()
		},
		kinds: issuing("delete ledger/live/*"),
	}, {
		name: "issue a token that KSeF refuses",
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultStatus, Status: 403})
			s.tryIssue()
		},
		kinds: []string{"put ledger/issuing/*", IssueEndpoint, "delete ledger/issuing/*"},
	}, {
		name: "recover a token whose reply was lost",
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropReply})
			s.tryIssue()
			s.Elapse(10 * time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", IssueEndpoint, "GET /tokens", "put ledger/ending/*", "delete ledger/issuing/*", "delete ledger/ending/*"),
	}, {
		name: "look for a token that was never made",
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropRequest})
			s.tryIssue()
			s.Elapse(2 * time.Hour)
		},
		kinds: []string{"put ledger/issuing/*", IssueEndpoint, "put budget/*", "GET /tokens", "POST /auth/token/refresh", "delete ledger/issuing/*"},
	}, {
		name: "fail fast and go on",
		run: func(s *Cluster) {
			// One token is found and revoked: with several at once the order of the points would
			// vary.
			s.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropRequest, Times: 2})
			s.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropReply})
			for range 4 {
				s.tryIssue()
			}
			s.Elapse(5 * time.Second)
			s.tryIssue()
			s.Elapse(10 * time.Minute)
		},
		kinds: issuing("POST /auth/challenge", "GET /tokens", RevokeEndpoint, "put budget/*", "put ledger/ending/*", "delete ledger/live/*", "delete ledger/ending/*"),
	}, {
		name: "search at once where a deletion of config wants it",
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropReply})
			s.tryIssue()
			_, _ = s.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) { return m.Delete("config") })
			s.Elapse(10 * time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", IssueEndpoint, "GET /tokens", "put ledger/ending/*", "delete ledger/issuing/*", "delete ledger/ending/*"),
	}}
}

func leaseFlows() []flow {
	oneHour := func(s *Cluster) { s.MustIssue(time.Hour) }
	return []flow{{
		name:    "renew",
		prepare: oneHour,
		run:     func(s *Cluster) { _ = s.Vault().Renew(s.newest(), 10*time.Hour) },
		kinds:   []string{"put ledger/live/*"},
	}, {
		name:    "revoke by the lease",
		prepare: oneHour,
		run:     func(s *Cluster) { s.Vault().End(s.newest()); s.Elapse(time.Minute) },
		kinds:   revoking("delete ledger/ending/*"),
	}, {
		name:    "revoke by the lease while KSeF is away",
		prepare: oneHour,
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropRequest})
			s.Fault(simulator.Fault{Endpoint: StatusEndpoint, Kind: simulator.FaultDropRequest})
			s.Vault().End(s.newest())
			s.Elapse(10 * time.Minute)
		},
		kinds: revoking(StatusEndpoint, "put ledger/ending/*", "delete ledger/ending/*"),
	}, {
		name:    "revoke by the lease where the reply is lost",
		prepare: oneHour,
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropReply})
			s.Vault().End(s.newest())
			s.Elapse(10 * time.Minute)
		},
		kinds: revoking(StatusEndpoint, "delete ledger/ending/*"),
	}, {
		name:    "delete by hand before the lease ends",
		prepare: oneHour,
		run: func(s *Cluster) {
			_ = s.Vault().Delete(s.newest())
			s.Elapse(2 * time.Hour)
		},
		kinds: revoking("put ledger/ending/*", "delete ledger/ending/*", "delete visits/*"),
	}, {
		name:    "revoke when Vault has lost the lease",
		prepare: func(s *Cluster) { oneHour(s); s.Vault().Lose(s.newest()) },
		run:     func(s *Cluster) { s.Elapse(9 * 24 * time.Hour) },
		kinds:   revoking("POST /auth/token/refresh", "put ledger/ending/*", "delete ledger/ending/*", "put visits/*", "delete visits/*", "delete sessions/*"),
	}}
}

func loginFlows() []flow {
	longAgo := func(s *Cluster) { s.Elapse(8 * 24 * time.Hour) }
	return []flow{{
		name: "configure for the first time",
		prepare: func(s *Cluster) {
			s.OnMount(0, func(m *Mount) {
				m.Must(m.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
			})
		},
		run:   func(s *Cluster) { s.insist("config", s.ConfigFields()) },
		kinds: loggingIn("put config"),
	}, {
		name:  "configure anew",
		run:   func(s *Cluster) { s.insist("config", s.ConfigFields()) },
		kinds: []string{"POST /auth/token/refresh", "put config", "put sessions/*", "put budget/*"},
	}, {
		name: "delete the configuration and configure again",
		run: func(s *Cluster) {
			_, _ = s.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) {
				return m.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"})
			})
			s.Elapse(time.Second)
			s.insist("config", s.ConfigFields())
		},
		kinds: loggingIn("delete config", "delete sessions/*", "DELETE /auth/sessions/current", "put config", "put budget/*"),
	}, {
		name:    "configure another certificate",
		prepare: func(s *Cluster) { s.Cert, s.Key = s.NewCertificate(simulator.CertificateOptions{NIP: NIP}) },
		run:     func(s *Cluster) { s.insist("config", s.ConfigFields()) },
		kinds:   loggingIn("put config", "delete sessions/*", "put budget/*", "DELETE /auth/sessions/current"),
	}, {
		name:    "log in for the first time",
		prepare: func(s *Cluster) { s.endSessions(); s.wipe(session.StoragePrefix); s.restart() },
		run:     func(s *Cluster) { s.tryIssue() },
		kinds:   issuing(loggingIn("put budget/*")...),
	}, {
		name:    "refresh the login",
		prepare: func(s *Cluster) { s.Elapse(20 * time.Minute) },
		run:     func(s *Cluster) { s.tryIssue() },
		kinds:   issuing("POST /auth/token/refresh", "put budget/*"),
	}, {
		name:    "log in again",
		prepare: longAgo,
		run:     func(s *Cluster) { s.tryIssue() },
		kinds:   issuing(loggingIn()...),
	}, {
		name:    "log in where the reply with the session is lost",
		prepare: longAgo,
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: "POST /auth/token/redeem", Kind: simulator.FaultDropReply})
			s.tryIssue()
			s.Elapse(time.Minute)
			s.tryIssue()
		},
		kinds: issuing(loggingIn("DELETE /auth/sessions/{referenceNumber}", "put budget/*")...),
	}}
}

func maintenanceFlows() []flow {
	return []flow{{
		name:  "unload and load",
		run:   func(s *Cluster) { s.restart() },
		kinds: []string{"put budget/*"},
	}, {
		name: "tidy up a token that the ledger has lost",
		prepare: func(s *Cluster) {
			lost := s.MustIssue(time.Hour)
			s.Vault().Lose(lost)
			s.wipe(lost.number)
		},
		run:   func(s *Cluster) { s.insist("tidy", map[string]any{"dry_run": false}); s.Elapse(time.Minute) },
		kinds: revoking("GET /tokens", "put ledger/ending/*"),
	}}
}

// tryIssue asks for a token; whoever asked may never learn what came of it.
func (s *Cluster) tryIssue() { _, _ = s.Vault().Issue(context.Background(), "invoices", time.Hour) }

// leaving is the context of a request whose caller goes after a while.
func leaving(ctx context.Context, maxWait time.Duration) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(maxWait, cancel)
	return ctx
}

// newest is the lease that was made last.
func (s *Cluster) newest() *TokenLease {
	leases := s.Vault().all()
	return leases[len(leases)-1]
}

func (s *Cluster) restart() {
	s.Engine.Stop()
	s.Engine.Start()
}

// wipe removes from the first mount's storage what has the part in its key.
func (s *Cluster) wipe(part string) {
	ctx := context.Background()
	keys, err := logical.CollectKeys(ctx, s.Disks[0])
	require.NoError(s.T, err)
	for _, key := range keys {
		if strings.Contains(key, part) {
			require.NoError(s.T, s.Disks[0].Delete(ctx, key))
		}
	}
}

// insist writes as an operator does: again, where the answer did not come.
func (s *Cluster) insist(path string, fields map[string]any) {
	for range 2 {
		_, err := s.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) { return m.Write(path, fields) })
		if err == nil {
			return
		}
		s.Elapse(time.Second)
	}
}
