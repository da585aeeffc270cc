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
	// maxBody bounds what is read of one answer; the largest documented one, a
	// page of 100 tokens, is about 100 KiB.
	maxBody = 4 << 20
	// maxRetryAfter bounds how long a 429 may send us away, so that one absurd
	// header cannot stop a mount for good. Blocks of 45 minutes have been seen.
	maxRetryAfter = 24 * time.Hour
)

// call is one request: an endpoint as KSeF's documentation names it, the path
// with its parameters filled in, and what goes along.
type call struct {
	endpoint    string // "GET /tokens/{referenceNumber}"
	method      string
	path        string
	bearer      Secret
	header      map[string]string
	contentType string
	body        []byte
}

// errUnreadable marks a success whose body was not whole or not as documented.
var errUnreadable = errors.New("the answer ended early or is not the JSON that was expected")

// jsonCall makes a call with a JSON body.
func jsonCall(endpoint, method, path string, bearer Secret, body any) (call, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return call{}, fmt.Errorf("encoding the request for %s: %w", endpoint, err)
	}
	return call{
		endpoint: endpoint, method: method, path: path, bearer: bearer,
		contentType: "application/json", body: encoded,
	}, nil
}

// blockUnlessTold is how long a 429 without a Retry-After keeps us away: the
// window that is most likely to be full.
const blockUnlessTold = time.Minute

// do sends the call and decodes a success into out (nil: the body is ignored).
func (c *Client) do(ctx context.Context, call call, out any) error {
	pass, err := c.gate.Admit(ctx, call.endpoint)
	if err != nil {
		return err
	}
	var retryAfter time.Duration
	defer func() { pass.Done(retryAfter) }()

	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	response, err := c.send(ctx, call)
	if err != nil {
		return &TransportError{Endpoint: call.endpoint, Err: err}
	}
	defer response.Body.Close()

	c.noteWarning(call.endpoint, response.Header)
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if response.StatusCode < 200 || response.StatusCode > 299 {
		failure := decodeFailure(call.endpoint, response, body)
		retryAfter = failure.RetryAfter
		return failure
	}
	if err != nil {
		return &TransportError{Endpoint: call.endpoint, Err: err}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return &TransportError{Endpoint: call.endpoint, Err: fmt.Errorf("status %d: %w", response.StatusCode, errUnreadable)}
	}
	return nil
}

func (c *Client) send(ctx context.Context, call call) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, call.method, c.base+call.path, bytes.NewReader(call.body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("X-Error-Format", "problem-details")
	if c.userAgent != "" {
		request.Header.Set("User-Agent", c.userAgent)
	}
	if call.contentType != "" {
		request.Header.Set("Content-Type", call.contentType)
	}
	if call.bearer != "" {
		request.Header.Set("Authorization", "Bearer "+call.bearer.Reveal())
	}
	for name, value := range call.header {
		request.Header.Set(name, value)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	return response, nil
}

// withoutURL drops the address from net/http's error: the endpoint is named
// anyway, and a query may hold what the caller would not want in a log.
func withoutURL(err error) error {
	var addressed *url.Error
	if errors.As(err, &addressed) {
		return addressed.Err
	}
	return err
}

func (c *Client) noteWarning(endpoint string, header http.Header) {
	for _, text := range header.Values("X-System-Warning") {
		c.onWarning(Warning{Endpoint: endpoint, Text: text, At: time.Now()})
	}
}

// parseRetryAfter reads the header as seconds or as a date (RFC 9110, 10.2.3).
// It returns 0 where there is none or it is not understood.
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
