// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/limiters"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// manyRevocations is how many leases a large program may drop at once.
const manyRevocations = 1000

func TestFigureAThousandRevocationsEndAsSoonAsKSeFsLimitsAllow(t *testing.T) {
	withLeases(t, manyRevocations, func(t *testing.T, r *revocations) {
		r.begin()
		r.awaitEnd()
		late := r.late(earliestEnd(manyRevocations, outageSpan{}))
		attribute(t, "late-percent", 100*late.share)
		attribute(t, "429", r.requestsAnswered("429"))
		require.LessOrEqual(t, late.share, 0.01)
		r.requireNothingLost()
	})
}

func TestFigureAThousandRevocationsEndSoonAfterAnOutageInTheirMiddle(t *testing.T) {
	withLeases(t, manyRevocations, func(t *testing.T, r *revocations) {
		const away = 2 * time.Hour
		begin := (earliestEnd(manyRevocations, outageSpan{}) - away) / 2
		r.begin()
		r.Elapse(begin)
		r.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
		r.Elapse(away)
		r.KSeF.ClearFaults()
		r.awaitEnd()
		late := r.late(earliestEnd(manyRevocations, outageSpan{begin, begin + away}))
		attribute(t, "late-percent", 100*late.share)
		attribute(t, "lost", manyRevocations-r.ended.confirmed())
		attribute(t, "late-minutes-beyond-percent", late.beyondPercent.Minutes())
		attribute(t, "429", r.requestsAnswered("429"))
		require.LessOrEqual(t, late.beyondPercent, 5*time.Minute)
		r.requireNothingLost()
	})
}

// revocations is a mount with leases that Vault ends all at once.
type revocations struct {
	*Mount
	leases []*logical.Secret
	began  time.Time
	ended  *lastRevocation
}

// withLeases issues tokens without limits. The mount then starts in a new process, under KSeF's
// documented limits.
func withLeases(t *testing.T, count int, test func(t *testing.T, r *revocations)) {
	WithMount(t, simulator.Options{Limits: NoLimits()}, func(t *testing.T, m *Mount) {
		m.Must(m.Write("config", map[string]any{"activation_timeout": 0}))
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "72h", "max_ttl": "72h"}))
		r := &revocations{Mount: m}
		for range count {
			r.leases = append(r.leases, m.Lease(m.Must(m.Read("creds/invoices", nil))))
		}
		m.Elapse(time.Minute)
		m.Stop()
		require.NoError(t, logical.ClearView(t.Context(), logical.NewStorageView(m.Storage, limiters.StoragePrefix)))
		m.KSeF.SetLimits(simulator.Limits{})
		r.ended = &lastRevocation{next: m.Transport}
		m.UseOwnProcess(r.ended)
		m.Start()
		test(t, r)
	})
}

// begin ends all leases, as Vault does. It does not wait for KSeF's confirmation.
func (r *revocations) begin() {
	r.began = time.Now()
	for _, secret := range r.leases {
		go func() { _ = r.Revoke(secret) }()
	}
}

func (r *revocations) awaitEnd() {
	deadline := time.Now().Add(24 * time.Hour)
	for r.ended.confirmed() < len(r.leases) && time.Now().Before(deadline) {
		r.Elapse(time.Minute)
	}
}

func (r *revocations) requestsAnswered(status string) int {
	sum := 0
	for _, statuses := range r.KSeF.State().Requests {
		sum += statuses[status]
	}
	return sum
}

// requireNothingLost requires that all tokens are revoked by one confirmed DELETE each, that KSeF
// has refused no request for its limits, and that each lease now ends without another request.
func (r *revocations) requireNothingLost() {
	r.Elapse(time.Minute)
	confirmed := r.KSeF.State().Requests["DELETE /tokens/{referenceNumber}"]["204"]
	require.Equal(r.T, len(r.leases), confirmed)
	require.Zero(r.T, r.requestsAnswered("429"))
	for _, token := range r.KSeF.State().Tokens {
		require.Equal(r.T, "Revoked", token.Status)
	}
	for _, secret := range r.leases {
		require.NoError(r.T, r.Revoke(secret))
	}
	require.Equal(r.T, confirmed, r.KSeF.State().Requests["DELETE /tokens/{referenceNumber}"]["204"])
	r.RequireEmptyLedger()
}

// lateness is the time between the earliest moment at which the last confirmation could have come
// and that at which it came.
type lateness struct {
	share         float64
	beyondPercent time.Duration // what goes beyond a hundredth of that moment
}

func (r *revocations) late(earliest time.Duration) lateness {
	require.Equal(r.T, len(r.leases), r.ended.confirmed())
	span := r.ended.at().Sub(r.began) - earliest
	require.GreaterOrEqual(r.T, span, time.Duration(0), "nothing is faster than KSeF's limits allow")
	return lateness{share: float64(span) / float64(earliest), beyondPercent: max(0, span-earliest/100)}
}

// outageSpan is when KSeF is out of reach, counted from the first request.
type outageSpan struct{ begin, end time.Duration }

// earliestEnd is when the last of so many requests that come at once can go under KSeF's documented
// limits: each goes at the first moment at which no sliding window is full.
func earliestEnd(requests int, away outageSpan) time.Duration {
	limits := map[time.Duration]int{time.Second: 10, time.Minute: 30, time.Hour: 120}
	sent := make([]time.Duration, requests)
	for i := range sent {
		if i > 0 {
			sent[i] = sent[i-1]
		}
		for length, limit := range limits {
			if i >= limit {
				sent[i] = max(sent[i], sent[i-limit]+length)
			}
		}
		if sent[i] >= away.begin && sent[i] < away.end {
			sent[i] = away.end
		}
	}
	return sent[requests-1]
}

// lastRevocation records when KSeF has confirmed a revocation last.
type lastRevocation struct {
	next http.RoundTripper

	mu    sync.Mutex
	count int
	last  time.Time
}

// RoundTrip implements http.RoundTripper.
func (l *lastRevocation) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(request)
	if err == nil && request.Method == http.MethodDelete && response.StatusCode == http.StatusNoContent {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.count++
		l.last = time.Now()
	}
	return response, err
}

func (l *lastRevocation) confirmed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

func (l *lastRevocation) at() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}
