// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/stretchr/testify/require"
)

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
	case folder == "access-sessions":
		return event{entry.Since, func() { f.openTokenSession(placeholderSuffix(f.text(name), "access-")) }}
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
	case name == "rotation" && entry.Current != nil && entry.Current.Request != nil && !f.loseEnrollment:
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

// openTokenSession opens a session with a token, as behind an access token. What tells it apart is
// the token's number.
func (f *former) openTokenSession(token string) {
	tokens, err := f.TokenLogin(f.values["text-"+token])
	require.NoError(f.T, err)
	sessions := f.KSeF.State().Sessions
	f.values["session-"+token] = sessions[len(sessions)-1].ReferenceNumber
	f.values["access-"+token] = tokens.Access.Token.Reveal()
	f.values["refresh-"+token] = tokens.Refresh.Token.Reveal()
	fingerprint := hexSum(URL + "\n" + f.values[token] + "\n")
	f.values["fingerprint-"+token], f.values["folder-"+token] = fingerprint, hexSum(URL + "\n" + fingerprint)[:16]
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
	f.values[placeholder], f.values["text-"+placeholder] = made.ReferenceNumber, made.Token.Reveal()
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
