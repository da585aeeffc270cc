// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

// request is one request to the API, with its login and its fault.
type request struct {
	*http.Request
	now   time.Time
	login *store.Login // nil when the endpoint needs no bearer token
	// permissions are those of the access token, fixed when it was issued.
	permissions []string
	fault       Fault // its kind is empty when there is none
}

// clientIP returns the client's address. Headers of proxies are ignored.
func (req *request) clientIP() string {
	host, _, err := net.SplitHostPort(req.RemoteAddr)
	if err != nil {
		return req.RemoteAddr
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Unmap().String()
	}
	return host
}

// hasContentType reports whether the body has a media type.
func (req *request) hasContentType(want string) bool {
	kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	return err == nil && kind == want
}

// body reads the request body, up to one byte more than is accepted.
func (req *request) body() ([]byte, *apiError) {
	data, err := io.ReadAll(io.LimitReader(req.Body, xmltree.MaxSize+1))
	if err != nil {
		return nil, badInput("Nie udało się odczytać treści żądania.")
	}
	return data, nil
}

// decode reads a JSON body. It ignores unknown fields, as KSeF does.
func (req *request) decode(into any) *apiError {
	data, refused := req.body()
	if refused != nil {
		return refused
	}
	return parseJSON(data, into)
}

// readJSON reads a JSON body, or returns the refusal.
func (req *request) readJSON(into any) *response {
	if !req.hasContentType("application/json") {
		refused := req.unsupportedMediaType("application/json")
		return &refused
	}
	if wrong := req.decode(into); wrong != nil {
		refused := req.failed(wrong)
		return &refused
	}
	return nil
}

// decodeOptional reads an optional JSON body.
func (req *request) decodeOptional(into any) *apiError {
	data, refused := req.body()
	if refused != nil || len(data) == 0 {
		return refused
	}
	return parseJSON(data, into)
}

func parseJSON(data []byte, into any) *apiError {
	if len(data) > xmltree.MaxSize {
		return badInput("Treść żądania jest zbyt duża.")
	}
	if err := json.Unmarshal(data, into); err != nil {
		if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) && wrong.Field != "" {
			return badInput("Pole %s ma nieprawidłowy typ.", wrong.Field)
		}
		return badInput("Treść żądania nie jest poprawnym dokumentem JSON.")
	}
	return nil
}

// reference returns the reference number of the path.
func (req *request) reference() (string, *apiError) {
	reference := req.PathValue("referenceNumber")
	return reference, checkReference(reference)
}

func checkReference(reference string) *apiError {
	if !ksef.ReferencePattern.MatchString(reference) {
		return badInput("Numer referencyjny ma nieprawidłowy format.")
	}
	return nil
}

// enumValue finds the value that a text names, in any case.
func enumValue(text string, values ...string) (value string, known bool) {
	for _, value := range values {
		if strings.EqualFold(text, value) {
			return value, true
		}
	}
	return "", false
}

// bearer returns the token of the Authorization header, or "".
func (req *request) bearer() string {
	kind, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// wantsProblems reports whether the client asks for errors as problem details.
func (req *request) wantsProblems() bool {
	return strings.EqualFold(req.Header.Get("X-Error-Format"), "problem-details")
}

// apiError is an error of KSeF with its code. Its JSON form is ApiError of the OpenAPI.
type apiError struct {
	Code        int      `json:"code"`
	Description string   `json:"description"`
	Details     []string `json:"details,omitempty"`
}

// badInput is the error for every failed validation.
func badInput(format string, arguments ...any) *apiError {
	return &apiError{21405, "Błąd walidacji danych wejściowych.", []string{fmt.Sprintf(format, arguments...)}}
}
