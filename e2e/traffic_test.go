// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// traffic records how KSeF's limits are used.
type traffic struct {
	mu sync.Mutex
	// issues are the moments of the requests for a token within the limits.
	issues  []time.Time
	refused []string
	// events explain an overrun, oldest first.
	events []event
}

// event is a request that KSeF has answered, or the kill or start of a process.
type event struct {
	from, to time.Time
	text     string
}

// record adds an event of a process.
func (t *traffic) record(format string, arguments ...any) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, event{from: now, to: now, text: "== " + fmt.Sprintf(format, arguments...)})
}

// wantedRefusal is the simulator's text of a 429 that is a fault; its limits name the exceeded one.
const wantedRefusal = "Przekroczono limit żądań."

func (t *traffic) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrival := time.Now()
		answer := &copyingWriter{ResponseWriter: w}
		next.ServeHTTP(answer, r)
		wanted := bytes.Contains(answer.body.Bytes(), []byte(wantedRefusal))
		answered := time.Now()
		t.mu.Lock()
		defer t.mu.Unlock()
		// The sender's port identifies the process.
		t.events = append(t.events, event{
			from: arrival, to: answered, text: fmt.Sprintf("%s %s from %s: %d", r.Method, r.URL.Path, r.RemoteAddr, answer.status),
		})
		switch {
		case answer.status == http.StatusTooManyRequests && !wanted:
			t.refused = append(t.refused, r.Method+" "+r.URL.Path+": "+answer.body.String()+t.before(answered, r.Method))
		case answer.status == http.StatusAccepted && r.URL.Path == "/v2/tokens":
			t.issues = append(t.issues, arrival)
		}
	})
}

// explained is how long before an overrun its causes can lie.
const explained = 6 * time.Second

// before returns the requests of a method that were in flight shortly before a moment, and the
// kills among them.
func (t *traffic) before(moment time.Time, method string) string {
	var lines strings.Builder
	for _, one := range t.events {
		if one.to.Before(moment.Add(-explained)) || (!strings.HasPrefix(one.text, method) && !strings.HasPrefix(one.text, "==")) {
			continue
		}
		fmt.Fprintf(&lines, "\n  %6d ms to %6d ms: %s", one.from.Sub(moment).Milliseconds(), one.to.Sub(moment).Milliseconds(), one.text)
	}
	return lines.String()
}

// overruns returns the requests that the simulator's limits have refused.
func (t *traffic) overruns() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}

// fullestSecond returns the highest number of requests for a token in any second.
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
