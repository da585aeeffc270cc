// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
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

// response is what an endpoint returns, before it is written.
type response struct {
	status     int
	body       any // nil for none
	problem    bool
	retryAfter int // whole seconds; 0 for none
}

// encode returns the body as JSON.
func (resp response) encode() []byte {
	if resp.body == nil {
		return nil
	}
	data, err := json.Marshal(resp.body)
	if err != nil {
		panic("a response of the simulator cannot fail to marshal: " + err.Error())
	}
	return data
}

// writeHeader sends the status and the header of a response whose body has the given length.
func (resp response) writeHeader(w http.ResponseWriter, length int) {
	header := w.Header()
	if resp.body != nil {
		kind := "application/json; charset=utf-8"
		if resp.problem {
			kind = "application/problem+json"
		}
		header.Set("Content-Type", kind)
		header.Set("Content-Length", strconv.Itoa(length))
	}
	if resp.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(resp.retryAfter))
	}
	w.WriteHeader(resp.status)
}

func ok(body any) response       { return response{status: http.StatusOK, body: body} }
func accepted(body any) response { return response{status: http.StatusAccepted, body: body} }
func done() response             { return response{status: http.StatusOK} }
func noContent() response        { return response{status: http.StatusNoContent} }

// problem is the body of problem details, for every status.
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

func (req *request) problem(status int, detail string) problem {
	return problem{
		Title: http.StatusText(status), Status: status, Instance: req.URL.Path, Detail: detail,
		Timestamp: timestamp(req.now), TraceID: ksef.RandomHex(32),
	}
}

func (req *request) problemResponse(status int, detail string) response {
	return response{status: status, body: req.problem(status, detail), problem: true}
}

// failed responds with 400 and a code.
func (req *request) failed(err *apiError) response {
	if !req.wantsProblems() {
		return response{status: http.StatusBadRequest, body: req.exception(err)}
	}
	body := req.problem(http.StatusBadRequest, "Żądanie jest nieprawidłowe.")
	body.Errors = []*apiError{err}
	return response{status: http.StatusBadRequest, body: body, problem: true}
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

func (req *request) exception(err *apiError) exceptionResponse {
	return exceptionResponse{exceptionInfo{
		Details:     []exceptionDetail{{err.Code, err.Description, err.Details}},
		ServiceCode: "00-" + ksef.RandomHex(32) + "-" + ksef.RandomHex(16) + "-00",
		Timestamp:   req.now.Format("2006-01-02T15:04:05.0000000Z"),
	}}
}

// unauthorized responds with 401: problem details in every format, but labelled application/json,
// as TEST does (test_error_format.py of stacking-hq/ksef2). The OpenAPI has
// application/problem+json.
func (req *request) unauthorized() response {
	return response{status: http.StatusUnauthorized,
		body: req.problem(http.StatusUnauthorized, "Wymagane jest uwierzytelnienie.")}
}

// forbidden responds with 403. security depends on the reason.
func (req *request) forbidden(reason, detail string, security map[string]any) response {
	body := req.problem(http.StatusForbidden, detail)
	body.ReasonCode, body.Security = reason, security
	return response{status: http.StatusForbidden, body: body, problem: true}
}

func (req *request) missingPermissions(required ...string) response {
	return req.forbidden("missing-permissions",
		"Brak wymaganych uprawnień do wykonania operacji w bieżącym kontekście.",
		map[string]any{"requiredAnyOfPermissions": required,
			"presentPermissions": append([]string{}, req.permissions...)})
}

// insufficientAccess refuses access to something of the context that belongs to another subject.
func (req *request) insufficientAccess() response {
	return req.forbidden("insufficient-resource-access", "Brak dostępu do wskazanego zasobu.", nil)
}

// methodNotAllowed refuses a login made with another method than the operation needs.
func (req *request) methodNotAllowed() response {
	return req.forbidden("auth-method-not-allowed", "Ta operacja nie jest dostępna dla użytej metody uwierzytelnienia.",
		map[string]any{"authenticationMethodCategory": req.login.Method.Info.Category})
}

// tooMany responds with 429.
func (req *request) tooMany(detail string, retryAfter int) response {
	if req.wantsProblems() {
		return response{status: http.StatusTooManyRequests, body: req.problem(http.StatusTooManyRequests, detail),
			problem: true, retryAfter: retryAfter}
	}
	body := map[string]any{"status": store.StatusInfo{Code: http.StatusTooManyRequests,
		Description: "Too Many Requests", Details: []string{detail}}}
	return response{status: http.StatusTooManyRequests, body: body, retryAfter: retryAfter}
}

func (req *request) unsupportedMediaType(want string) response {
	return req.problemResponse(http.StatusUnsupportedMediaType, "Wymagany jest Content-Type "+want+".")
}

// anyFailure responds with a status and the body that KSeF sends with it.
func (req *request) anyFailure(status, retryAfter int) response {
	resp := req.failure(status, retryAfter)
	resp.retryAfter = retryAfter
	return resp
}

func (req *request) failure(status, retryAfter int) response {
	switch status {
	case http.StatusBadRequest:
		return req.failed(badInput("Błąd wywołany w symulatorze."))
	case http.StatusUnauthorized:
		return req.unauthorized()
	case http.StatusForbidden:
		return req.forbidden("security-service-blocked", "Żądanie zostało zablokowane przez mechanizmy bezpieczeństwa.",
			map[string]any{"incidentId": ksef.RandomHex(32), "clientIp": req.clientIP()})
	case http.StatusGone:
		return req.problemResponse(status, "Operacja wygasła i nie jest już dostępna.")
	case http.StatusTooManyRequests:
		return req.tooMany("Przekroczono limit żądań. Spróbuj ponownie po "+strconv.Itoa(retryAfter)+" sekundach.",
			retryAfter)
	}
	return req.plainFailure(status, "Wystąpił nieoczekiwany błąd.")
}

// plainFailure responds with a sentence and a status for which KSeF documents no body.
func (req *request) plainFailure(status int, description string) response {
	if req.wantsProblems() {
		return req.problemResponse(status, description)
	}
	return response{status: status, body: req.exception(&apiError{Code: status, Description: description})}
}
