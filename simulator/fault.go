// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// FaultKind is what a fault does.
type FaultKind string

// The kinds of faults. All but the first two let the request pass the rate limits and take effect.
const (
	FaultDropRequest    FaultKind = "drop-request"    // closes the connection without processing the request
	FaultStatus         FaultKind = "status"          // responds with Status in KSeF's format, without processing
	FaultDropResponse   FaultKind = "drop-reply"      // closes the connection instead of responding
	FaultDelay          FaultKind = "delay"           // processes the request only after Delay, of package time
	FaultTruncate       FaultKind = "truncate"        // sends half of the body; without a body, as drop-reply
	FaultGarbage        FaultKind = "garbage"         // sends a body that is not JSON with a successful status
	FaultFailActivation FaultKind = "fail-activation" // POST /tokens: the token becomes Failed, not Active
	FaultFailEnrollment FaultKind = "fail-enrollment" // POST /certificates/enrollments: ends with Status, not 200
)

// Fault makes the next requests to an endpoint fail. A request meets one fault: the first added of
// those that match.
type Fault struct {
	// Endpoint is method and path as in the OpenAPI, "GET /tokens/{referenceNumber}". "*" matches
	// all.
	Endpoint string
	Kind     FaultKind
	// Status is 300 to 599 for FaultStatus (a proxy before KSeF may redirect), and 400, 500 or 550
	// for FaultFailEnrollment.
	Status int
	// RetryAfter is a header in whole seconds, for FaultStatus; 0 leaves it out.
	RetryAfter int
	// Delay is positive, for FaultDelay.
	Delay time.Duration
	// Times is how many requests meet the fault: 1 when zero, all until ClearFaults or Reset when
	// negative.
	Times int
}

// faultJSON is the form of a fault in the control API.
type faultJSON struct {
	Endpoint   string    `json:"endpoint"`
	Kind       FaultKind `json:"kind"`
	Status     int       `json:"status"`
	RetryAfter int       `json:"retry_after"`
	Delay      string    `json:"delay"`
	Times      int       `json:"times"`
}

// UnmarshalJSON reads the form of the control API, where the delay is a string such as "2s".
func (f *Fault) UnmarshalJSON(data []byte) error {
	var form faultJSON
	if err := json.Unmarshal(data, &form); err != nil {
		return err
	}
	*f = Fault{Endpoint: form.Endpoint, Kind: form.Kind, Status: form.Status, RetryAfter: form.RetryAfter,
		Times: form.Times}
	if form.Delay == "" {
		return nil
	}
	delay, err := time.ParseDuration(form.Delay)
	if err != nil {
		return fmt.Errorf("delay %q is not a duration such as 2s: %w", form.Delay, err)
	}
	f.Delay = delay
	return nil
}

// AddFault adds a fault to the queue.
func (s *Simulator) AddFault(fault Fault) error {
	if err := s.checkFault(fault); err != nil {
		return err
	}
	if fault.Times == 0 {
		fault.Times = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &fault)
	return nil
}

// ClearFaults removes all faults.
func (s *Simulator) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func (s *Simulator) checkFault(f Fault) error {
	known := f.Endpoint == "*" || slices.ContainsFunc(s.endpoints(),
		func(e endpoint) bool { return e.name == f.Endpoint })
	switch {
	case !known:
		return fmt.Errorf("endpoint %q is not known: "+
			"use a method and path such as \"GET /tokens/{referenceNumber}\", or *", f.Endpoint)
	case f.RetryAfter < 0:
		return fmt.Errorf("retry_after %d is not valid: use 0 or more seconds", f.RetryAfter)
	}
	switch f.Kind {
	case FaultDropRequest, FaultDropResponse, FaultTruncate, FaultGarbage:
		return nil
	case FaultStatus:
		if f.Status < http.StatusMultipleChoices || f.Status > 599 {
			return fmt.Errorf("status %d is not valid: use 300 to 599", f.Status)
		}
		return nil
	case FaultDelay:
		if f.Delay <= 0 {
			return fmt.Errorf("delay %v is not valid: use a positive duration", f.Delay)
		}
		return nil
	case FaultFailActivation:
		if f.Endpoint != issueTokenEndpoint {
			return fmt.Errorf("kind %q is for the endpoint %q only", f.Kind, issueTokenEndpoint)
		}
		return nil
	case FaultFailEnrollment:
		if f.Endpoint != enrollEndpoint {
			return fmt.Errorf("kind %q is for the endpoint %q only", f.Kind, enrollEndpoint)
		}
		if !slices.Contains([]int{400, 500, 550}, f.Status) {
			return fmt.Errorf("status %d is not valid: use 400, 500 or 550", f.Status)
		}
		return nil
	}
	return fmt.Errorf("kind %q is not known: use drop-request, drop-reply, status, delay, truncate, garbage, "+
		"fail-activation or fail-enrollment", f.Kind)
}

// takeFault returns the fault that the next request to an endpoint meets. Its kind is empty when
// there is none.
func (s *Simulator) takeFault(name string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, fault := range s.faults {
		if fault.Endpoint != "*" && fault.Endpoint != name {
			continue
		}
		hit := *fault
		if fault.Times > 0 {
			fault.Times--
		}
		if fault.Times == 0 {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		return hit
	}
	return Fault{}
}
