// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

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

// formerEntry is what a replay reads of an entry: the fields of all kinds.
type formerEntry struct {
	Since, Created, Began, Submitted, Ended, Asked time.Time

	State, Name, Step, Description, Challenge string

	Request     []byte
	Permissions []string
	Context     client.ContextIdentifier
	Certificate string
	PrivateKey  string `json:"private_key"`
	Current     *formerEntry
}

// event is what was done in KSeF at a time.
type event struct {
	at time.Time
	do func()
}

// replay does in KSeF what the former engine has done.
func (f *former) replay() {
	config := f.decode("config", f.text("config"))
	f.signer = f.Signer(simulator.CertificateOptions{NIP: NIP})
	if strings.HasPrefix(config.Certificate, "-----") {
		f.signer = f.pair(config.Certificate, config.PrivateKey)
	}
	var events []event
	for _, file := range f.archive.Files {
		if next := f.event(file.Name, f.decode(file.Name, string(file.Data))); next.do != nil {
			events = append(events, next)
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	for _, next := range events {
		f.waitUntil(next.at)
		next.do()
	}
}

func (f *former) decode(name, text string) formerEntry {
	var entry formerEntry
	if strings.HasPrefix(text, "{") && !strings.HasPrefix(name, "response ") {
		require.NoError(f.T, json.Unmarshal([]byte(text), &entry), name)
	}
	return entry
}

// event returns what has led to a file of the archive.
func (f *former) event(name string, entry formerEntry) event {
	folder, _, _ := strings.Cut(name, "/")
	_, number, _ := strings.Cut(name, " ")
	switch {
	case folder == "sessions":
		suffix := placeholderSuffix(f.text(name), "access")
		return event{entry.Since, func() { f.openSession(suffix, entry.Context) }}
	case folder == "unstored-sessions":
		taxpayer := client.ContextIdentifier{Type: client.ContextInternalID, Value: UnitID}
		return event{entry.Since, func() {
			operation, _ := f.logIn(f.signer, taxpayer)
			f.values["lost"] = operation.ReferenceNumber
		}}
	case folder == "ledger" && (entry.State == "issuing" || strings.Contains(name, "${")):
		return event{entry.Created, func() { f.makeToken(name, entry) }}
	case folder == "logins" && entry.Submitted.IsZero():
		return event{entry.Began, func() { f.values["challenge"] = f.challenge().Challenge }}
	case folder == "logins":
		return event{entry.Submitted, func() { f.submit(entry) }}
	case strings.HasPrefix(name, "enrollment "):
		return event{entry.Current.Asked, func() { f.enroll(" "+number, *entry.Current) }}
	case name == "rotation" && entry.Current.Request != nil && !f.loseEnrollment:
		return event{entry.Current.Asked, func() { f.enroll("", *entry.Current) }}
	}
	return event{}
}

// placeholderSuffix returns what follows the name of a placeholder of a kind.
func placeholderSuffix(text, kind string) string {
	_, after, _ := strings.Cut(text, "${"+kind)
	suffix, _, _ := strings.Cut(after, "}")
	return suffix
}

func (f *former) api() *client.Client {
	api, err := client.New(client.Config{URL: URL, Transport: f.Transport})
	require.NoError(f.T, err)
	return api
}

// authorized returns a client with a session of its own.
func (f *former) authorized(taxpayer client.ContextIdentifier) *client.Client {
	_, tokens := f.logIn(f.signer, taxpayer)
	return f.api().WithTokenSource(tokens.Access.Token)
}

func (f *former) challenge() *client.Challenge {
	challenge, err := f.api().Challenge(f.T.Context())
	require.NoError(f.T, err)
	return challenge
}

// beginLogin submits a login.
func (f *former) beginLogin(signer *Signer, taxpayer client.ContextIdentifier) *client.Operation {
	element := "<Nip>" + taxpayer.Value + "</Nip>"
	if taxpayer.Type == client.ContextInternalID {
		element = "<InternalId>" + taxpayer.Value + "</InternalId>"
	}
	signed := signer.SignAs(f.T, xadestest.Request{Challenge: f.challenge().Challenge, Context: element, Layout: xadestest.DSS()})
	operation, err := f.api().SubmitXAdES(f.T.Context(), []byte(signed))
	require.NoError(f.T, err)
	return operation
}

func (f *former) logIn(signer *Signer, taxpayer client.ContextIdentifier) (*client.Operation, *client.Tokens) {
	operation := f.beginLogin(signer, taxpayer)
	tokens, err := session.Complete(f.T.Context(), f.api(), operation)
	require.NoError(f.T, err)
	return operation, tokens
}

// openSession opens a session that is stored. Its login is signed with the certificate of the
// suffix, if there is one.
func (f *former) openSession(suffix string, taxpayer client.ContextIdentifier) {
	signer := f.signer
	if suffix != "" {
		asked := f.decode("", f.text("enrollment"+suffix))
		signer = f.pair(f.values["pem"+suffix], asked.Current.PrivateKey)
	}
	operation, tokens := f.logIn(signer, taxpayer)
	f.values["session"+suffix] = operation.ReferenceNumber
	f.values["access"+suffix] = tokens.Access.Token.Reveal()
	f.values["refresh"+suffix] = tokens.Refresh.Token.Reveal()
}

// submit submits an external login, which KSeF does not decide before the storage is written.
func (f *former) submit(entry formerEntry) {
	operation := f.beginLogin(f.signer, entry.Context)
	f.values["login"], f.values["operation"] = operation.ReferenceNumber, operation.Token.Token.Reveal()
}

// makeToken makes the token of a record.
func (f *former) makeToken(name string, entry formerEntry) {
	placeholder := "intent"
	if entry.State != "issuing" {
		placeholder = placeholderSuffix(name, "")
	}
	api := f.authorized(client.ContextIdentifier{Type: client.ContextNIP, Value: NIP})
	made, err := api.GenerateToken(f.T.Context(), client.TokenRequest{
		Permissions: entry.Permissions, Description: entry.Description,
	})
	require.NoError(f.T, err)
	f.Remember(made.Token.Reveal())
	f.values[placeholder] = made.ReferenceNumber
	if entry.State == "dead" {
		f.Elapse(time.Until(entry.Ended))
		require.NoError(f.T, api.RevokeToken(f.T.Context(), made.ReferenceNumber))
	}
}

// enroll asks for a certificate, and fetches it where the archive needs it.
func (f *former) enroll(suffix string, asked formerEntry) {
	ctx, api := f.T.Context(), f.authorized(client.ContextIdentifier{Type: client.ContextNIP, Value: NIP})
	reference, err := api.Enroll(ctx, client.EnrollmentRequest{Name: asked.Name, CSR: asked.Request})
	require.NoError(f.T, err)
	f.values["enrollment"+suffix] = reference
	if asked.Step == "enroll" || !strings.Contains(f.text("rotation"), "${serial"+suffix+"}") {
		return
	}
	f.Elapse(time.Second)
	decided, err := api.Enrollment(ctx, reference)
	require.NoError(f.T, err)
	certificate, err := api.RetrieveCertificate(ctx, decided.SerialNumber)
	require.NoError(f.T, err)
	encoded := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
	quoted, err := json.Marshal(encoded)
	require.NoError(f.T, err)
	fingerprint := hexSum(URL + "\ncertificateSubject\n" + encoded)
	f.values["pem"+suffix], f.values["certificate"+suffix] = encoded, strings.Trim(string(quoted), `"`)
	f.values["serial"+suffix], f.values["digest"+suffix] = decided.SerialNumber, hexSum(string(certificate.Raw))
	f.values["identity"+suffix], f.values["folder"+suffix] = fingerprint, hexSum(fingerprint)[:16]
}

func hexSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (f *former) pair(certificate, key string) *Signer {
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	require.NoError(f.T, err)
	f.Remember(key)
	return &Signer{pair}
}

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

// requireNoLogin fails the test if a login was begun since the mount has started.
func (m *upgraded) requireNoLogin() {
	m.T.Helper()
	require.Zero(m.T, m.former.sent.count(client.EndpointChallenge))
}

// deletions counts the requests to revoke a token.
func (m *upgraded) deletions(name string) int {
	return m.former.sent.count(http.MethodDelete + " /tokens/" + m.number(name))
}
