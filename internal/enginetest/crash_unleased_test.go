// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// unleasedFlows are those of access tokens and of static roles.
func unleasedFlows() []flow {
	flows := slices.Concat(accessFlows(), staticFlows(), importFlows())
	for i := range flows {
		flows[i].settling, flows[i].sequential = revocationGrace+time.Hour, true
		// Before the end of the roles, which ends their sessions.
		check := flows[i].check
		flows[i].check = func(c *Cluster) error {
			if err := c.sessionsPiledUp(); err != nil || check == nil {
				return err
			}
			return check(c)
		}
	}
	return flows
}

// makingUnleased are the kinds of points at which a token without a lease is made and put in force.
func makingUnleased(more ...string) []string {
	return append(more, "put budget/*", "put ledger/unleased/issuing/*", IssueEndpoint, "put unleased-tokens/*", "put ledger/unleased/live/*",
		"delete ledger/unleased/issuing/*", "put token-holders/*", StatusEndpoint)
}

// revokingUnleased are the kinds of points at which one is revoked.
func revokingUnleased(more ...string) []string {
	return append(more, "put ledger/ending/*", RevokeEndpoint, "delete ledger/unleased/live/*", "delete unleased-tokens/*", "delete ledger/ending/*")
}

// openingAccess are the kinds of points at which a session for access tokens is opened.
func openingAccess(more ...string) []string {
	return append(more, "POST /auth/challenge", "GET /auth/{referenceNumber}", "POST /auth/token/redeem", "GET /rate-limits",
		"put unstored-access-sessions/*", "put access-sessions/*", "delete unstored-access-sessions/*")
}

const byToken = "POST /auth/ksef-token"

// endingAccess are the kinds of points at which one is ended with its key.
func endingAccess(more ...string) []string {
	return append(more, "DELETE /auth/sessions/current", "delete access-sessions/*", "delete access-reads/*")
}

const accessPath = "creds/program"

func accessFlows() []flow {
	write := func(more map[string]any) func(c *Cluster) {
		return func(c *Cluster) {
			fields := map[string]any{"permissions": "InvoiceRead", "credential_type": "access_token"}
			maps.Copy(fields, more)
			require.NoError(c.T, c.tryWrite("roles/program", fields))
		}
	}
	role := write(nil)
	inUse := func(c *Cluster) { role(c); c.mustRead(accessPath) }
	flows := []flow{{
		name:    "read an access token for the first time",
		prepare: role,
		run:     func(c *Cluster) { _, _ = c.tryRead(accessPath) },
		kinds:   makingUnleased(openingAccess(byToken, "put access-reads/*", "GET /security/public-key-certificates")...),
	}, {
		name:    "read an access token of the certificate",
		prepare: write(map[string]any{"login": "certificate", "full_rights": true}),
		run:     func(c *Cluster) { _, _ = c.tryRead(accessPath) },
		kinds:   openingAccess(SubmitEndpoint, "put access-reads/*"),
	}, {
		name:    "rotate what stands behind an access token",
		prepare: inUse,
		run:     func(c *Cluster) { _ = c.tryWrite("rotate-access/program", nil); c.Elapse(time.Minute) },
		kinds:   makingUnleased(revokingUnleased(openingAccess(byToken, "DELETE /auth/sessions/current", "delete access-sessions/*")...)...),
	}, {
		name:    "change the permissions of an access role",
		prepare: inUse,
		run: func(c *Cluster) {
			c.writeUntilAccepted("roles/program", map[string]any{"permissions": "InvoiceRead,InvoiceWrite"})
			_, _ = c.tryRead(accessPath)
			c.Elapse(time.Minute)
		},
		kinds: makingUnleased(revokingUnleased(openingAccess(endingAccess(byToken, "put roles/*", "put access-reads/*")...)...)...),
	}, {
		name:    "change an access role to the certificate",
		prepare: inUse,
		run: func(c *Cluster) {
			c.writeUntilAccepted("roles/program", map[string]any{"login": "certificate", "full_rights": true})
			_, _ = c.tryRead(accessPath)
			c.Elapse(time.Minute)
		},
		kinds: revokingUnleased(openingAccess(endingAccess(SubmitEndpoint, "put roles/*", "put access-reads/*", "put budget/*", "put token-holders/*", "delete token-holders/*")...)...),
	}, {
		name:    "change an access role to tokens and back",
		prepare: inUse,
		run: func(c *Cluster) {
			c.writeUntilAccepted("roles/program", map[string]any{"credential_type": "token"})
			c.writeUntilAccepted("roles/program", map[string]any{"credential_type": "access_token"})
			_, _ = c.tryRead(accessPath)
			c.Elapse(time.Minute)
		},
		kinds: makingUnleased(revokingUnleased(openingAccess(endingAccess(byToken, "put roles/*", "put access-reads/*", "delete token-holders/*")...)...)...),
	}, {
		name:    "replace a token that a reader has revoked",
		prepare: func(c *Cluster) { inUse(c); c.revokeAsReader(accessPath) },
		run:     func(c *Cluster) { c.Elapse(10 * time.Minute) },
		kinds:   makingUnleased(revokingUnleased(openingAccess(byToken, "POST /auth/token/refresh", "DELETE /auth/sessions/current", "delete access-sessions/*")...)...),
	}}
	for i := range flows {
		flows[i].checkSoon = func(c *Cluster) error { return c.readsWork(accessPath) }
	}
	return append(flows, flow{
		name:    "delete an access role",
		prepare: inUse,
		run: func(c *Cluster) {
			c.deleteUntilAccepted("roles/program", nil)
			c.Elapse(time.Minute)
		},
		kinds: revokingUnleased(endingAccess("delete roles/*", "put budget/*", "put unstored-access-sessions/*", "delete unstored-access-sessions/*", "put token-holders/*", "delete token-holders/*")...),
	})
}

const staticPath, staticAccessPath = "static-creds/erp", "static-creds/erp/access-token"

func staticFlows() []flow {
	write := func(more map[string]any) func(c *Cluster) {
		return func(c *Cluster) {
			fields := map[string]any{"permissions": "InvoiceRead", "grace_period": "10m"}
			maps.Copy(fields, more)
			c.writeUntilAccepted("static-roles/erp", fields)
		}
	}
	role := write(nil)
	flows := []flow{{
		name:  "write a static role",
		run:   role,
		kinds: withoutKind(makingUnleased("put static-roles/*"), "put budget/*"),
	}, {
		name:    "change the permissions of a static role",
		prepare: role,
		run: func(c *Cluster) {
			c.writeUntilAccepted("static-roles/erp", map[string]any{"permissions": "InvoiceRead,InvoiceWrite"})
			c.Elapse(20 * time.Minute)
		},
		kinds: makingUnleased(revokingUnleased("put static-roles/*")...),
	}, {
		name:    "rotate a static role",
		prepare: role,
		run: func(c *Cluster) {
			_ = c.tryWrite("rotate-role/erp", nil)
			c.Elapse(20 * time.Minute)
		},
		kinds: makingUnleased(revokingUnleased()...),
	}, {
		name:    "rotate a static role whose token has leaked",
		prepare: role,
		run: func(c *Cluster) {
			_ = c.tryWrite("rotate-role/erp", map[string]any{"revoke_previous": true})
			c.Elapse(time.Minute)
		},
		kinds: makingUnleased(revokingUnleased()...),
	}, {
		name:    "rotate a static role by its period",
		prepare: write(map[string]any{"rotation_period": "6h"}),
		run:     func(c *Cluster) { c.Elapse(6*time.Hour + 20*time.Minute) },
		kinds:   makingUnleased(revokingUnleased("POST /auth/token/refresh")...),
	}, {
		name:    "rotate a static role where the reply is lost",
		prepare: role,
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropResponse})
			_ = c.tryWrite("rotate-role/erp", nil)
			c.Elapse(30 * time.Minute)
		},
		kinds: makingUnleased(revokingUnleased("GET /tokens")...),
	}, {
		name:    "read an access token of a static role for the first time",
		prepare: role,
		run:     func(c *Cluster) { _, _ = c.tryRead(staticAccessPath) },
		kinds:   openingAccess(byToken, "put access-reads/*", "put budget/*", "GET /security/public-key-certificates"),
	}}
	for i := range flows {
		flows[i].checkSoon = func(c *Cluster) error { return c.readsWork(staticPath, staticAccessPath) }
	}
	inUse := func(c *Cluster) { role(c); c.mustRead(staticAccessPath) }
	var kept []string
	return append(flows, flow{
		name:    "delete a static role",
		prepare: inUse,
		run:     func(c *Cluster) { c.deleteUntilAccepted("static-roles/erp", nil); c.Elapse(time.Minute) },
		kinds:   revokingUnleased(endingAccess("delete static-roles/*", "put budget/*", "put unstored-access-sessions/*", "delete unstored-access-sessions/*", "put token-holders/*", "delete token-holders/*")...),
	}, flow{
		name: "delete a static role and keep its tokens",
		prepare: func(c *Cluster) {
			role(c)
			require.NoError(c.T, c.tryWrite("rotate-role/erp", nil))
			c.mustRead(staticAccessPath)
			kept = nil
			for _, token := range c.AliveTokens()[1:] {
				kept = append(kept, token.ReferenceNumber)
			}
			require.Len(c.T, kept, 2)
		},
		run: func(c *Cluster) {
			c.deleteUntilAccepted("static-roles/erp", map[string]any{"keep": true})
			c.Elapse(time.Minute)
		},
		kinds: endingAccess("put unstored-access-sessions/*", "delete unstored-access-sessions/*", "put ledger/unleased/live/*", "delete unleased-tokens/*", "put token-holders/*", "delete token-holders/*", "delete static-roles/*", "put budget/*"),
		check: func(c *Cluster) error {
			for _, number := range kept {
				if !c.isAlive(number) {
					return fmt.Errorf("the token %s was to be kept", number)
				}
			}
			return nil
		},
	})
}

// proving are the kinds of points at which a token is proven that is to be imported.
func proving(more ...string) []string {
	return append(more, "put budget/*", "GET /security/public-key-certificates", "POST /auth/challenge", byToken, "GET /auth/{referenceNumber}",
		"POST /auth/token/redeem", StatusEndpoint, "DELETE /auth/sessions/current", "put token-holders/*", "put unleased-tokens/*", "put ledger/unleased/live/*")
}

// importFlows import one of two tokens that were made by hand. The other must stay alive.
func importFlows() []flow {
	prepare := func(c *Cluster) {
		for range 2 {
			text, err := c.makeForeign(context.Background(), "InvoiceRead")
			require.NoError(c.T, err)
			c.handmade = text
		}
		c.Elapse(5 * time.Second)
	}
	importing := func(fields map[string]any) func(c *Cluster) {
		return func(c *Cluster) {
			c.foreign.offer(c.handmade)
			all := map[string]any{"token": c.handmade}
			maps.Copy(all, fields)
			c.writeUntilAccepted("static-roles/erp/import", all)
		}
	}
	flows := []flow{{
		name:    "import a token",
		prepare: prepare,
		run:     importing(nil),
		kinds:   proving("put static-roles/*"),
	}, {
		name:    "import a token and rotate it",
		prepare: prepare,
		run:     func(c *Cluster) { importing(map[string]any{"rotate": true})(c); c.Elapse(2 * time.Hour) },
		kinds: revokingUnleased(proving("put static-roles/*", "put ledger/unleased/issuing/*", IssueEndpoint, "delete ledger/unleased/issuing/*",
			"POST /auth/token/refresh")...),
	}, {
		name: "import a token in place of another",
		prepare: func(c *Cluster) {
			prepare(c)
			require.NoError(c.T, c.tryWrite("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
		},
		run:   func(c *Cluster) { importing(nil)(c); c.Elapse(2 * time.Hour) },
		kinds: revokingUnleased(proving("POST /auth/token/refresh")...),
	}, {
		name:    "delete a static role with an imported token",
		prepare: func(c *Cluster) { prepare(c); importing(nil)(c) },
		run:     func(c *Cluster) { c.deleteUntilAccepted("static-roles/erp", nil); c.Elapse(time.Minute) },
		kinds:   revokingUnleased("put budget/*", "put token-holders/*", "delete token-holders/*", "delete static-roles/*"),
	}}
	for i := range flows[:3] {
		flows[i].checkSoon = func(c *Cluster) error { return c.readsWorkWhere("static-roles/erp", staticPath) }
	}
	return flows
}

// readsWorkWhere is readsWork where a role exists: a crash may have come before it was written.
func (c *Cluster) readsWorkWhere(role string, paths ...string) error {
	if response, err := c.tryRead(role); err != nil || response == nil {
		return err
	}
	return c.readsWork(paths...)
}

// tryRead reads a path. It may fail.
func (c *Cluster) tryRead(path string) (*logical.Response, error) {
	return c.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) { return m.Read(path, nil) })
}

func (c *Cluster) mustRead(path string) *logical.Response {
	response, err := c.tryRead(path)
	require.NoError(c.T, err)
	return response
}

// readsWork fails if a path cannot be read within some minutes, or what it answers with is dead.
func (c *Cluster) readsWork(paths ...string) error {
	var failures []error
	for _, path := range paths {
		failures = append(failures, c.readWorks(path))
	}
	return errors.Join(failures...)
}

func (c *Cluster) readWorks(path string) (err error) {
	for range 7 {
		var response *logical.Response
		if response, err = c.tryRead(path); err == nil {
			return c.works(path, response)
		}
		c.Elapse(time.Minute)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// works fails if KSeF does not accept what a read was answered with.
func (c *Cluster) works(path string, response *logical.Response) error {
	if token, given := response.Data["token"]; given {
		return c.logInAsReader(token.(string))
	}
	if status := c.QueryInvoices(response.Data["access_token"]); status != 200 {
		return fmt.Errorf("%s: KSeF answers %d to its access token", path, status)
	}
	return nil
}

// logInAsReader logs in with a KSeF token, and ends the session.
func (c *Cluster) logInAsReader(token string) error {
	tokens, err := c.TokenLogin(token)
	if err != nil {
		return err
	}
	return c.readersAPI().EndSession(context.Background(), tokens.Access.Token)
}

// revokeAsReader revokes the token behind an access token, as a program can that has read it.
func (c *Cluster) revokeAsReader(path string) {
	read := c.mustRead(path).Data
	for _, one := range c.KSeF.State().Sessions {
		if one.ReferenceNumber == read["session_reference_number"] {
			c.RevokeAs(read["access_token"], one.TokenReferenceNumber)
		}
	}
}

// deleteUntilAccepted deletes a second time if the first fails, as an operator does.
func (c *Cluster) deleteUntilAccepted(path string, fields map[string]any) {
	for range 2 {
		_, err := c.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) {
			return m.Request(logical.DeleteOperation, path, fields)
		})
		if err == nil {
			return
		}
		c.Elapse(time.Second)
	}
}
