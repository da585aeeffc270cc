// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// Bounds of one request: its duration and the size of a response.
const (
	requestTimeout = 30 * time.Second
	maxResponse    = 1 << 20
)

// api is a small client of KSeF's API.
type api struct {
	url    string
	client *http.Client
}

func newAPI(url, caFile string) (*api, error) {
	a := &api{strings.TrimSuffix(url, "/"), &http.Client{Timeout: requestTimeout}}
	if caFile == "" {
		return a, nil
	}
	data, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("--ca: %s has no certificate in PEM", caFile)
	}
	a.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	return a, nil
}

// call sends a request with body as JSON, unless nil, and decodes the response into a value, unless
// nil.
func (a *api) call(ctx context.Context, method, path, bearer string, body, into any) error {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		reader = bytes.NewReader(data)
	}
	//nolint:gosec // the user chooses the address
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, reader)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := a.client.Do(request) //nolint:gosec // as above
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return &statusError{method + " " + path, response.StatusCode, data}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s %s: the response is not valid: %w", method, path, err)
	}
	return nil
}

// statusError is a response without success.
type statusError struct {
	request string
	status  int
	body    []byte
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s returned %d %s: %s", e.request, e.status, http.StatusText(e.status), e.body)
}

// publicKey is PublicKeyCertificate.
type publicKey struct {
	Certificate []byte
	PublicKeyID string
	ValidFrom   time.Time
	Usage       []string
}

// publicKey fetches the newest key of a usage, and its identifier.
func (a *api) publicKey(ctx context.Context, usage string) (*rsa.PublicKey, string, error) {
	var keys []publicKey
	if err := a.call(ctx, "GET", "/security/public-key-certificates", "", nil, &keys); err != nil {
		return nil, "", err
	}
	slices.SortFunc(keys, func(a, b publicKey) int { return b.ValidFrom.Compare(a.ValidFrom) })
	for _, key := range keys {
		if !slices.Contains(key.Usage, usage) || time.Now().Before(key.ValidFrom) {
			continue
		}
		certificate, err := x509.ParseCertificate(key.Certificate)
		if err != nil {
			return nil, "", fmt.Errorf("read KSeF's public key: %w", err)
		}
		if public, ok := certificate.PublicKey.(*rsa.PublicKey); ok {
			return public, key.PublicKeyID, nil
		}
	}
	return nil, "", fmt.Errorf("KSeF has no public key of the usage %s", usage)
}
