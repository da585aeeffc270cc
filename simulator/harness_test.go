// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"
)

const (
	nip      = "5265877635"
	otherNIP = "1111111111"
	nipXML   = "<Nip>" + nip + "</Nip>"
)

// api is a client of one simulator.
type api struct {
	t      testing.TB
	sim    *simulator.Simulator
	client *http.Client
	header http.Header // added to every request
}

func newAPI(t testing.TB, options simulator.Options) *api {
	t.Helper()
	sim, err := simulator.New(options)
	require.NoError(t, err)
	return &api{t, sim, &http.Client{Transport: contractTransport{t, sim.Transport(), exceptionsOf(options)}},
		http.Header{}}
}

// withT returns the same client for a subtest. Deviations from the OpenAPI then fail the subtest.
func (a *api) withT(t testing.TB) *api {
	transport := a.client.Transport.(contractTransport)
	transport.t = t
	return &api{t, a.sim, &http.Client{Transport: transport}, a.header}
}

// response is a response with its body decoded.
type response struct {
	status int
	header http.Header
	body   map[string]any
}

// send sends a request. The body is JSON, or XML when it is bytes.
func (a *api) send(method, path, bearer string, body any) (*http.Response, error) {
	a.t.Helper()
	var reader io.Reader
	kind := "application/json"
	switch content := body.(type) {
	case nil:
	case []byte:
		reader, kind = bytes.NewReader(content), "application/xml"
	default:
		data, err := json.Marshal(content)
		require.NoError(a.t, err)
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(a.t.Context(), method, "http://ksef.test"+path, reader)
	require.NoError(a.t, err)
	request.Header = a.header.Clone()
	if reader != nil && request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", kind)
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	return a.client.Do(request)
}

func (a *api) do(method, path, bearer string, body any) response {
	a.t.Helper()
	resp, err := a.send(method, "/v2"+path, bearer, body)
	require.NoError(a.t, err)
	defer func() { require.NoError(a.t, resp.Body.Close()) }()
	data, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	got := response{status: resp.StatusCode, header: resp.Header}
	if len(data) > 0 && bytes.HasPrefix(data, []byte("{")) {
		require.NoError(a.t, json.Unmarshal(data, &got.body))
	}
	return got
}

// want is do with the expected status.
func (a *api) want(status int, method, path, bearer string, body any) response {
	a.t.Helper()
	got := a.do(method, path, bearer, body)
	require.Equal(a.t, status, got.status, "%s %s: %v", method, path, got.body)
	return got
}

// text returns a value in the body by its path, or "".
func (b response) text(path string) string {
	var value any = b.body
	for _, key := range strings.Split(path, ".") {
		object, _ := value.(map[string]any)
		value = object[key]
	}
	text, _ := value.(string)
	return text
}

func (b response) number(path string) int {
	var value any = b.body
	for _, key := range strings.Split(path, ".") {
		object, _ := value.(map[string]any)
		value = object[key]
	}
	number, _ := value.(float64)
	return int(number)
}

// errorObject returns the only error of a response in either format, and the key of its code.
func (b response) errorObject() (map[string]any, string) {
	list, _ := b.body["errors"].([]any)
	key := "code"
	if exception, ok := b.body["exception"].(map[string]any); ok {
		list, _ = exception["exceptionDetailList"].([]any)
		key = "exceptionCode"
	}
	if len(list) != 1 {
		return nil, key
	}
	return list[0].(map[string]any), key
}

// code returns the code of an error in either format, and its details.
func (b response) code() (int, string) {
	fault, key := b.errorObject()
	code, _ := fault[key].(float64)
	return int(code), strings.Join(b.details(), " ")
}

// details returns those of an error in either format.
func (b response) details() []string {
	fault, _ := b.errorObject()
	var details []string
	found, _ := fault["details"].([]any)
	for _, detail := range found {
		details = append(details, detail.(string))
	}
	return details
}

func (a *api) refused(got response, code int, detail string) {
	a.t.Helper()
	require.Equal(a.t, http.StatusBadRequest, got.status, "%v", got.body)
	gotCode, details := got.code()
	require.Equal(a.t, code, gotCode, "%v", got.body)
	require.Contains(a.t, details, detail)
}

// credential is a certificate with its key.
type credential struct {
	key         crypto.Signer
	certificate *x509.Certificate
}

func newCredential(t testing.TB, options simulator.CertificateOptions) credential {
	t.Helper()
	certPEM, keyPEM, err := simulator.NewCertificate(options)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	return credential{pair.PrivateKey.(crypto.Signer), pair.Leaf}
}

func seal(t testing.TB) credential {
	t.Helper()
	return newCredential(t, simulator.CertificateOptions{NIP: nip})
}

func (a *api) challenge() string {
	a.t.Helper()
	return a.want(http.StatusOK, "POST", "/auth/challenge", "", nil).text("challenge")
}

// request returns a login request for the context with a new challenge.
func (a *api) request(c credential, context string) xadestest.Request {
	a.t.Helper()
	return xadestest.Request{
		Challenge: a.challenge(), Context: context, Layout: xadestest.DSS(), Key: c.key, Certificate: c.certificate,
		SigningTime: time.Now().Add(-time.Minute),
	}
}

func (a *api) sign(request xadestest.Request) []byte {
	a.t.Helper()
	document, err := xadestest.Sign(request)
	require.NoError(a.t, err)
	return document
}

// operation is a login in progress.
type operation struct{ reference, token string }

func operationOf(got response) operation {
	return operation{got.text("referenceNumber"), got.text("authenticationToken.token")}
}

func (a *api) begin(c credential, context string) operation {
	a.t.Helper()
	return operationOf(a.want(http.StatusAccepted, "POST", "/auth/xades-signature", "", a.sign(a.request(c, context))))
}

// status returns the code and the details of a login's status.
func (a *api) status(o operation) (int, string) {
	a.t.Helper()
	got := a.want(http.StatusOK, "GET", "/auth/"+o.reference, o.token, nil)
	status, _ := got.body["status"].(map[string]any)
	details, _ := status["details"].([]any)
	if len(details) == 0 {
		return got.number("status.code"), ""
	}
	return got.number("status.code"), details[0].(string)
}

// session is a login with its tokens.
type session struct{ reference, access, refresh string }

func (a *api) redeem(o operation) session {
	a.t.Helper()
	got := a.want(http.StatusOK, "POST", "/auth/token/redeem", o.token, nil)
	return session{o.reference, got.text("accessToken.token"), got.text("refreshToken.token")}
}

func (a *api) login(c credential, context string) session {
	a.t.Helper()
	return a.redeem(a.begin(c, context))
}

// issue makes a token and returns its reference number and the token.
func (a *api) issue(s session, permissions ...string) (string, string) {
	a.t.Helper()
	body := map[string]any{"permissions": permissions, "description": "Token testowy"}
	got := a.want(http.StatusAccepted, "POST", "/tokens", s.access, body)
	return got.text("referenceNumber"), got.text("token")
}

func (a *api) tokenStatus(s session, reference string) string {
	a.t.Helper()
	return a.want(http.StatusOK, "GET", "/tokens/"+reference, s.access, nil).text("status")
}
