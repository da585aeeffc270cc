// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// secrets are all tokens and JWTs that a simulator has returned: of leases, static roles and what
// stands behind access-token roles, refresh tokens included.
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

// secretForms find KSeF tokens and JWTs. Each begins with a text, which makes it fast.
var secretForms = []*regexp.Regexp{
	regexp.MustCompile(`\|nip-[0-9]{10}\|[0-9a-f]{16}`),
	regexp.MustCompile(`\|internalId-[0-9-]{16}\|[0-9a-f]{16}`),
	regexp.MustCompile(`eyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.`),
}

var privateKey = regexp.MustCompile(`(?s)-----BEGIN[A-Z ]* PRIVATE KEY-----(.*?)-----END`)

// secretEnd is how much of a secret is searched for: its end is random, and package bytes finds
// texts of this length much faster than longer ones.
const secretEnd = 40

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
			if bytes.Contains(content, []byte(secret[max(0, len(secret)-secretEnd):])) {
				t.Fatal(fmt.Sprintf("a secret of KSeF is in %s", file))
			}
		}
		if form := secretIn(content); form != "" {
			t.Fatal(fmt.Sprintf("%s is in %s", form, file))
		}
	}
}

// secretIn says what secret a file has, by its form; "" for none.
func secretIn(content []byte) string {
	if privateKey.Match(content) {
		return "a private key"
	}
	for _, form := range secretForms {
		if form.Match(content) {
			return "a KSeF token or a JWT"
		}
	}
	return ""
}

// requireNoneBelow searches all files of a directory for what has the form of a secret.
func requireNoneBelow(t testing.TB, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		require.Empty(t, secretIn(content), path)
		return nil
	}))
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

// TestSecretIn proves the search for secrets by their forms.
func TestSecretIn(t *testing.T) {
	t.Parallel()
	const token = "20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E|nip-5265877635|0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	const jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ0eXAiOiJDb250ZXh0VG9rZW4iLCJjaXQiOiJOaXAifQ.c2lnbmF0dXJl"
	for _, secret := range []string{token, strings.ReplaceAll(token, "nip-5265877635", "internalId-5265877635-12346"), jwt} {
		require.NotEmpty(t, secretIn([]byte("error=\""+secret+"\"")), secret)
	}
	require.Empty(t, secretIn([]byte(`reference_number=20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E nip=5265877635 access_token=hmac-sha256:0123456789abcdef`)))
}
