// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

// Tests of paths, in package ksef_test, need these besides requests.

var ConfigComputed = configComputed

// IsContext reports whether a text identifies a context.
func IsContext(value string) bool {
	_, err := parseContext(value)
	return err == nil
}

// OpenLimiters counts the limiters in memory.
func OpenLimiters(b logical.Backend) int { return len(b.(*backend).limiters.Usage()) }

// Paths are the paths of a mount.
func Paths(b logical.Backend) []*framework.Path { return b.(*backend).Paths }

// Ledger is the ledger of a mount.
func Ledger(b logical.Backend) *ledger.Ledger { return b.(*backend).ledger }

// ConnectionLock is taken by changes of the configuration.
func ConnectionLock(b logical.Backend) *semaphore.Weighted { return b.(*backend).connection.lock }

// ParsingLock is taken by the parsing of a credential.
func ParsingLock(b logical.Backend) *semaphore.Weighted { return b.(*backend).parsing }
