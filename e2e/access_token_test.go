// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// jwt is what a test reads of an access token.
type jwt struct {
	text            string
	issued, expires time.Time
	taxpayer        string // a NIP or the identifier of an internal unit
}

// parseJWT reads the claims of an access token. It proves no signature.
func parseJWT(text string) (*jwt, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("a JWT has three parts, and this has %d", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, fmt.Errorf("reading the claims: %w", err)
	}
	var claims struct {
		IssuedAt          int64  `json:"iat"`
		Expires           int64  `json:"exp"`
		ContextIdentifier string `json:"civ"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil, fmt.Errorf("reading the claims: %w", err)
	}
	return &jwt{
		text: text, issued: time.Unix(claims.IssuedAt, 0), expires: time.Unix(claims.Expires, 0), taxpayer: claims.ContextIdentifier,
	}, nil
}

// invoiceQuery is a valid query, which needs InvoiceRead. It names the end of its range, so that it
// stays valid when KSeF's clock is advanced.
func invoiceQuery() string {
	now := time.Now().UTC()
	return fmt.Sprintf(`{"subjectType": "Subject1", "dateRange": {"dateType": "PermanentStorage", "from": %q, "to": %q}}`,
		now.AddDate(0, -1, 0).Format(time.RFC3339), now.Format(time.RFC3339))
}

// queryInvoices has KSeF list invoices, and returns the status.
func queryInvoices(ctx context.Context, ksefURL, accessToken string) (int, error) {
	status, _, err := sendToKSeF(ctx, http.MethodPost, ksefURL+"/invoices/query/metadata", accessToken, invoiceQuery())
	return status, err
}

// sendToKSeF sends a request under an access token, and returns the status and the body.
func sendToKSeF(ctx context.Context, method, url, accessToken, body string) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+accessToken)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// askKSeF sends a request under an access token, and prints the status and the body: ask-ksef
// ACCESS_TOKEN METHOD path [body]. The path invoices/query/metadata has a body of its own.
func askKSeF(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: ask-ksef ACCESS_TOKEN METHOD path [body]")
	}
	body := strings.Join(args[3:], " ")
	if args[2] == "invoices/query/metadata" {
		body = invoiceQuery()
	}
	status, answer, err := sendToKSeF(context.Background(), args[1], ts.Getenv("KSEF_URL")+"/"+args[2], args[0], body)
	ts.Check(err)
	_, err = fmt.Fprintf(ts.Stdout(), "HTTP %d\n%s\n", status, answer)
	ts.Check(err)
}
