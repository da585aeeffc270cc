// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package admission bounds the cost of requests for taxpayers that config does not name: first
// logins, and readings of the ledger.
package admission

import (
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// Bounds of first logins: each costs a signature and requests that KSeF counts.
const (
	MaxFirstLogins    = 10
	FirstLoginsWindow = time.Minute
)

// FirstLogins are the taxpayers that were lately admitted without a session, oldest first. The zero
// value is ready for use.
type FirstLogins struct {
	mu       sync.Mutex
	admitted []firstLogin
}

type firstLogin struct {
	taxpayer client.ContextIdentifier
	at       time.Time
}

// Admit returns 0, or how long to wait. A taxpayer counts once within the window, unless its login
// has failed since: then the next is another login.
func (f *FirstLogins) Admit(taxpayer client.ContextIdentifier, failedAt time.Time) (pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.admitted = slices.DeleteFunc(f.admitted, func(one firstLogin) bool { return now.Sub(one.at) >= FirstLoginsWindow })
	if slices.ContainsFunc(f.admitted, func(one firstLogin) bool { return one.taxpayer == taxpayer && failedAt.Before(one.at) }) {
		return 0
	}
	if len(f.admitted) >= MaxFirstLogins {
		return f.admitted[0].at.Add(FirstLoginsWindow).Sub(now)
	}
	f.admitted = append(f.admitted, firstLogin{taxpayer, now})
	return 0
}
