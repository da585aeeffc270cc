// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rights

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

var taxpayer = client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}

// grants is a KSeF that answers each question for grants alike, after a second.
type grants struct {
	answer string
	asked  int
}

func (g *grants) RoundTrip(request *http.Request) (*http.Response, error) {
	g.asked++
	select {
	case <-time.After(time.Second):
	case <-request.Context().Done():
		return nil, request.Context().Err()
	}
	recorder := httptest.NewRecorder()
	_, err := io.WriteString(recorder, g.answer)
	return recorder.Result(), err
}

// withSession tests the rights of a session whose subject is another than the taxpayer.
func withSession(t *testing.T, answer string, test func(t *testing.T, ksef *grants, signer *Signer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ksef := &grants{answer: answer}
		api, err := client.New(client.Config{URL: client.TestURL, Transport: ksef})
		require.NoError(t, err)
		sessions := session.NewManager(session.Options{
			Client: api, Storage: &logical.InmemStorage{}, ConfigFingerprint: "config", ExternalFingerprint: "external",
			API: client.TestURL, Logger: hclog.NewNullLogger(), OnLogin: func(client.ContextIdentifier, error) {},
			Learn: func(context.Context, client.ContextIdentifier, client.Secret) {},
		})
		until := time.Now().Add(time.Hour)
		require.NoError(t, sessions.Keep(t.Context(), &session.Session{
			ReferenceNumber: "login", Context: taxpayer, API: client.TestURL, Subject: "Nip:1111111111", External: true, Since: time.Now(),
			Access: client.Bearer{Token: "access", ValidUntil: until}, Refresh: client.Bearer{Token: "refresh", ValidUntil: until},
		}))
		test(t, ksef, NewSigner(sessions, func(client.ContextIdentifier) *client.Client { return api }))
	})
}

func invoices() []Role {
	return []Role{{Name: "invoices", Permissions: []string{"InvoiceRead", "InvoiceWrite"}}}
}

func granted(permissions ...string) string {
	var items []string
	for _, permission := range permissions {
		items = append(items, `{"permissionScope":"`+permission+`"}`)
	}
	return `{"permissions":[` + strings.Join(items, ",") + `],"hasMore":false}`
}

func TestWarnings(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		want   []string
	}{
		"all rights":           {granted("CredentialsManage", "InvoiceRead", "InvoiceWrite"), nil},
		"a permission lacks":   {granted("CredentialsManage", "InvoiceRead"), []string{"invoices (InvoiceWrite)"}},
		"management lacks":     {granted("InvoiceRead", "InvoiceWrite"), []string{"lacks CredentialsManage"}},
		"both lack":            {granted("InvoiceRead"), []string{"lacks CredentialsManage", "invoices (InvoiceWrite)"}},
		"more than one page":   {strings.Replace(granted("InvoiceRead"), "false", "true", 1), nil},
		"nothing is listed":    {granted(), nil},
		"the owner is listed":  {granted("InvoiceRead", "Owner"), nil},
		"not what is expected": {"<html>", nil},
	} {
		t.Run(name, func(t *testing.T) {
			withSession(t, test.answer, func(t *testing.T, _ *grants, signer *Signer) {
				warnings, err := signer.Warnings(t.Context(), taxpayer, invoices)
				require.Equal(t, test.answer == "<html>", err != nil)
				require.Len(t, warnings, len(test.want))
				for i, want := range test.want {
					require.Contains(t, warnings[i], want)
				}
			})
		})
	}
}

func TestWarnings_asksOnce(t *testing.T) {
	withSession(t, granted("InvoiceRead"), func(t *testing.T, ksef *grants, signer *Signer) {
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() {
				warnings, err := signer.Warnings(t.Context(), taxpayer, invoices)
				require.NoError(t, err)
				require.Len(t, warnings, 2)
			})
		}
		wait.Wait()
		require.Equal(t, 1, ksef.asked)
		<-time.After(Lasts + time.Second)
		_, err := signer.Warnings(t.Context(), taxpayer, invoices)
		require.NoError(t, err)
		require.Equal(t, 2, ksef.asked)
	})
}

func TestWarnings_withoutSession(t *testing.T) {
	withSession(t, granted("InvoiceRead"), func(t *testing.T, ksef *grants, signer *Signer) {
		other := client.ContextIdentifier{Type: client.ContextNIP, Value: "1111111111"}
		warnings, err := signer.Warnings(t.Context(), other, invoices)
		require.NoError(t, err)
		require.Empty(t, warnings)
		require.Zero(t, ksef.asked)
	})
}
