// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// timeLayout is how KSeF writes times: seven fractional digits and a numeric zone.
const timeLayout = "2006-01-02T15:04:05.0000000-07:00"

// timestamp is a time in KSeF's JSON. A zero one is null.
type timestamp time.Time

// MarshalJSON writes the time in UTC.
func (t timestamp) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return []byte(strconv.Quote(time.Time(t).UTC().Format(timeLayout))), nil
}

// reply is an answer before it is written.
type reply struct {
	status     int
	body       any // nil for none
	problem    bool
	retryAfter int // whole seconds; 0 for none
}

// encode returns the body as JSON.
func (r reply) encode() []byte {
	if r.body == nil {
		return nil
	}
	data, err := json.Marshal(r.body)
	if err != nil {
		panic("a reply of the simulator cannot fail to marshal: " + err.Error())
	}
	return data
}

// writeHeader sends the status and the header of a reply whose body has the given length.
func (r reply) writeHeader(w http.ResponseWriter, length int) {
	header := w.Header()
	if r.body != nil {
		kind := "application/json; charset=utf-8"
		if r.problem {
			kind = "application/problem+json"
		}
		header.Set("Content-Type", kind)
		header.Set("Content-Length", strconv.Itoa(length))
	}
	if r.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(r.retryAfter))
	}
	w.WriteHeader(r.status)
}

func ok(body any) reply       { return reply{status: http.StatusOK, body: body} }
func accepted(body any) reply { return reply{status: http.StatusAccepted, body: body} }
func done() reply             { return reply{status: http.StatusOK} }
func noContent() reply        { return reply{status: http.StatusNoContent} }

// problem is the body of problem details, for all statuses.
type problem struct {
	Title      string         `json:"title"`
	Status     int            `json:"status"`
	Instance   string         `json:"instance"`
	Detail     string         `json:"detail"`
	ReasonCode string         `json:"reasonCode,omitempty"`
	Security   map[string]any `json:"security,omitempty"`
	Errors     []*apiError    `json:"errors,omitempty"`
	Timestamp  timestamp      `json:"timestamp"`
	TraceID    string         `json:"traceId"`
}

func (c *call) problem(status int, detail string) problem {
	return problem{
		Title: http.StatusText(status), Status: status, Instance: c.URL.Path, Detail: detail,
		Timestamp: timestamp(c.now), TraceID: randomHex(32),
	}
}

func (c *call) problemReply(status int, detail string) reply {
	return reply{status: status, body: c.problem(status, detail), problem: true}
}

// failed is the answer 400 with a code.
func (c *call) failed(err *apiError) reply {
	if !c.wantsProblems() {
		return reply{status: http.StatusBadRequest, body: c.exception(err)}
	}
	body := c.problem(http.StatusBadRequest, "Żądanie jest nieprawidłowe.")
	body.Errors = []*apiError{err}
	return reply{status: http.StatusBadRequest, body: body, problem: true}
}

// exceptionResponse is the older form of errors.
type exceptionResponse struct {
	Exception exceptionInfo `json:"exception"`
}

type exceptionInfo struct {
	Details     []exceptionDetail `json:"exceptionDetailList"`
	ServiceCode string            `json:"serviceCode"`
	Timestamp   string            `json:"timestamp"`
}

type exceptionDetail struct {
	Code        int      `json:"exceptionCode"`
	Description string   `json:"exceptionDescription"`
	Details     []string `json:"details,omitempty"`
}

func (c *call) exception(err *apiError) exceptionResponse {
	return exceptionResponse{exceptionInfo{
		Details:     []exceptionDetail{{err.Code, err.Description, err.Details}},
		ServiceCode: "00-" + randomHex(32) + "-" + randomHex(16) + "-00",
		Timestamp:   c.now.Format("2006-01-02T15:04:05.0000000Z"),
	}}
}

// unauthorized is the answer 401: problem details in every format, but labelled application/json,
// as TEST does (test_error_format.py of stacking-hq/ksef2). The OpenAPI has application/problem+json.
func (c *call) unauthorized() reply {
	return reply{status: http.StatusUnauthorized, body: c.problem(http.StatusUnauthorized, "Wymagane jest uwierzytelnienie.")}
}

// forbidden is the answer 403; security depends on the reason.
func (c *call) forbidden(reason, detail string, security map[string]any) reply {
	body := c.problem(http.StatusForbidden, detail)
	body.ReasonCode, body.Security = reason, security
	return reply{status: http.StatusForbidden, body: body, problem: true}
}

func (c *call) missingPermissions(required ...string) reply {
	return c.forbidden("missing-permissions", "Brak wymaganych uprawnień do wykonania operacji w bieżącym kontekście.",
		map[string]any{"requiredAnyOfPermissions": required, "presentPermissions": append([]string{}, c.permissions...)})
}

// insufficientAccess is the answer to a request for something of the context that belongs to another subject.
func (c *call) insufficientAccess() reply {
	return c.forbidden("insufficient-resource-access", "Brak dostępu do wskazanego zasobu.", nil)
}

// methodNotAllowed is the answer to a login that was not made in the way that the operation asks for.
func (c *call) methodNotAllowed() reply {
	return c.forbidden("auth-method-not-allowed", "Ta operacja nie jest dostępna dla użytej metody uwierzytelnienia.",
		map[string]any{"authenticationMethodCategory": c.login.method.info.Category})
}

// tooMany is the answer 429.
func (c *call) tooMany(detail string, retryAfter int) reply {
	if c.wantsProblems() {
		return reply{status: http.StatusTooManyRequests, body: c.problem(http.StatusTooManyRequests, detail), problem: true, retryAfter: retryAfter}
	}
	body := map[string]any{"status": statusInfo{http.StatusTooManyRequests, "Too Many Requests", []string{detail}}}
	return reply{status: http.StatusTooManyRequests, body: body, retryAfter: retryAfter}
}

func (c *call) unsupportedMediaType(want string) reply {
	return c.problemReply(http.StatusUnsupportedMediaType, "Wymagany jest Content-Type "+want+".")
}

// anyFailure is the answer of a fault with a status: the body that KSeF gives with it.
func (c *call) anyFailure(status, retryAfter int) reply {
	answer := c.failure(status, retryAfter)
	answer.retryAfter = retryAfter
	return answer
}

func (c *call) failure(status, retryAfter int) reply {
	switch status {
	case http.StatusBadRequest:
		return c.failed(badInput("Błąd wywołany w symulatorze."))
	case http.StatusUnauthorized:
		return c.unauthorized()
	case http.StatusForbidden:
		return c.forbidden("security-service-blocked", "Żądanie zostało zablokowane przez mechanizmy bezpieczeństwa.",
			map[string]any{"incidentId": randomHex(32), "clientIp": c.clientIP()})
	case http.StatusGone:
		return c.problemReply(status, "Operacja wygasła i nie jest już dostępna.")
	case http.StatusTooManyRequests:
		return c.tooMany("Przekroczono limit żądań. Spróbuj ponownie po "+strconv.Itoa(retryAfter)+" sekundach.", retryAfter)
	}
	return c.plainFailure(status, "Wystąpił nieoczekiwany błąd.")
}

// plainFailure is an answer with a status for which KSeF documents no body, and a sentence.
func (c *call) plainFailure(status int, description string) reply {
	if c.wantsProblems() {
		return c.problemReply(status, description)
	}
	return reply{status: status, body: c.exception(&apiError{Code: status, Description: description})}
}

// randomHex returns n random hexadecimal digits; n must be even.
func randomHex(n int) string {
	octets := make([]byte, n/2)
	_, _ = rand.Read(octets) // crypto/rand.Read never returns an error
	return hex.EncodeToString(octets)
}
