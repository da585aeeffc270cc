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

	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

// serve answers one request: faults around, limits and login before the endpoint itself.
func (s *Simulator) serve(e endpoint, w http.ResponseWriter, r *http.Request) {
	fault := s.takeFault(e.name)
	if fault.Kind == FaultDropRequest || (fault.Kind == FaultDelay && !delay(r, fault.Delay)) {
		s.drop(e)
	}
	c := &call{Request: r, now: s.now(), fault: fault}
	answer := s.answer(e, c)
	body := answer.encode()
	length := len(body)
	switch {
	case fault.Kind == FaultDropReply || (fault.Kind == FaultTruncate && length == 0):
		s.drop(e)
	case fault.Kind == FaultTruncate:
		body = body[:length/2]
	case fault.Kind == FaultGarbage:
		answer, body = garbage(answer)
		length = len(body)
	}
	if warning := r.Header.Get("X-Test-System-Warning"); warning != "" {
		w.Header().Set("X-System-Warning", warning)
	}
	w.Header().Set("Date", c.now.Format(http.TimeFormat)) // a server on a socket would add that of its machine
	s.count(e, strconv.Itoa(answer.status))
	answer.writeHeader(w, length)
	_, _ = w.Write(body) // the other side may have gone; nobody is left to tell
}

// delay holds a request up; false when its client has gone. The server notices that only once the body has been read.
func delay(r *http.Request, d time.Duration) bool {
	data, err := io.ReadAll(io.LimitReader(r.Body, xmltree.MaxSize+1))
	if err != nil {
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	return wait(r.Context(), d)
}

// garbage turns an answer into one of success whose body is not JSON.
func garbage(answer reply) (reply, []byte) {
	body := []byte("<html>garbage</html>")
	if answer.status == http.StatusNoContent || answer.status >= http.StatusMultipleChoices {
		answer.status = http.StatusOK
	}
	return reply{status: answer.status, body: body}, body
}

// drop closes the connection without an answer.
func (s *Simulator) drop(e endpoint) {
	s.count(e, "dropped")
	panic(http.ErrAbortHandler)
}

func wait(ctx context.Context, d time.Duration) bool {
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

func (s *Simulator) answer(e endpoint, c *call) reply {
	s.mu.Lock()
	s.settle(c.now)
	s.mu.Unlock()
	if c.fault.Kind == FaultStatus {
		return c.anyFailure(c.fault.Status, c.fault.RetryAfter)
	}
	if refused := s.admit(c, "* "+c.clientIP(), groupGlobal, Identifier{}); refused != nil {
		return *refused
	}
	if e.scope == perClient {
		if refused := s.admit(c, e.name+" "+c.clientIP(), cmp.Or(e.group, groupAnonymous), Identifier{}); refused != nil {
			return *refused
		}
	}
	if len(e.bearer) > 0 {
		if refused := s.authenticate(c, e.bearer); refused != nil {
			return *refused
		}
	}
	if e.scope == perContext {
		context := c.login.context
		counter := strings.Join([]string{e.name, context.Type, context.Value, c.clientIP()}, " ")
		if refused := s.admit(c, counter, cmp.Or(e.group, groupOther), context); refused != nil {
			return *refused
		}
	}
	if len(e.requires) > 0 && !c.hasAny(e.requires...) {
		return c.missingPermissions(e.requires...)
	}
	return e.serve(c)
}

// admit counts a request on a counter that has the limits of a group in a context.
func (s *Simulator) admit(c *call, counter, group string, context Identifier) *reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	windows := s.limiter.of(context).of(group)
	// Not c.now: a request that was held up on its way here would count in a second before that of those which overtook it.
	retryAfter, detail, admitted := s.limiter.admit(counter, windows, s.now())
	if admitted {
		return nil
	}
	refused := c.tooMany(detail, retryAfter)
	return &refused
}

// authenticate finds the login of the bearer token. An access token is good until it expires, whatever becomes of its session.
func (s *Simulator) authenticate(c *call, kinds []string) *reply {
	found, err := s.parse(c.bearer(), c.now)
	if err != nil || !slices.Contains(kinds, found.Type) {
		refused := s.refuseBearer(c, err)
		return &refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.store.logins[found.Reference]
	switch {
	case known == nil && found.Type == accessJWT:
		refused := c.unauthorized()
		return &refused
	case known == nil:
		refused := c.failed(unknownLogin(found.Reference))
		return &refused
	case found.Type == accessJWT && !known.policy.allows(c.clientIP()):
		refused := c.forbidden("ip-not-allowed", "Żądanie pochodzi z adresu IP innego niż wskazany podczas uwierzytelnienia.",
			map[string]any{"clientIp": c.clientIP()})
		return &refused
	}
	c.login, c.permissions = known, found.permissions(s.options.OwnerPermissions)
	return nil
}

// refuseBearer is the answer to a bearer token that does not open the endpoint; err says what is
// wrong with it besides its kind.
func (s *Simulator) refuseBearer(c *call, err error) reply {
	if err == nil && s.options.ForbidOtherJWTs {
		return reply{status: http.StatusForbidden}
	}
	return c.unauthorized()
}
