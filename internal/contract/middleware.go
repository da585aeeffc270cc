// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing/iotest"

	"github.com/getkin/kin-openapi/openapi3filter"
)

// Disagreement is a request or response that violates the contract.
type Disagreement struct {
	Method, Path string
	// Status is that of the response; zero if the request violates the contract.
	Status int
	Err    error
}

// Error reads "POST /v2/tokens: response 202: ..." or "...: request: ...".
func (d *Disagreement) Error() string {
	if d.Status == 0 {
		return fmt.Sprintf("%s %s: request: %v", d.Method, d.Path, d.Err)
	}
	return fmt.Sprintf("%s %s: response %d: %v", d.Method, d.Path, d.Status, d.Err)
}

func (d *Disagreement) Unwrap() error { return d.Err }

// Middleware checks each request to the API before next receives it, and each response of next, and
// reports violations as *Disagreement. It changes neither. A response that next aborts (by a panic)
// or takes over (by hijacking) is not checked. report is called from the goroutines of the
// requests.
func (c *Contract) Middleware(next http.Handler, report func(error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, c.base+"/") {
			next.ServeHTTP(w, r)
			return
		}
		disagree := func(status int, err error) {
			if err != nil {
				report(&Disagreement{Method: r.Method, Path: r.URL.Path, Status: status, Err: err})
			}
		}
		input, err := c.input(r)
		if err != nil {
			disagree(0, err)
			next.ServeHTTP(w, r)
			return
		}
		disagree(0, openapi3filter.ValidateRequest(r.Context(), input))
		recorder := &recorder{ResponseWriter: w}
		next.ServeHTTP(recorder, r)
		if !recorder.hijacked {
			recorder.begin(http.StatusOK)
			disagree(recorder.status, c.checkResponse(input, recorder))
		}
	})
}

// input finds the operation of a request, and copies the request, since the validation consumes it.
func (c *Contract) input(r *http.Request) (*openapi3filter.RequestValidationInput, error) {
	route, parameters, err := c.router.FindRoute(r)
	if err != nil {
		return nil, err
	}
	copied := r.Clone(r.Context())
	if r.Body != nil && r.Body != http.NoBody {
		body, err := io.ReadAll(r.Body)
		// The handler reads the same body, up to its original error.
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), iotest.ErrReader(cmp.Or(err, io.EOF))), r.Body}
		if err != nil {
			return nil, fmt.Errorf("reading the body: %w", err)
		}
		copied.Body, copied.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	return &openapi3filter.RequestValidationInput{
		Request: copied, Route: route, PathParams: parameters, Options: c.options,
	}, nil
}

func (c *Contract) checkResponse(input *openapi3filter.RequestValidationInput, got *recorder) error {
	// The validator accepts undocumented redirections, and bodies where none is documented.
	documented := input.Route.Operation.Responses.Status(got.status)
	if documented == nil {
		return errors.New("the status is not documented")
	}
	if len(documented.Value.Content) == 0 && got.body.Len() > 0 {
		return errors.New("it has a body, and none is documented")
	}
	response := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: got.status, Header: got.header, Options: c.options,
	}
	return openapi3filter.ValidateResponse(input.Request.Context(), response.SetBodyBytes(got.body.Bytes()))
}

// recorder forwards a response and records it.
type recorder struct {
	http.ResponseWriter
	status   int
	header   http.Header
	body     bytes.Buffer
	hijacked bool
}

func (r *recorder) WriteHeader(status int) {
	r.begin(status)
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(content []byte) (int, error) {
	r.begin(http.StatusOK)
	n, err := r.ResponseWriter.Write(content)
	r.body.Write(content[:n])
	return n, err
}

// begin records the first final status and its headers. A status below 200 precedes another, except
// for the one that switches protocols.
func (r *recorder) begin(status int) {
	if r.status != 0 || (status < http.StatusOK && status != http.StatusSwitchingProtocols) {
		return
	}
	r.status, r.header = status, r.Header().Clone()
}

// Flush flushes the connection if it can.
func (r *recorder) Flush() {
	r.begin(http.StatusOK)
	_ = http.NewResponseController(r.ResponseWriter).Flush()
}

// Hijack takes over the connection if it can.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	connection, buffer, err := http.NewResponseController(r.ResponseWriter).Hijack()
	r.hijacked = err == nil
	return connection, buffer, err
}

// Unwrap gives http.ResponseController access to the connection's other methods.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
