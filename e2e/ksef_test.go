// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/contract"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/rogpeppe/go-internal/testscript"
)

// startKSeF starts a simulator for one script. What passes is held against
// KSeF's OpenAPI document where KSEF_CONTRACTS names its folder, and every
// secret that it hands out is noted.
func startKSeF(t *testing.T, env *testscript.Env, secrets *secrets) string {
	ksef, err := simulator.New(simulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	handler := secrets.noting(ksef.Handler())
	if folder := os.Getenv("KSEF_CONTRACTS"); folder != "" {
		document, err := contract.Load(folder)
		if err != nil {
			t.Fatal(err)
		}
		handler = document.Middleware(handler, func(err error) { t.Errorf("the exchange is not as KSeF's OpenAPI says: %v", err) })
	}
	server := httptest.NewServer(handler)
	env.Defer(server.Close)
	env.Setenv("KSEF_CONTROL", server.URL+"/simulator")
	return server.URL + "/v2"
}

// control calls the simulator's control endpoints: control METHOD path [body].
// The answer is the standard output of the next commands.
func control(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: control METHOD path [body]")
	}
	var body io.Reader
	if len(args) > 2 {
		body = strings.NewReader(args[2])
	}
	request, err := http.NewRequest(args[0], ts.Getenv("KSEF_CONTROL")+"/"+args[1], body) //nolint:noctx // bounded by the client
	ts.Check(err)
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	ts.Check(err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	ts.Check(err)
	if response.StatusCode > 299 {
		ts.Fatalf("control %v: %s: %s", args, response.Status, answer)
	}
	_, err = ts.Stdout().Write(answer)
	ts.Check(err)
}

// secrets are all tokens and JWTs that a simulator has handed out.
type secrets struct {
	mu  sync.Mutex
	all []string
}

// noting remembers what stands in each answer's fields named token.
func (s *secrets) noting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		copied := &copyingWriter{ResponseWriter: w}
		next.ServeHTTP(copied, r)
		var answer any
		if json.Unmarshal(copied.body.Bytes(), &answer) == nil {
			s.collect(answer)
		}
	})
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
				s.mu.Lock()
				s.all = append(s.all, text)
				s.mu.Unlock()
			}
			s.collect(item)
		}
	}
}

var privateKey = regexp.MustCompile(`(?s)-----BEGIN[A-Z ]* PRIVATE KEY-----(.*?)-----END`)

// mustNotBeIn searches files for the secrets, and for private keys.
func (s *secrets) mustNotBeIn(t testscript.T, files ...string) {
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
	body bytes.Buffer
}

func (w *copyingWriter) Write(p []byte) (int, error) {
	w.body.Write(p)
	return w.ResponseWriter.Write(p)
}

func (w *copyingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
