// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

// serve responds to one request: it applies faults, rate limits and the login, then calls the
// endpoint.
func (s *Simulator) serve(e endpoint, w http.ResponseWriter, r *http.Request) {
	fault := s.takeFault(e.name)
	if fault.Kind == FaultDropRequest || (fault.Kind == FaultDelay && !delay(r, fault.Delay)) {
		s.drop(e)
	}
	req := &request{Request: r, now: s.now(), fault: fault}
	resp := s.respond(e, req)
	body := resp.encode()
	length := len(body)
	switch {
	case fault.Kind == FaultDropResponse || (fault.Kind == FaultTruncate && length == 0):
		s.drop(e)
	case fault.Kind == FaultTruncate:
		body = body[:length/2]
	case fault.Kind == FaultGarbage:
		resp, body = garbage(resp)
		length = len(body)
	}
	if warning := r.Header.Get("X-Test-System-Warning"); warning != "" {
		w.Header().Set("X-System-Warning", warning)
	}
	w.Header().Set("Date", req.now.Format(http.TimeFormat)) // on a socket the server would add the machine's date
	s.count(e, strconv.Itoa(resp.status))
	resp.writeHeader(w, length)
	_, _ = w.Write(body) // the client may have disconnected
}

// delay waits and reports whether the client is still connected. It reads the body first, because
// only then does the server notice a disconnected client.
func delay(r *http.Request, d time.Duration) bool {
	data, err := io.ReadAll(io.LimitReader(r.Body, xmltree.MaxSize+1))
	if err != nil {
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	return sleep(r.Context(), d)
}

// garbage turns a response into a successful one whose body is not JSON.
func garbage(resp response) (response, []byte) {
	body := []byte("<html>garbage</html>")
	if resp.status == http.StatusNoContent || resp.status >= http.StatusMultipleChoices {
		resp.status = http.StatusOK
	}
	return response{status: resp.status, body: body}, body
}

// drop closes the connection without a response.
func (s *Simulator) drop(e endpoint) {
	s.count(e, "dropped")
	panic(http.ErrAbortHandler)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Simulator) count(e endpoint, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests[e.name] == nil {
		s.requests[e.name] = map[string]int{}
	}
	s.requests[e.name][result]++
}

func (s *Simulator) respond(e endpoint, req *request) response {
	s.mu.Lock()
	s.decideLogins(req.now)
	s.mu.Unlock()
	if req.fault.Kind == FaultStatus {
		return req.anyFailure(req.fault.Status, req.fault.RetryAfter)
	}
	if refused := s.admit(req, "* "+req.clientIP(), limits.GroupGlobal, ksef.Identifier{}); refused != nil {
		return *refused
	}
	if e.scope == perClient {
		if refused := s.admit(req, e.name+" "+req.clientIP(), cmp.Or(e.group, limits.GroupAnonymous),
			ksef.Identifier{}); refused != nil {
			return *refused
		}
	}
	if len(e.bearer) > 0 {
		if refused := s.authenticate(req, e.bearer); refused != nil {
			return *refused
		}
	}
	if e.scope == perContext {
		context := req.login.Context
		counter := strings.Join([]string{e.name, context.Type, context.Value, req.clientIP()}, " ")
		if refused := s.admit(req, counter, cmp.Or(e.group, limits.GroupOther), context); refused != nil {
			return *refused
		}
	}
	if len(e.requires) > 0 && !req.hasAny(e.requires...) {
		return req.missingPermissions(e.requires...)
	}
	return e.serve(req)
}

// admit counts a request under a key, with the limits of a group in a context.
func (s *Simulator) admit(req *request, counter, group string, context ksef.Identifier) *response {
	s.mu.Lock()
	defer s.mu.Unlock()
	windows := s.limiter.Of(context).Of(group)
	// The clock is read here and not taken from req.now: a delayed request would otherwise count in
	// an earlier second than requests that overtook it.
	retryAfter, detail, admitted := s.limiter.Admit(counter, windows, s.now())
	if admitted {
		return nil
	}
	refused := req.tooMany(detail, retryAfter)
	return &refused
}

// authenticate finds the login of the bearer token. An access token is valid until it expires, even
// after its session has ended.
func (s *Simulator) authenticate(req *request, kinds []string) *response {
	found, err := s.jwtKey.Parse(req.bearer(), req.now)
	if err != nil || !slices.Contains(kinds, found.Type) {
		refused := s.refuseBearer(req, err)
		return &refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.store.Logins[found.Reference]
	switch {
	case known == nil && found.Type == jwt.Access:
		refused := req.unauthorized()
		return &refused
	case known == nil:
		refused := req.failed(unknownLogin(found.Reference))
		return &refused
	case found.Type == jwt.Access && !known.IPPolicy.Allows(req.clientIP()):
		refused := req.forbidden("ip-not-allowed",
			"Żądanie pochodzi z adresu IP innego niż wskazany podczas uwierzytelnienia.",
			map[string]any{"clientIp": req.clientIP()})
		return &refused
	}
	req.login, req.permissions = known, tokenPermissions(found, s.options.OwnerPermissions)
	return nil
}

// refuseBearer refuses a bearer token. err is nil when only its kind is wrong.
func (s *Simulator) refuseBearer(req *request, err error) response {
	if err == nil && s.options.ForbidOtherJWTs {
		return response{status: http.StatusForbidden}
	}
	return req.unauthorized()
}
