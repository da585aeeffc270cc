// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"net/http"
	"slices"
	"sync"
	"time"
)

// traffic watches how KSeF's limits are used.
type traffic struct {
	mu sync.Mutex
	// issues are the moments of the requests for a token that the limits let
	// through.
	issues  []time.Time
	refused []string
}

// wantedRefusal is how the simulator words a 429 that was asked for as a fault;
// its limits say which of them was exceeded.
const wantedRefusal = "Przekroczono limit żądań."

func (t *traffic) watching(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrival := time.Now()
		answer := &copyingWriter{ResponseWriter: w}
		next.ServeHTTP(answer, r)
		wanted := bytes.Contains(answer.body.Bytes(), []byte(wantedRefusal))
		t.mu.Lock()
		defer t.mu.Unlock()
		switch {
		case answer.status == http.StatusTooManyRequests && !wanted:
			t.refused = append(t.refused, r.Method+" "+r.URL.Path+": "+answer.body.String())
		case answer.status == http.StatusAccepted && r.URL.Path == "/v2/tokens":
			t.issues = append(t.issues, arrival)
		}
	})
}

// overruns are the requests that the simulator's limits have refused.
func (t *traffic) overruns() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}

// fullestSecond is the most requests for a token in any second.
func (t *traffic) fullestSecond() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.issues, time.Time.Compare)
	most, first := 0, 0
	for last := range t.issues {
		for t.issues[last].Sub(t.issues[first]) >= time.Second {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}
