// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/externallogin"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// run runs each rule by its name, with a login of its own.
func run(t *testing.T, rules map[string]func(f *fixture)) {
	t.Helper()
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) { withFake(t, rule) })
	}
}

func TestBegin(t *testing.T) {
	run(t, map[string]func(f *fixture){
		"stores the login before it returns the document": func(f *fixture) {
			f.storage.putErr = errDisk
			begun, err := f.logins.Begin(f.Context(), taxpayer, xades.CertificateSubject)
			require.ErrorIs(f, err, errDisk)
			require.Nil(f, begun)
		},
		"binds the document to the addresses of config": func(f *fixture) {
			f.upstream.AllowedIPs = []string{ownAddress}
			require.Contains(f, string(f.begin().Document), "<Ip4Address>"+ownAddress+"</Ip4Address>")
		},
		"refuses addresses without this node's": func(f *fixture) {
			f.upstream.AllowedIPs = []string{"198.51.100.1"}
			_, err := f.logins.Begin(f.Context(), taxpayer, xades.CertificateSubject)
			require.ErrorAs(f, err, new(*session.AddressError))
			require.Empty(f, f.stored())
		},
		"deletes a login that was never submitted in time": func(f *fixture) {
			first := f.begin()
			<-time.After(10*time.Minute + time.Second)
			f.ksef.responses["POST /auth/challenge"] = challenge("B0")
			f.begin()
			require.NotContains(f, f.stored(), first.Challenge)
		},
		"keeps a login that is in progress": func(f *fixture) {
			f.inProgress()
			first := f.begun
			f.ksef.responses["POST /auth/challenge"] = challenge("B0")
			f.begin()
			require.Contains(f, f.stored(), first.Challenge)
		},
		"deletes a failed login of the same taxpayer alone": func(f *fixture) {
			f.inProgress()
			f.ksef.responses[loginState] = state(415, false)
			f.advance()
			failed := f.begun
			f.ksef.responses["POST /auth/challenge"] = challenge("B0")
			other := client.ContextIdentifier{Type: client.ContextNIP, Value: "1111111111"}
			_, err := f.logins.Begin(f.Context(), other, xades.CertificateSubject)
			require.NoError(f, err)
			require.Contains(f, f.stored(), failed.Challenge)
			f.ksef.responses["POST /auth/challenge"] = challenge("C0")
			f.begin()
			require.NotContains(f, f.stored(), failed.Challenge)
		},
		"deletes unreadable records": func(f *fixture) {
			var reported []string
			f.options.OnUnreadable = func(entry *logical.StorageEntry, _ error) { reported = append(reported, entry.Key) }
			f.restart()
			damaged := &logical.StorageEntry{Key: externallogin.StoragePrefix + "x", Value: []byte("damaged")}
			require.NoError(f, f.storage.Put(f.Context(), damaged))
			f.begin()
			require.NotContains(f, f.stored(), "damaged")
			require.Contains(f, reported, damaged.Key)
		},
	})
}

// Whatever Submit refuses is not sent.
func TestSubmitRefuses(t *testing.T) {
	replace := func(before, after string) func(f *fixture) error {
		return func(f *fixture) error {
			return f.submit(signed([]byte(strings.Replace(string(f.begin().Document), before, after, 1))))
		}
	}
	for name, test := range map[string]struct {
		submit func(f *fixture) error
		text   string
	}{
		"a challenge of another mount": {replace("-A0<", "-FF<"), "has not given out"},
		"another taxpayer":             {replace(taxpayer.Value, "1111111111"), "is for the context"},
		"another type of subject":      {replace("certificateSubject", "certificateFingerprint"), "SubjectIdentifierType"},
		"addresses that were added": {
			replace("</AuthTokenRequest>", "<AuthorizationPolicy><AllowedIps><Ip4Address>192.0.2.1</Ip4Address></AllowedIps></AuthorizationPolicy></AuthTokenRequest>"),
			"AuthorizationPolicy",
		},
		"addresses that were removed": {func(f *fixture) error {
			f.upstream.AllowedIPs = []string{ownAddress}
			begun := string(f.begin().Document)
			start, end := strings.Index(begun, "<AuthorizationPolicy>"), strings.Index(begun, "</AuthTokenRequest>")
			return f.submit(signed([]byte(begun[:start] + begun[end:])))
		}, "AuthorizationPolicy"},
		"a login from before the addresses of config changed": {func(f *fixture) error {
			begun := f.begin()
			f.upstream.AllowedIPs = []string{ownAddress}
			return f.submit(signed(begun.Document))
		}, "other addresses"},
		"a login for another environment": {func(f *fixture) error {
			begun := f.begin()
			f.upstream.API = "https://other.test/v2"
			return f.submit(signed(begun.Document))
		}, "config leads to https://other.test/v2"},
		"a challenge that has expired": {func(f *fixture) error {
			begun := f.begin()
			<-time.After(10*time.Minute + time.Second)
			return f.submit(signed(begun.Document))
		}, "came too late"},
		"a signer that may not log in": {func(f *fixture) error {
			f.options.Admit = func(context.Context, client.ContextIdentifier, *credential.Identity) error {
				return errors.New("not this one")
			}
			f.restart()
			return f.submit(signed(f.begin().Document))
		}, "not this one"},
	} {
		t.Run(name, func(t *testing.T) {
			withFake(t, func(f *fixture) {
				require.ErrorContains(f, test.submit(f), test.text)
				require.Zero(f, f.ksef.requests[submit])
			})
		})
	}
}

func TestSubmit(t *testing.T) {
	run(t, map[string]func(f *fixture){
		"is possible until the challenge expires": func(f *fixture) {
			begun := f.begin()
			<-time.After(10*time.Minute - time.Second)
			require.NoError(f, f.submit(signed(begun.Document)))
		},
		"is possible once": func(f *fixture) {
			f.inProgress()
			require.ErrorContains(f, f.submit(signed(f.begun.Document)), "already submitted")
			require.Equal(f, 1, f.ksef.requests[submit])
		},
		"is possible again after KSeF refused the document": func(f *fixture) {
			accepted := f.ksef.responses[submit]
			f.ksef.responses[submit] = refusal(400, 9105)
			require.Error(f, f.submit(signed(f.begin().Document)))
			f.ksef.responses[submit] = accepted
			require.NoError(f, f.submit(signed(f.begun.Document)))
		},
		"is possible on another node than Begin": func(f *fixture) {
			begun := f.begin()
			f.restart()
			require.NoError(f, f.submit(signed(begun.Document)))
		},
		"records the operation after its caller has left": func(f *fixture) {
			document := signed(f.begin().Document)
			ctx, cancel := context.WithCancel(f.Context())
			f.options.Storage = cancelingStorage{f.storage, cancel}
			f.restart()
			_, err := f.logins.Submit(ctx, document)
			require.NoError(f, err)
			require.Contains(f, f.stored(), reference)
		},
	})
}

// cancelingStorage cancels the caller's context right before a write.
type cancelingStorage struct {
	*failingStorage
	cancel context.CancelFunc
}

func (s cancelingStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	s.cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.failingStorage.Put(ctx, entry)
}
