// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"
)

// former is a storage that an earlier version of the engine has written, and a KSeF as it was then.
//
// The entries are literal, in an archive of testdata/upgrade. They were written in a bubble, whose
// clock always starts at the same time, so that their times hold here too. Placeholders such as
// ${access} stand for what KSeF chooses. Besides entries an archive has leases as Vault stores
// them, responses to reads, and requests for certificates.
type former struct {
	*Env
	archive *txtar.Archive
	storage logical.Storage
	values  map[string]string // of placeholders
	signer  *Signer
	sent    *sentRequests
	// loseEnrollment says that KSeF has not received the request for a certificate.
	loseEnrollment bool
	// beforeStart is called when KSeF is as it was and the mount has not started; nil for nothing.
	beforeStart func()
}

// upgraded is a mount on a former storage.
type upgraded struct {
	*Mount
	former *former
}

// inFormer runs a test in a bubble on what an archive holds, before the mount starts.
func inFormer(t *testing.T, name string, options simulator.Options, test func(t *testing.T, f *former)) {
	t.Helper()
	InEnv(t, options, func(t *testing.T, env *Env) {
		archive, err := txtar.ParseFile(filepath.Join("testdata", "upgrade", name+".txt"))
		require.NoError(t, err)
		f := &former{Env: env, archive: archive, storage: &logical.InmemStorage{}, values: make(map[string]string)}
		f.sent = &sentRequests{ksef: env.Transport, counts: make(map[string]int)}
		env.SetTransport(f.sent)
		test(t, f)
	})
}

// afterUpgrade runs a test on a mount that has started on what an archive holds.
func afterUpgrade(t *testing.T, name string, test func(t *testing.T, m *upgraded)) {
	t.Helper()
	inFormer(t, name, simulator.Options{}, func(t *testing.T, f *former) {
		m := f.start()
		defer m.Stop()
		test(t, m)
	})
}

// sentRequests counts the requests to KSeF by method and path.
type sentRequests struct {
	ksef   http.RoundTripper
	mu     sync.Mutex
	counts map[string]int
}

// RoundTrip implements http.RoundTripper.
func (s *sentRequests) RoundTrip(request *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.counts[request.Method+" "+strings.TrimPrefix(request.URL.Path, "/v2")]++
	s.mu.Unlock()
	return s.ksef.RoundTrip(request)
}

func (s *sentRequests) count(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[request]
}

func (s *sentRequests) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.counts)
}

// start brings KSeF to where it was, stores the entries at the time at which they were written, and
// starts a mount on them.
func (f *former) start() *upgraded {
	f.replay()
	_, at, found := strings.Cut(strings.TrimSpace(string(f.archive.Comment)), " at ")
	require.True(f.T, found)
	written, err := time.Parse(time.RFC3339, strings.TrimSuffix(at, "."))
	require.NoError(f.T, err)
	f.waitUntil(written)
	m := f.NewMount(f.storage)
	for _, file := range f.archive.Files {
		if isEntry(file.Name) {
			m.Put(f.fill(file.Name), []byte(f.fill(strings.TrimSpace(string(file.Data)))))
		}
	}
	f.sent.reset()
	if f.beforeStart != nil {
		f.beforeStart()
	}
	m.Start()
	return &upgraded{Mount: m, former: f}
}

func isEntry(name string) bool {
	kind, _, _ := strings.Cut(name, " ")
	return !slices.Contains([]string{"lease", "response", "enrollment"}, kind)
}

// fill replaces placeholders.
func (f *former) fill(text string) string {
	var pairs []string
	for name, value := range f.values {
		pairs = append(pairs, "${"+name+"}", value)
	}
	filled := strings.NewReplacer(pairs...).Replace(text)
	require.NotContains(f.T, filled, "${")
	return filled
}

// text returns a file of the archive as it is there.
func (f *former) text(name string) string {
	for _, file := range f.archive.Files {
		if file.Name == name {
			return string(file.Data)
		}
	}
	require.Fail(f.T, "the archive has no "+name)
	return ""
}

func (f *former) waitUntil(at time.Time) { f.Elapse(time.Until(at)) }

// number returns the reference number that stands for a placeholder.
func (m *upgraded) number(name string) string {
	require.Contains(m.T, m.former.values, name)
	return m.former.values[name]
}

// lease returns a lease as Vault has stored it.
func (m *upgraded) lease(name string) *logical.Secret {
	entry := logical.StorageEntry{Value: []byte(m.former.fill(m.former.text("lease " + name)))}
	var secret logical.Secret
	require.NoError(m.T, entry.DecodeJSON(&secret))
	secret.IssueTime = time.Now().Add(-time.Minute)
	return &secret
}

// requireResponse reads a path and compares the response with the former one.
func (m *upgraded) requireResponse(path string) {
	m.T.Helper()
	require.JSONEq(m.T, m.former.fill(m.former.text("response "+path)), toJSON(m.T, m.Must(m.Read(m.former.fill(path), nil)).Data))
}

func toJSON(t TB, value any) string {
	encoded, err := json.Marshal(value)
	require.NoError(t, err)
	return string(encoded)
}

func decodeList(t require.TestingT, text string) (list []map[string]any) {
	require.NoError(t, json.Unmarshal([]byte(text), &list))
	return list
}

// requireNoLogin fails the test if a login was begun since the mount has started.
func (m *upgraded) requireNoLogin() {
	m.T.Helper()
	require.Zero(m.T, m.former.sent.count(client.EndpointChallenge))
}

// deletions counts the requests to revoke a token.
func (m *upgraded) deletions(name string) int {
	return m.former.sent.count(http.MethodDelete + " /tokens/" + m.number(name))
}

// field returns a field of a file, as it is there.
func (f *former) field(name, field string) any { return f.fields(name, f.text(name))[field] }

func (f *former) fields(name, text string) map[string]any {
	var fields map[string]any
	require.NoError(f.T, json.Unmarshal([]byte(text), &fields), name)
	return fields
}

// requireKept fails the test if the engine has not rewritten an entry, or has changed other fields
// than these.
func (m *upgraded) requireKept(name string, changed ...string) {
	m.T.Helper()
	before := m.former.fields(name, m.former.fill(m.former.text(name)))
	after := m.former.fields(name, m.Stored(m.former.fill(name)))
	for _, field := range changed {
		require.Contains(m.T, after, field)
		require.NotEqual(m.T, before[field], after[field])
		delete(before, field)
		delete(after, field)
	}
	require.Equal(m.T, before, after)
}
