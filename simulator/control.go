// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxControlBody bounds the body of a control request.
const maxControlBody = 64 << 10

// addControl serves the control of the simulator. Responses are JSON or 204. An invalid request
// gets 400 with {"error": ...}.
func (s *Simulator) addControl(mux *http.ServeMux) {
	mux.HandleFunc("GET /simulator/state",
		func(w http.ResponseWriter, _ *http.Request) { writeControl(w, s.State(), nil) })
	mux.HandleFunc("GET /simulator/signed-requests", func(w http.ResponseWriter, _ *http.Request) {
		writeControl(w, s.SignedRequests(), nil)
	})
	mux.HandleFunc("POST /simulator/faults",
		func(w http.ResponseWriter, r *http.Request) { writeControl(w, nil, s.postFault(r)) })
	mux.HandleFunc("DELETE /simulator/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		writeControl(w, nil, nil)
	})
	mux.HandleFunc("POST /simulator/clock",
		func(w http.ResponseWriter, r *http.Request) { writeControl(w, nil, s.postClock(r)) })
	mux.HandleFunc("POST /simulator/tokens",
		func(w http.ResponseWriter, r *http.Request) { writeControl(w, nil, s.postTokens(r)) })
	mux.HandleFunc("POST /simulator/reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		writeControl(w, nil, nil)
	})
}

func (s *Simulator) postFault(r *http.Request) error {
	var fault Fault
	if err := readControl(r, &fault); err != nil {
		return err
	}
	return s.AddFault(fault)
}

// postTokens serves POST /simulator/tokens: {"tokens": "expiring", "validity_days": 30}. See
// SetTokens.
func (s *Simulator) postTokens(r *http.Request) error {
	var form struct {
		Tokens   TokenMode `json:"tokens"`
		Validity int       `json:"validity_days"`
	}
	if err := readControl(r, &form); err != nil {
		return err
	}
	return s.SetTokens(form.Tokens, form.Validity)
}

// postClock serves POST /simulator/clock: {"advance": "1h"}, or {"set":
// "2027-01-01T00:00:00+01:00"}. See Advance and SetClock.
func (s *Simulator) postClock(r *http.Request) error {
	var form struct {
		Advance string `json:"advance"`
		Set     string `json:"set"`
	}
	if err := readControl(r, &form); err != nil {
		return err
	}
	switch {
	case form.Set == "" && form.Advance == "":
		return errors.New("the time is missing: give advance or set")
	case form.Set == "":
		return s.postAdvance(form.Advance)
	case form.Advance != "":
		return errors.New("advance and set exclude each other: give one of them")
	}
	to, err := time.Parse(time.RFC3339, form.Set)
	if err != nil {
		return fmt.Errorf("set %q is not a time such as 2027-01-01T00:00:00+01:00: %w", form.Set, err)
	}
	return s.SetClock(to)
}

func (s *Simulator) postAdvance(advance string) error {
	d, err := time.ParseDuration(advance)
	if err != nil {
		return fmt.Errorf("advance %q is not a duration such as 1h: %w", advance, err)
	}
	if d < 0 {
		return fmt.Errorf("advance %q is not valid: the clock goes forward only", advance)
	}
	s.Advance(d)
	return nil
}

// readControl reads the body of a control request. It ignores unknown fields, as KSeF does.
func readControl(r *http.Request, into any) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxControlBody))
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if !json.Valid(data) {
		return errors.New("the request is not valid JSON")
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("the request is not valid: %w", err)
	}
	return nil
}

func writeControl(w http.ResponseWriter, body any, failure error) {
	resp := response{status: http.StatusOK, body: body}
	switch {
	case failure != nil:
		resp = response{status: http.StatusBadRequest, body: map[string]string{"error": failure.Error()}}
	case body == nil:
		resp = noContent()
	}
	data := resp.encode()
	resp.writeHeader(w, len(data))
	_, _ = w.Write(data) // the client may have disconnected
}
