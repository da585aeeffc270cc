// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// maxBody bounds what is read of one answer; the largest documented one, a page of 100 tokens,
	// is about 100 KiB.
	maxBody = 4 << 20
	// maxRetryAfter bounds how long a 429 may send us away, so that one absurd header cannot stop a
	// mount for good. Blocks of 45 minutes have been seen.
	maxRetryAfter = 24 * time.Hour
)

// call is one request: an endpoint as KSeF's documentation names it, the path with its parameters
// filled in, and what goes along.
type call struct {
	endpoint    string // "GET /tokens/{referenceNumber}"
	method      string
	path        string
	success     int // the status that KSeF documents for a success
	bearer      TokenSource
	header      map[string]string
	contentType string
	body        []byte
}

// TokenSource gives the bearer token of a request at the moment in which it is sent: a wait for
// KSeF's limits may outlast a token.
type TokenSource func(ctx context.Context) (Secret, error)

// Source returns the secret itself as the bearer token.
func (s Secret) Source() TokenSource {
	return func(context.Context) (Secret, error) { return s, nil }
}

// errUnreadable marks a success whose body was not whole or not as documented.
var errUnreadable = errors.New("the answer ended early or is not the JSON that was expected")

// unreadable is a success that says nothing that could be used.
func unreadable(endpoint string) error {
	return &TransportError{Endpoint: endpoint, Sent: true, Connected: true, Err: errUnreadable}
}

// jsonCall makes a POST with a JSON body, which KSeF answers with 202 unless said otherwise.
func jsonCall(endpoint, path string, bearer TokenSource, body any) (call, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return call{}, fmt.Errorf("encoding the request for %s: %w", endpoint, err)
	}
	return call{
		endpoint: endpoint, method: http.MethodPost, path: path, success: http.StatusAccepted, bearer: bearer,
		contentType: "application/json", body: encoded,
	}, nil
}

// blockUnlessTold is how long a 429 without a Retry-After keeps us away: the window that is most
// likely to be full.
const blockUnlessTold = time.Minute

// do sends the call and decodes a success into out (nil: there is no body).
func (c *Client) do(ctx context.Context, call call, out any) error {
	permit, err := c.limiter.Admit(ctx, call.endpoint)
	if err != nil {
		return err
	}
	request, cancel, err := c.begin(ctx, permit, call)
	if err != nil {
		permit.Cancel()
		return err
	}
	defer cancel()
	c.closeSilent()
	sent := time.Now()
	var sending progress
	response, err := c.http.Do(sending.follow(request))
	if err != nil {
		lost := &TransportError{Endpoint: call.endpoint, Sent: !sending.unsent(err), Connected: sending.connected.Load(), Err: withoutURL(err)}
		c.settle(permit, sent, lost)
		return lost
	}
	defer response.Body.Close()
	err = c.read(call, response, out)
	c.settle(permit, time.Time{}, err)
	if moments, ok := out.(onClock); ok && err == nil {
		moments.translate(newClock(sent, response.Header))
	}
	return err
}

// unansweredAfter is how long a caller who leaves must have waited for his request to count as one
// without an answer in time.
const unansweredAfter = time.Second

// closeSilent closes the connections that were kept, where a request has had no answer since: they
// may have fallen silent too.
func (c *Client) closeSilent() {
	if unanswered := c.unanswered.Load(); unanswered != c.closedAfter.Load() {
		c.Close()
		c.closedAfter.Store(unanswered)
	}
}

// settle closes a pass: with what a 429 asked for, as never used, or as given up. sent is zero
// where KSeF has begun to answer.
func (c *Client) settle(permit Permit, sent time.Time, err error) {
	left := errors.Is(err, context.Canceled) && !sent.IsZero() && time.Since(sent) >= unansweredAfter
	if left || errors.Is(err, context.DeadlineExceeded) {
		c.unanswered.Add(1)
	}
	var lost *TransportError
	var refused *APIError
	switch {
	case errors.As(err, &lost) && !lost.Sent:
		permit.Cancel()
	case errors.As(err, &refused):
		permit.Done(refused.RetryAfter)
	case !sent.IsZero() && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		permit.GiveUp(sent)
	default:
		permit.Done(0)
	}
}

// read turns an answer into out, or into an error.
func (c *Client) read(call call, response *http.Response, out any) error {
	c.noteWarning(call.endpoint, response.Header)
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return decodeFailure(call.endpoint, response, body)
	}
	switch {
	case err != nil:
	case response.StatusCode != call.success:
		// Whoever answered was not KSeF: a proxy's page must not pass for a 204.
		err = errUnreadable
	case out == nil:
		return nil
	default:
		if json.Unmarshal(body, out) == nil {
			return nil
		}
		err = errUnreadable
	}
	return &TransportError{Endpoint: call.endpoint, Sent: true, Connected: true, Err: fmt.Errorf("status %d: %w", response.StatusCode, err)}
}

// begin makes the request once it may be sent.
func (c *Client) begin(ctx context.Context, permit Permit, call call) (*http.Request, context.CancelFunc, error) {
	var bearer Secret
	if call.bearer != nil {
		var err error
		if bearer, err = call.bearer(ctx); err != nil {
			return nil, nil, err
		}
	}
	if err := permit.Begin(ctx); err != nil {
		return nil, nil, err
	}
	return c.request(ctx, call, bearer)
}

func (c *Client) request(ctx context.Context, call call, bearer Secret) (*http.Request, context.CancelFunc, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	request, err := http.NewRequestWithContext(ctx, call.method, c.base+call.path, bytes.NewReader(call.body))
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("making the request for %s: %w", call.endpoint, err)
	}
	if call.method == http.MethodGet {
		// net/http would send it again by itself where a connection that it had kept breaks, past
		// the gate. It does not with a body that it cannot rewind.
		request.Body, request.GetBody = io.NopCloser(bytes.NewReader(nil)), nil
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("X-Error-Format", "problem-details")
	if c.userAgent != "" {
		request.Header.Set("User-Agent", c.userAgent)
	}
	if call.contentType != "" {
		request.Header.Set("Content-Type", call.contentType)
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer.Reveal())
	}
	for name, value := range call.header {
		request.Header.Set(name, value)
	}
	return request, cancel, nil
}

// withoutURL drops the address from net/http's error: the endpoint is named anyway, and a query may
// hold what the caller would not want in a log.
func withoutURL(err error) error {
	var addressed *url.Error
	if errors.As(err, &addressed) {
		return addressed.Err
	}
	return err
}

func (c *Client) noteWarning(endpoint string, header http.Header) {
	for _, text := range header.Values("X-System-Warning") {
		c.onWarning(Warning{Endpoint: endpoint, Text: clip(text), At: time.Now()})
	}
}

// parseRetryAfter reads the header as seconds or as a date (RFC 9110, 10.2.3). It returns 0 where
// there is none or it is not understood.
func parseRetryAfter(header http.Header) time.Duration {
	raw := header.Get("Retry-After")
	if raw == "" {
		return 0
	}
	if seconds, err := strconv.ParseInt(raw, 10, 64); err == nil {
		return min(time.Duration(max(0, min(seconds, int64(maxRetryAfter/time.Second))))*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(raw); err == nil {
		return max(0, min(time.Until(at), maxRetryAfter))
	}
	return 0
}
