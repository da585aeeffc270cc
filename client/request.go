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
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// maxBody bounds what is read of one answer; the largest documented one, a page of 100 tokens,
	// is about 100 KiB.
	maxBody = 4 << 20
	// maxRetryAfter bounds a Retry-After, so that one absurd header cannot stop a mount for good.
	// Blocks of 45 minutes have been seen.
	maxRetryAfter = 24 * time.Hour
)

// call is one request.
type call struct {
	endpoint     string      // as KSeF's documentation names it: "GET /tokens/{referenceNumber}"
	parameter    string      // replaces the one in the endpoint's path
	query        url.Values  // of the address
	success      int         // the status that KSeF documents for a success
	bearer       TokenSource // nil for none
	continuation string      // asks for a later page; "" for the first
	json         any         // becomes the body; nil for none
	contentType  string
	body         []byte
}

// parameterPattern matches the parameter of an endpoint's path.
var parameterPattern = regexp.MustCompile(`\{\w+\}`)

// setIf sets a parameter of a query, unless value is zero.
func setIf[T comparable](values url.Values, name string, value T) {
	if value != *new(T) {
		values.Set(name, fmt.Sprint(value))
	}
}

func (c *call) encode() (err error) {
	if c.json == nil {
		return nil
	}
	c.contentType = "application/json"
	if c.body, err = json.Marshal(c.json); err != nil {
		return fmt.Errorf("encoding the request for %s: %w", c.endpoint, err)
	}
	return nil
}

// errUnreadable marks a success whose body was not whole or not as documented.
var errUnreadable = errors.New("the answer ended early or is not the JSON that was expected")

// unreadable is the error of a success whose body lacks what is documented.
func unreadable(endpoint string) error {
	return &TransportError{Endpoint: endpoint, Sent: true, Connected: true, Err: errUnreadable}
}

// defaultRetryAfter is the block of a 429 without a Retry-After: the window that is most likely
// full.
const defaultRetryAfter = time.Minute

// fetch makes the call and returns what KSeF answers.
func fetch[T any](ctx context.Context, c *Client, call call) (*T, error) {
	var out T
	if err := c.do(ctx, call, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// exchange sends the request, settles its permit and decodes the answer.
func (c *Client) exchange(ctx context.Context, permit Permit, call *call, request *http.Request, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.RequestTimeout)
	defer cancel()
	c.closeSilent()
	sent := time.Now()
	var sending progress
	response, err := c.http.Do(request.WithContext(sending.follow(ctx, request.Method)))
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

// unansweredAfter is how long a caller must have waited before it leaves, for its request to count
// as unanswered.
const unansweredAfter = time.Second

// closeSilent closes idle connections after an unanswered request: they may be dead too.
func (c *Client) closeSilent() {
	if unanswered := c.unanswered.Load(); unanswered != c.closedAfter.Load() {
		c.Close()
		c.closedAfter.Store(unanswered)
	}
}

// settle closes a permit: with what a 429 asked for, as never used, or as given up. sent is zero
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
func (c *Client) read(call *call, response *http.Response, out any) error {
	if c.config.OnWarning != nil {
		for _, text := range response.Header.Values("X-System-Warning") {
			c.config.OnWarning(Warning{Endpoint: call.endpoint, Text: clip(text), At: time.Now()})
		}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return decodeFailure(call.endpoint, response, body)
	}
	switch {
	case err != nil:
	case response.StatusCode != call.success:
		// The answer is not KSeF's: a proxy's page must not pass for a 204.
		err = errUnreadable
	case out == nil || json.Unmarshal(body, out) == nil:
		return nil
	default:
		err = errUnreadable
	}
	return &TransportError{Endpoint: call.endpoint, Sent: true, Connected: true, Err: fmt.Errorf("status %d: %w", response.StatusCode, err)}
}

// begin makes the request once it may be sent.
func (c *Client) begin(ctx context.Context, permit Permit, call *call, source func(context.Context) (AccessToken, error)) (request *http.Request, token AccessToken, err error) {
	if source != nil {
		if token, err = source(ctx); err != nil {
			return nil, nil, err
		}
	}
	if err := permit.Begin(ctx); err != nil {
		return nil, nil, err
	}
	request, err = c.request(ctx, call, token)
	return request, token, err
}

func (c *Client) request(ctx context.Context, call *call, token AccessToken) (*http.Request, error) {
	method, path, _ := strings.Cut(call.endpoint, " ")
	path = parameterPattern.ReplaceAllLiteralString(path, url.PathEscape(call.parameter))
	if query := call.query.Encode(); query != "" {
		path += "?" + query
	}
	request, err := http.NewRequestWithContext(ctx, method, c.config.URL+path, bytes.NewReader(call.body))
	if err != nil {
		return nil, fmt.Errorf("making the request for %s: %w", call.endpoint, err)
	}
	if method == http.MethodGet {
		// Where an idle connection breaks, net/http would send it again past the limiter, unless it
		// has a body that cannot be rewound.
		request.Body, request.GetBody = io.NopCloser(bytes.NewReader(nil)), nil
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("X-Error-Format", "problem-details")
	if c.config.UserAgent != "" {
		request.Header.Set("User-Agent", c.config.UserAgent)
	}
	if call.contentType != "" {
		request.Header.Set("Content-Type", call.contentType)
	}
	if token != nil {
		request.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	if call.continuation != "" {
		request.Header.Set("X-Continuation-Token", call.continuation)
	}
	return request, nil
}

// withoutURL drops the address from net/http's error: the endpoint is named anyway, and a query may
// hold what the caller would not want in a log.
func withoutURL(err error) error {
	if addressed, found := errors.AsType[*url.Error](err); found {
		return addressed.Err
	}
	return err
}

// parseRetryAfter reads the header as seconds or as a date (RFC 9110, 10.2.3). It returns 0 where
// there is none or it is not understood.
func parseRetryAfter(header http.Header) time.Duration {
	raw := header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(raw, 10, 64); err == nil {
		return time.Duration(max(0, min(seconds, int64(maxRetryAfter/time.Second)))) * time.Second
	}
	if at, err := http.ParseTime(raw); err == nil {
		return max(0, min(time.Until(at), maxRetryAfter))
	}
	return 0
}
