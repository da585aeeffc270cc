// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

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
	return append(more, "put ledger/issuing/*", issueEndpoint, "put ledger/live/*", "delete ledger/issuing/*", statusEndpoint)
}

// revoking are those at which a token is ended.
func revoking(more ...string) []string {
	return append(more, "put budget/*", revokeEndpoint, "delete ledger/live/*")
}

// loggingIn are those at which a session is made.
func loggingIn(more ...string) []string {
	return append(more, "POST /auth/challenge", "POST /auth/xades-signature", "GET /auth/{referenceNumber}",
		"POST /auth/token/redeem", "GET /rate-limits", "put unstored-sessions/*", "put sessions/*", "delete unstored-sessions/*")
}

func issueFlows() []flow {
	return []flow{{
		name:    "issue",
		prepare: func(s *cluster) { s.restart() },
		run:     func(s *cluster) { s.tryIssue() },
		kinds:   issuing("put budget/*"),
	}, {
		name:    "issue the first token of a mount",
		prepare: func(s *cluster) { s.wipe("mount-id"); s.restart() },
		run:     func(s *cluster) { s.tryIssue() },
		kinds:   issuing("put mount-id", "put budget/*"),
	}, {
		name:    "issue to somebody who leaves",
		options: simulator.Options{ActivationDelay: 10 * time.Second},
		run: func(s *cluster) {
			_, _ = s.vault().issue(leaving(context.Background(), 500*time.Millisecond), "invoices", time.Hour)
			s.elapse(time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", issueEndpoint, "put ledger/live/*", "delete ledger/issuing/*", "put ledger/ending/*", "delete ledger/ending/*"),
	}, {
		name: "issue a token that KSeF does not activate",
		run: func(s *cluster) {
			s.fault(simulator.Fault{Endpoint: issueEndpoint, Kind: simulator.FaultFailActivation})
			s.tryIssue()
		},
		kinds: issuing("delete ledger/live/*"),
	}, {
		name: "issue a token that KSeF refuses",
		run: func(s *cluster) {
			s.fault(simulator.Fault{Endpoint: issueEndpoint, Kind: simulator.FaultStatus, Status: 403})
			s.tryIssue()
		},
		kinds: []string{"put ledger/issuing/*", issueEndpoint, "delete ledger/issuing/*"},
	}, {
		name: "recover a token whose reply was lost",
		run: func(s *cluster) {
			s.fault(simulator.Fault{Endpoint: issueEndpoint, Kind: simulator.FaultDropReply})
			s.tryIssue()
			s.elapse(10 * time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", issueEndpoint, "GET /tokens", "put ledger/ending/*", "delete ledger/issuing/*", "delete ledger/ending/*"),
	}, {
		name: "look for a token that was never made",
		run: func(s *cluster) {
			s.fault(simulator.Fault{Endpoint: issueEndpoint, Kind: simulator.FaultDropRequest})
			s.tryIssue()
			s.elapse(2 * time.Hour)
		},
		kinds: []string{"put ledger/issuing/*", issueEndpoint, "put budget/*", "GET /tokens", "POST /auth/token/refresh", "delete ledger/issuing/*"},
	}, {
		name: "fail fast and go on",
		run: func(s *cluster) {
			// One token is found and revoked: with several at once the order of the points would
			// vary.
			s.fault(simulator.Fault{Endpoint: issueEndpoint, Kind: simulator.FaultDropRequest, Times: 2})
			s.fault(simulator.Fault{Endpoint: issueEndpoint, Kind: simulator.FaultDropReply})
			for range 4 {
				s.tryIssue()
			}
			s.elapse(5 * time.Second)
			s.tryIssue()
			s.elapse(10 * time.Minute)
		},
		kinds: issuing("POST /auth/challenge", "GET /tokens", revokeEndpoint, "put budget/*", "put ledger/ending/*", "delete ledger/live/*", "delete ledger/ending/*"),
	}, {
		name: "search at once where a deletion of config wants it",
		run: func(s *cluster) {
			s.fault(simulator.Fault{Endpoint: issueEndpoint, Kind: simulator.FaultDropReply})
			s.tryIssue()
			_, _ = s.vault().request(context.Background(), func(m *mount) (*logical.Response, error) { return m.delete("config") })
			s.elapse(10 * time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", issueEndpoint, "GET /tokens", "put ledger/ending/*", "delete ledger/issuing/*", "delete ledger/ending/*"),
	}}
}

func leaseFlows() []flow {
	oneHour := func(s *cluster) { s.mustIssue(time.Hour) }
	return []flow{{
		name:    "renew",
		prepare: oneHour,
		run:     func(s *cluster) { _ = s.vault().renew(s.newest(), 10*time.Hour) },
		kinds:   []string{"put ledger/live/*"},
	}, {
		name:    "revoke by the lease",
		prepare: oneHour,
		run:     func(s *cluster) { s.vault().end(s.newest()); s.elapse(time.Minute) },
		kinds:   revoking("delete ledger/ending/*"),
	}, {
		name:    "revoke by the lease while KSeF is away",
		prepare: oneHour,
		run: func(s *cluster) {
			s.fault(simulator.Fault{Endpoint: revokeEndpoint, Kind: simulator.FaultDropRequest})
			s.fault(simulator.Fault{Endpoint: statusEndpoint, Kind: simulator.FaultDropRequest})
			s.vault().end(s.newest())
			s.elapse(10 * time.Minute)
		},
		kinds: revoking(statusEndpoint, "put ledger/ending/*", "delete ledger/ending/*"),
	}, {
		name:    "revoke by the lease where the reply is lost",
		prepare: oneHour,
		run: func(s *cluster) {
			s.fault(simulator.Fault{Endpoint: revokeEndpoint, Kind: simulator.FaultDropReply})
			s.vault().end(s.newest())
			s.elapse(10 * time.Minute)
		},
		kinds: revoking(statusEndpoint, "delete ledger/ending/*"),
	}, {
		name:    "delete by hand before the lease ends",
		prepare: oneHour,
		run: func(s *cluster) {
			_ = s.vault().delete(s.newest())
			s.elapse(2 * time.Hour)
		},
		kinds: revoking("put ledger/ending/*", "delete ledger/ending/*", "delete visits/*"),
	}, {
		name:    "revoke when Vault has lost the lease",
		prepare: func(s *cluster) { oneHour(s); s.vault().lose(s.newest()) },
		run:     func(s *cluster) { s.elapse(9 * 24 * time.Hour) },
		kinds:   revoking("POST /auth/token/refresh", "put ledger/ending/*", "delete ledger/ending/*", "put visits/*", "delete visits/*", "delete sessions/*"),
	}}
}

func loginFlows() []flow {
	longAgo := func(s *cluster) { s.elapse(8 * 24 * time.Hour) }
	return []flow{{
		name: "configure for the first time",
		prepare: func(s *cluster) {
			s.onMount(0, func(m *mount) {
				m.must(m.request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
			})
		},
		run:   func(s *cluster) { s.insist("config", s.fields()) },
		kinds: loggingIn("put config"),
	}, {
		name:  "configure anew",
		run:   func(s *cluster) { s.insist("config", s.fields()) },
		kinds: []string{"POST /auth/token/refresh", "put config", "put sessions/*", "put budget/*"},
	}, {
		name: "delete the configuration and configure again",
		run: func(s *cluster) {
			_, _ = s.vault().request(context.Background(), func(m *mount) (*logical.Response, error) {
				return m.request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"})
			})
			s.elapse(time.Second)
			s.insist("config", s.fields())
		},
		kinds: loggingIn("delete config", "delete sessions/*", "DELETE /auth/sessions/current", "put config", "put budget/*"),
	}, {
		name:    "configure another certificate",
		prepare: func(s *cluster) { s.cert, s.key = s.certificate(simulator.CertificateOptions{NIP: testNIP}) },
		run:     func(s *cluster) { s.insist("config", s.fields()) },
		kinds:   loggingIn("put config", "delete sessions/*", "put budget/*", "DELETE /auth/sessions/current"),
	}, {
		name:    "log in for the first time",
		prepare: func(s *cluster) { s.endSessions(); s.wipe(session.StoragePrefix); s.restart() },
		run:     func(s *cluster) { s.tryIssue() },
		kinds:   issuing(loggingIn("put budget/*")...),
	}, {
		name:    "refresh the login",
		prepare: func(s *cluster) { s.elapse(20 * time.Minute) },
		run:     func(s *cluster) { s.tryIssue() },
		kinds:   issuing("POST /auth/token/refresh", "put budget/*"),
	}, {
		name:    "log in again",
		prepare: longAgo,
		run:     func(s *cluster) { s.tryIssue() },
		kinds:   issuing(loggingIn()...),
	}, {
		name:    "log in where the reply with the session is lost",
		prepare: longAgo,
		run: func(s *cluster) {
			s.fault(simulator.Fault{Endpoint: "POST /auth/token/redeem", Kind: simulator.FaultDropReply})
			s.tryIssue()
			s.elapse(time.Minute)
			s.tryIssue()
		},
		kinds: issuing(loggingIn("DELETE /auth/sessions/{referenceNumber}", "put budget/*")...),
	}}
}

func maintenanceFlows() []flow {
	return []flow{{
		name:  "unload and load",
		run:   func(s *cluster) { s.restart() },
		kinds: []string{"put budget/*"},
	}, {
		name: "tidy up a token that the ledger has lost",
		prepare: func(s *cluster) {
			lost := s.mustIssue(time.Hour)
			s.vault().lose(lost)
			s.wipe(lost.number)
		},
		run:   func(s *cluster) { s.insist("tidy", map[string]any{"dry_run": false}); s.elapse(time.Minute) },
		kinds: revoking("GET /tokens", "put ledger/ending/*"),
	}}
}

// tryIssue asks for a token; whoever asked may never learn what came of it.
func (s *cluster) tryIssue() { _, _ = s.vault().issue(context.Background(), "invoices", time.Hour) }

// leaving is the context of a request whose caller goes after a while.
func leaving(ctx context.Context, maxWait time.Duration) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(maxWait, cancel)
	return ctx
}

// newest is the lease that was made last.
func (s *cluster) newest() *tokenLease {
	leases := s.vault().all()
	return leases[len(leases)-1]
}

func (s *cluster) restart() {
	s.engine.stop()
	s.engine.start()
}

// wipe removes from the first mount's storage what has the part in its key.
func (s *cluster) wipe(part string) {
	ctx := context.Background()
	keys, err := logical.CollectKeys(ctx, s.disks[0])
	require.NoError(s.t, err)
	for _, key := range keys {
		if strings.Contains(key, part) {
			require.NoError(s.t, s.disks[0].Delete(ctx, key))
		}
	}
}

// insist writes as an operator does: again, where the answer did not come.
func (s *cluster) insist(path string, fields map[string]any) {
	for range 2 {
		_, err := s.vault().request(context.Background(), func(m *mount) (*logical.Response, error) { return m.write(path, fields) })
		if err == nil {
			return
		}
		s.elapse(time.Second)
	}
}
