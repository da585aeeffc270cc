// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"sync"
)

// secrets are all tokens and JWTs that a simulator has returned.
type secrets struct {
	mu  sync.Mutex
	all []string
}

// middleware records all fields named token in responses.
func (s *secrets) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		copied := &copyingWriter{ResponseWriter: w}
		next.ServeHTTP(copied, r)
		var answer any
		if json.Unmarshal(copied.body.Bytes(), &answer) == nil {
			s.collect(answer)
			return
		}
		for _, token := range brokenToken.FindAll(copied.body.Bytes(), -1) {
			s.add(string(token))
		}
	})
}

// brokenToken finds a KSeF token, or its beginning, in a truncated response.
var brokenToken = regexp.MustCompile(`[0-9A-Z-]{36}\|[A-Za-z]+-[0-9-]+\|[0-9a-f]{16,}`)

func (s *secrets) add(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, secret)
}

func (s *secrets) collect(value any) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			s.collect(item)
		}
	case map[string]any:
		for name, item := range value {
			if text, ok := item.(string); ok && name == "token" {
				s.add(text)
			}
			s.collect(item)
		}
	}
}

var privateKey = regexp.MustCompile(`(?s)-----BEGIN[A-Z ]* PRIVATE KEY-----(.*?)-----END`)

// requireAbsent searches files for the secrets, and for private keys.
func (s *secrets) requireAbsent(t interface{ Fatal(args ...any) }, files ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, file := range files {
		content, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range s.all {
			if bytes.Contains(content, []byte(secret)) {
				t.Fatal(fmt.Sprintf("a secret of KSeF is in %s", file))
			}
		}
		if privateKey.Match(content) {
			t.Fatal(fmt.Sprintf("a private key is in %s", file))
		}
	}
}

type copyingWriter struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (w *copyingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *copyingWriter) Write(p []byte) (int, error) {
	w.body.Write(p)
	return w.ResponseWriter.Write(p)
}

func (w *copyingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
