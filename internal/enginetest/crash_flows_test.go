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

// flows are the flows of the crash matrix.
func flows() []flow {
	return slices.Concat(issueFlows(), leaseFlows(), loginFlows(), externalFlows(), rotationFlows(), maintenanceFlows(), unmountFlows(), sharingFlows(), contextFlows(), unleasedFlows())
}

// issuing are the kinds of points at which a token is issued.
func issuing(more ...string) []string {
	return append(more, "put ledger/issuing/*", IssueEndpoint, "put ledger/live/*", "delete ledger/issuing/*", StatusEndpoint)
}

// revoking are the kinds of points at which a token is revoked.
func revoking(more ...string) []string {
	return append(more, "put budget/*", RevokeEndpoint, "delete ledger/live/*")
}

// loggingIn are the kinds of points at which a session is opened.
func loggingIn(more ...string) []string {
	return append(more, "POST /auth/challenge", "POST /auth/xades-signature", "GET /auth/{referenceNumber}",
		"POST /auth/token/redeem", "GET /rate-limits", "put unstored-sessions/*", "put sessions/*", "delete unstored-sessions/*")
}

func issueFlows() []flow {
	return []flow{{
		name:    "issue",
		prepare: func(c *Cluster) { c.restart() },
		run:     func(c *Cluster) { c.tryIssue() },
		kinds:   issuing("put budget/*"),
	}, {
		name:    "issue the first token of a mount",
		prepare: func(c *Cluster) { c.deleteFolder("mount-id"); c.restart() },
		run:     func(c *Cluster) { c.tryIssue() },
		kinds:   issuing("put mount-id", "put budget/*"),
	}, {
		name:    "issue to a caller who leaves",
		options: simulator.Options{ActivationDelay: 10 * time.Second},
		run: func(c *Cluster) {
			_, _ = c.Vault().Issue(leaving(context.Background(), 500*time.Millisecond), "invoices", time.Hour)
			c.Elapse(time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", IssueEndpoint, "put ledger/live/*", "delete ledger/issuing/*", "put ledger/ending/*", "delete ledger/ending/*"),
	}, {
		name: "issue a token that KSeF does not activate",
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultFailActivation})
			c.tryIssue()
		},
		kinds: issuing("delete ledger/live/*"),
	}, {
		name: "issue a token that KSeF refuses",
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultStatus, Status: 403})
			c.tryIssue()
		},
		kinds: []string{"put ledger/issuing/*", IssueEndpoint, "delete ledger/issuing/*"},
	}, {
		name: "recover a token whose reply was lost",
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropResponse})
			c.tryIssue()
			c.Elapse(10 * time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", IssueEndpoint, "GET /tokens", "put ledger/ending/*", "delete ledger/issuing/*", "delete ledger/ending/*"),
	}, {
		name: "look for a token that was never made",
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropRequest})
			c.tryIssue()
			c.Elapse(2 * time.Hour)
		},
		kinds: []string{"put ledger/issuing/*", IssueEndpoint, "put budget/*", "GET /tokens", "POST /auth/token/refresh", "delete ledger/issuing/*"},
	}, {
		name: "fail fast and go on",
		run: func(c *Cluster) {
			// One token is found and revoked: with several at once the order of the points would
			// vary.
			c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropRequest, Times: 2})
			c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropResponse})
			for range 4 {
				c.tryIssue()
			}
			c.Elapse(5 * time.Second)
			c.tryIssue()
			c.Elapse(10 * time.Minute)
		},
		kinds: issuing("POST /auth/challenge", "GET /tokens", RevokeEndpoint, "put budget/*", "put ledger/ending/*", "delete ledger/live/*", "delete ledger/ending/*"),
	}, {
		name: "search at once where a deletion of config wants it",
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropResponse})
			c.tryIssue()
			_ = c.deleteConfig()
			c.Elapse(10 * time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", IssueEndpoint, "GET /tokens", "put ledger/ending/*", "delete ledger/issuing/*", "delete ledger/ending/*"),
	}}
}

func leaseFlows() []flow {
	oneHour := func(c *Cluster) { c.MustIssue(time.Hour) }
	return []flow{{
		name:    "renew",
		prepare: oneHour,
		run:     func(c *Cluster) { _ = c.Vault().Renew(c.newest(), 10*time.Hour) },
		kinds:   []string{"put ledger/live/*"},
	}, {
		name:    "revoke by the lease",
		prepare: oneHour,
		run:     func(c *Cluster) { c.Vault().End(c.newest()); c.Elapse(time.Minute) },
		kinds:   revoking("delete ledger/ending/*"),
	}, {
		name:    "revoke by the lease while KSeF is away",
		prepare: oneHour,
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropRequest})
			c.Fault(simulator.Fault{Endpoint: StatusEndpoint, Kind: simulator.FaultDropRequest})
			c.Vault().End(c.newest())
			c.Elapse(10 * time.Minute)
		},
		kinds: revoking(StatusEndpoint, "put ledger/ending/*", "delete ledger/ending/*"),
	}, {
		name:    "revoke by the lease where the reply is lost",
		prepare: oneHour,
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropResponse})
			c.Vault().End(c.newest())
			c.Elapse(10 * time.Minute)
		},
		kinds: revoking(StatusEndpoint, "delete ledger/ending/*"),
	}, {
		name:    "delete by hand before the lease ends",
		prepare: oneHour,
		run: func(c *Cluster) {
			_ = c.Vault().Delete(c.newest())
			c.Elapse(2 * time.Hour)
		},
		kinds: revoking("put ledger/ending/*", "delete ledger/ending/*", "delete visits/*"),
	}, {
		name:    "revoke when Vault has lost the lease",
		prepare: func(c *Cluster) { oneHour(c); c.Vault().Lose(c.newest()) },
		run:     func(c *Cluster) { c.Elapse(9 * 24 * time.Hour) },
		kinds:   revoking("POST /auth/token/refresh", "put ledger/ending/*", "delete ledger/ending/*", "put visits/*", "delete visits/*", "delete sessions/*"),
	}}
}

func loginFlows() []flow {
	longAgo := func(c *Cluster) { c.Elapse(8 * 24 * time.Hour) }
	return []flow{{
		name: "configure for the first time",
		prepare: func(c *Cluster) {
			c.OnMount(0, func(m *Mount) {
				m.Must(m.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
			})
		},
		run:   func(c *Cluster) { c.writeUntilAccepted("config", c.ConfigFields()) },
		kinds: loggingIn("put config"),
	}, {
		name:  "configure anew",
		run:   func(c *Cluster) { c.writeUntilAccepted("config", c.ConfigFields()) },
		kinds: []string{"POST /auth/token/refresh", "put config", "put sessions/*", "put budget/*"},
	}, {
		name: "delete the configuration and configure again",
		run: func(c *Cluster) {
			_, _ = c.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) {
				return m.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"})
			})
			c.Elapse(time.Second)
			c.writeUntilAccepted("config", c.ConfigFields())
		},
		kinds: loggingIn("delete config", "delete sessions/*", "DELETE /auth/sessions/current", "put config", "put budget/*"),
	}, {
		name:    "configure another certificate",
		prepare: func(c *Cluster) { c.Cert, c.Key = c.NewCertificate(simulator.CertificateOptions{NIP: NIP}) },
		run:     func(c *Cluster) { c.writeUntilAccepted("config", c.ConfigFields()) },
		kinds:   loggingIn("put config", "delete sessions/*", "put budget/*", "DELETE /auth/sessions/current"),
	}, {
		name:    "log in for the first time",
		prepare: func(c *Cluster) { c.endSessions(); c.deleteFolder(session.StoragePrefix); c.restart() },
		run:     func(c *Cluster) { c.tryIssue() },
		kinds:   issuing(loggingIn("put budget/*")...),
	}, {
		name:    "refresh the login",
		prepare: func(c *Cluster) { c.Elapse(20 * time.Minute) },
		run:     func(c *Cluster) { c.tryIssue() },
		kinds:   issuing("POST /auth/token/refresh", "put budget/*"),
	}, {
		name:    "log in again",
		prepare: longAgo,
		run:     func(c *Cluster) { c.tryIssue() },
		kinds:   issuing(loggingIn()...),
	}, {
		name:    "log in where the reply with the session is lost",
		prepare: longAgo,
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: "POST /auth/token/redeem", Kind: simulator.FaultDropResponse})
			c.tryIssue()
			c.Elapse(time.Minute)
			c.tryIssue()
		},
		kinds: issuing(loggingIn("DELETE /auth/sessions/{referenceNumber}", "put budget/*")...),
	}}
}

func maintenanceFlows() []flow {
	return []flow{{
		name:  "unload and load",
		run:   func(c *Cluster) { c.restart() },
		kinds: []string{"put budget/*"},
	}, {
		name: "tidy up a token that the ledger has lost",
		prepare: func(c *Cluster) {
			lost := c.MustIssue(time.Hour)
			c.Vault().Lose(lost)
			c.deleteFolder(lost.number)
		},
		run: func(c *Cluster) {
			c.writeUntilAccepted("tidy", map[string]any{"dry_run": false})
			c.Elapse(time.Minute)
		},
		kinds: revoking("GET /tokens", "put ledger/ending/*"),
	}}
}

// tryIssue asks for a token. It may fail.
func (c *Cluster) tryIssue() { _ = canIssue(c) }

// leaving is the context of a request whose caller leaves after a while.
func leaving(ctx context.Context, maxWait time.Duration) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(maxWait, cancel)
	return ctx
}

// newest is the latest lease.
func (c *Cluster) newest() *TokenLease {
	leases := c.Vault().all()
	return leases[len(leases)-1]
}

func (c *Cluster) restart() {
	c.Engine.Stop()
	c.Engine.Start()
}

// deleteFolder deletes the entries of the first mount with the part in their keys.
func (c *Cluster) deleteFolder(part string) {
	ctx := context.Background()
	keys, err := logical.CollectKeys(ctx, c.Storages[0])
	require.NoError(c.T, err)
	for _, key := range keys {
		if strings.Contains(key, part) {
			require.NoError(c.T, c.Storages[0].Delete(ctx, key))
		}
	}
}

// writeUntilAccepted writes a second time if the first fails, as an operator does.
func (c *Cluster) writeUntilAccepted(path string, fields map[string]any) {
	for range 2 {
		if c.tryWrite(path, fields) == nil {
			return
		}
		c.Elapse(time.Second)
	}
}
