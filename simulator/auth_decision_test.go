// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// Logins are decided in the order of their due times, not of their start.
func TestLoginDecidedWhenDue(t *testing.T) {
	a := newAPI(t, simulator.Options{
		Limits: unlimited(), LoginDelay: time.Second, QualifiedLoginDelay: 10 * time.Second,
		ActivationDelay: 5 * time.Second,
	})
	first := a.begin(seal(t), nipXML)
	a.sim.Advance(11 * time.Second)
	owner := a.redeem(first)
	_, keep := a.issue(owner, "InvoiceRead")
	reference, drop := a.issue(owner, "InvoiceRead")
	slow := a.begin(seal(t), nipXML)
	kept, dropped := a.beginWithToken(keep), a.beginWithToken(drop)
	codes := func() []int {
		found := []int{}
		for _, o := range []operation{slow, kept, dropped} {
			code, _ := a.status(o)
			found = append(found, code)
		}
		return found
	}
	require.Equal(t, []int{100, 100, 100}, codes())
	a.sim.Advance(2 * time.Second)
	require.Equal(t, []int{100, 100, 100}, codes())
	a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, owner.access, nil)
	require.Equal(t, []int{100, 100, 450}, codes())
	a.sim.Advance(3 * time.Second)
	require.Equal(t, []int{100, 200, 450}, codes())
	a.sim.Advance(6 * time.Second)
	require.Equal(t, []int{200, 200, 450}, codes())
}

// BenchmarkUndecidedLogins shows that the cost of a request does not depend on the number of
// undecided logins.
func BenchmarkUndecidedLogins(b *testing.B) {
	a := newAPI(b, simulator.Options{Limits: unlimited(), LoginDelay: time.Hour})
	a.client.Transport = a.sim.Transport()
	certificate := seal(b)
	for range 4000 {
		a.begin(certificate, nipXML)
	}
	for b.Loop() {
		a.challenge()
	}
}
