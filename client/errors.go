// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Problem is one entry of KSeF's list of errors.
type Problem struct {
	// Code is KSeF's exception code, such as 26001.
	Code int `json:"code"`
	// Description is KSeF's text, in Polish.
	Description string `json:"description"`
	// Details are KSeF's own remarks, in Polish.
	Details []string `json:"details"`
}

func (p Problem) String() string {
	text := fmt.Sprintf("%d %s", p.Code, p.Description)
	if len(p.Details) > 0 {
		text += fmt.Sprintf(" (%s)", strings.TrimRight(joinTexts(p.Details), " ."))
	}
	return text
}

// APIError is an answer of KSeF's that is no success: a refusal, a failure, or a redirect, which
// KSeF does not document.
type APIError struct {
	Endpoint string
	// Status is the HTTP status.
	Status int
	// Problems are KSeF's codes and texts, where it gave any.
	Problems []Problem
	// Detail is the text of a problem that carries no code (401, 403, 429).
	Detail string
	// ReasonCode says why a 403 was given, such as missing-permissions.
	ReasonCode string
	// Required are the permissions any one of which KSeF asks for, and Present those that the
	// access token carries, where a 403 names them.
	Required, Present []string
	// TraceID is what KSeF's support asks for.
	TraceID string
	// RetryAfter is for how long a 429 blocks further requests: a minute where it does not say. 0
	// for other refusals.
	RetryAfter time.Duration
	// RetryAt is when that time is over.
	RetryAt time.Time
}

func (e *APIError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "KSeF %s %s with status %d", e.verb(), e.Endpoint, e.Status)
	if len(e.Problems) > 0 {
		problems := make([]string, 0, len(e.Problems))
		for _, problem := range e.Problems {
			problems = append(problems, problem.String())
		}
		fmt.Fprintf(&text, ": %s", joinTexts(problems))
	}
	if e.ReasonCode != "" {
		fmt.Fprintf(&text, ": %s", e.ReasonCode)
	}
	if e.Detail != "" && len(e.Problems) == 0 {
		fmt.Fprintf(&text, ": %s", e.Detail)
	}
	said := appendSentence(text.String(), e.Explain())
	if e.TraceID != "" {
		said += fmt.Sprintf(" [trace id %s]", e.TraceID)
	}
	return said
}

// verb says what has become of the request.
func (e *APIError) verb() string {
	switch {
	case e.Status >= http.StatusInternalServerError:
		return "failed at"
	case e.Status < http.StatusBadRequest:
		return "redirected"
	}
	return "refused"
}

// joinTexts makes one text of KSeF's, of which each may end with a full stop.
func joinTexts(texts []string) string {
	trimmed := make([]string, 0, len(texts))
	for i, text := range texts {
		if i < len(texts)-1 {
			text = strings.TrimRight(text, " .")
		}
		trimmed = append(trimmed, text)
	}
	return strings.Join(trimmed, "; ")
}

// appendSentence adds a sentence to a text of KSeF's, which may end with a full stop or not.
func appendSentence(text, sentence string) string {
	if sentence == "" {
		return text
	}
	if text = strings.TrimRight(text, " ."); !strings.HasSuffix(text, "…") && !strings.HasSuffix(text, "!") && !strings.HasSuffix(text, "?") {
		text += "."
	}
	return text + " " + sentence
}

// Has says whether KSeF gave this exception code.
func (e *APIError) Has(code int) bool {
	return slices.ContainsFunc(e.Problems, func(problem Problem) bool { return problem.Code == code })
}

// TransportError is an exchange without an answer that could be read.
type TransportError struct {
	Endpoint string
	// Sent says that the request may have reached KSeF, so that it is unknown whether KSeF has
	// acted on it. Without a connection it is false.
	Sent bool
	// Connected says that the request certainly had a connection to leave by.
	Connected bool
	Err       error
}

func (e *TransportError) Error() string {
	switch {
	case !e.Sent:
		return fmt.Sprintf("KSeF could not be reached for %s: %v", e.Endpoint, e.Err)
	case e.Connected:
		return fmt.Sprintf("KSeF's answer to %s was lost: %v", e.Endpoint, e.Err)
	}
	return fmt.Sprintf("KSeF could not be reached for %s, or its answer was lost: %v", e.Endpoint, e.Err)
}

func (e *TransportError) Unwrap() error { return e.Err }

// IsRefusal says that KSeF has answered with a 4xx: the request has had no effect. Every other
// error of a sent request leaves that open.
func IsRefusal(err error) bool {
	refused, found := errors.AsType[*APIError](err)
	return found && refused.Status >= 400 && refused.Status < 500 && refused.Status != http.StatusRequestTimeout
}

// IsFinal says that KSeF has refused, and would again.
func IsFinal(err error) bool {
	return IsRefusal(err) && !IsRateLimited(err) && !IsUnauthorized(err) && !IsAddressRefused(err)
}

// MayHaveActed says of a failed request to the endpoint that changes something whether KSeF may
// have done so: it was sent, and was not refused.
func MayHaveActed(err error, endpoint string) bool {
	if lost, found := errors.AsType[*TransportError](err); found {
		return lost.Sent && lost.Endpoint == endpoint
	}
	refused, found := errors.AsType[*APIError](err)
	return found && refused.Endpoint == endpoint && !IsRefusal(err)
}

// HasCode says that KSeF has refused with one of its exception codes.
func HasCode(err error, code int) bool {
	refused, found := errors.AsType[*APIError](err)
	return found && refused.Has(code)
}

// IsUnauthorized says that KSeF did not accept the bearer token (401).
func IsUnauthorized(err error) bool { return hasStatus(err, http.StatusUnauthorized) }

// IsAddressRefused says that KSeF has bound the access token to other addresses than that of the
// request (403 ip-not-allowed). It says nothing of rights.
func IsAddressRefused(err error) bool {
	refused, found := errors.AsType[*APIError](err)
	return found && refused.Status == http.StatusForbidden && refused.ReasonCode == reasonAddress
}

// IsRateLimited says that KSeF answered 429.
func IsRateLimited(err error) bool { return hasStatus(err, http.StatusTooManyRequests) }

func hasStatus(err error, status int) bool {
	refused, found := errors.AsType[*APIError](err)
	return found && refused.Status == status
}

// problemDetails covers the four shapes of application/problem+json that the OpenAPI names; its
// Exception and legacyLimit are the two older ones.
type problemDetails struct {
	Title      string    `json:"title"`
	Detail     string    `json:"detail"`
	ReasonCode string    `json:"reasonCode"`
	TraceID    string    `json:"traceId"`
	Errors     []Problem `json:"errors"`
	Security   struct {
		Required []string `json:"requiredAnyOfPermissions"`
		Present  []string `json:"presentPermissions"`
	} `json:"security"`

	Exception *struct {
		List []struct {
			Code        int      `json:"exceptionCode"`
			Description string   `json:"exceptionDescription"`
			Details     []string `json:"details"`
		} `json:"exceptionDetailList"`
		ServiceCode string `json:"serviceCode"`
	} `json:"exception"`
}

// legacyLimit is the older body of a 429. There, status is an object; in a problem document it is a
// number, so the two cannot share one type.
type legacyLimit struct {
	Status struct {
		Details []string `json:"details"`
	} `json:"status"`
}

// decodeFailure reads either error format. A body that is neither leaves the status alone: it is
// enough to decide by.
func decodeFailure(endpoint string, response *http.Response, body []byte) *APIError {
	failure := &APIError{Endpoint: endpoint, Status: response.StatusCode}
	if response.StatusCode == http.StatusTooManyRequests {
		failure.RetryAfter = cmp.Or(parseRetryAfter(response.Header), defaultRetryAfter)
		failure.RetryAt = time.Now().Add(failure.RetryAfter)
	}
	var limit legacyLimit
	if json.Unmarshal(body, &limit) == nil && len(limit.Status.Details) > 0 {
		failure.Detail = clip(joinTexts(limit.Status.Details))
		return failure
	}
	var details problemDetails
	if json.Unmarshal(body, &details) != nil {
		return failure
	}
	failure.Detail = clip(cmp.Or(details.Detail, details.Title))
	failure.ReasonCode = clip(details.ReasonCode)
	failure.Required, failure.Present = clipAll(details.Security.Required), clipAll(details.Security.Present)
	failure.TraceID = clip(details.TraceID)
	problems := details.Errors
	if details.Exception != nil {
		failure.TraceID = clip(cmp.Or(failure.TraceID, details.Exception.ServiceCode))
		for _, item := range details.Exception.List {
			problems = append(problems, Problem(item))
		}
	}
	for _, problem := range problems[:min(len(problems), mostItems)] {
		failure.Problems = append(failure.Problems, Problem{problem.Code, clip(problem.Description), clipAll(problem.Details)})
	}
	return failure
}

// mostItems bounds each list in an error of KSeF's.
const mostItems = 10

func clipAll(texts []string) []string {
	var clipped []string
	for _, text := range texts[:min(len(texts), mostItems)] {
		clipped = append(clipped, clip(text))
	}
	return clipped
}

// clip bounds what of KSeF's text reaches answers, logs and storage.
func clip(text string) string {
	const most = 500
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
