// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestConfigThatCannotLogInIsNotStored(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		stranger, key := env.NewCertificate(simulator.CertificateOptions{NIP: "1111111111"})
		data := map[string]any{"url": enginetest.URL, "nip": enginetest.NIP, "certificate": stranger, "private_key": key}
		text := m.Refused(m.Write("config", data))
		require.Contains(t, text, "was not stored")
		require.Contains(t, text, "415")
		require.Contains(t, text, "grant it one in KSeF")
		require.Nil(t, m.Must(m.Read("config", nil)))

		data["verify"] = false
		response := m.Must(m.Write("config", data))
		require.Contains(t, strings.Join(response.Warnings, " "), "without logging in")
		require.NotNil(t, m.Must(m.Read("config", nil)))
	})
}

func TestConfigNotStoredWhileKSeFIsUnreachable(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		env.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
		data := map[string]any{"url": enginetest.URL, "nip": enginetest.NIP, "certificate": m.Cert, "private_key": m.Key}
		_, err := m.Write("config", data)
		require.ErrorContains(t, err, "was not stored")
		require.ErrorContains(t, err, "could not be reached")
		require.Nil(t, m.Must(m.Read("config", nil)))

		data["verify"] = false
		m.Must(m.Write("config", data))
		env.KSeF.ClearFaults()
		require.NoError(t, m.Login(m.Issue().Data["token"]))
	})
}

// redirecting is what stands before KSeF and sends everybody elsewhere.
type redirecting struct{}

func (redirecting) RoundTrip(request *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusFound, Header: http.Header{"Location": {"https://login.test/"}},
		Body: io.NopCloser(strings.NewReader("<html>")), Request: request,
	}, nil
}

// A configuration of which KSeF has said nothing is not one that does not work.
func TestConfigUnasked(t *testing.T) {
	const unasked = "the configuration was not stored, because KSeF could not be asked whether it works (verify=false stores it unasked): "
	const refused = "the configuration was not stored, because it does not work: "
	status := func(status, retryAfter int) *simulator.Fault {
		return &simulator.Fault{Endpoint: "POST /auth/challenge", Kind: simulator.FaultStatus, Status: status, RetryAfter: retryAfter, Times: -1}
	}
	for name, test := range map[string]struct {
		fault *simulator.Fault // nil redirects
		// answer is the HTTP status; 0 where Vault takes an error for a 500.
		answer int
		text   []string
	}{
		"too many requests": {status(429, 12), 429, []string{unasked, "next slot at 2000-01-01T00:00:12Z, in 12 s."}},
		"error of KSeF":     {status(500, 0), 0, []string{unasked, "status 500"}},
		"maintenance":       {status(503, 0), 0, []string{unasked, "status 503"}},
		"redirect":          {nil, 0, []string{unasked, "status 302"}},
		"no connection": {
			&simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1}, 0, []string{unasked, "could not be reached"},
		},
		"bad request": {status(400, 0), 400, []string{refused, "status 400"}},
		"no right":    {status(403, 0), 400, []string{refused, "status 403"}},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
				if test.fault == nil {
					env.SetTransport(redirecting{})
				} else {
					env.Fault(*test.fault)
				}
				m := env.Mount(&logical.InmemStorage{})
				defer m.Stop()
				response, err := m.Write("config", env.ConfigFields())
				require.Equal(t, test.answer, statusOf(response, err), "%v %v", response, err)
				if response.IsError() {
					err = response.Error()
				}
				for _, text := range test.text {
					require.ErrorContains(t, err, text)
				}
				require.Nil(t, m.Must(m.Read("config", nil)))
			})
		})
	}
}

// The limits that the engine keeps by itself are answered as KSeF's own 429 is.
func TestConfigUnaskedWithoutPermit(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Fault(simulator.Fault{Endpoint: "POST /auth/challenge", Kind: simulator.FaultStatus, Status: 429, RetryAfter: 300})
		certificate, key := m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP})
		data := map[string]any{"certificate": certificate, "private_key": key}
		_, first := m.Write("config", data)
		require.ErrorContains(t, first, "in 300 s.")
		m.Elapse(time.Minute)
		sent := m.AllRequests()
		response, err := m.Write("config", data)
		require.Equal(t, http.StatusTooManyRequests, statusOf(response, err))
		require.ErrorContains(t, err, "could not be asked whether it works")
		require.ErrorContains(t, err, "KSeF's limit for POST /auth/challenge is used up, so that this request was refused; next slot at 2000-01-01T00:0")
		require.Equal(t, sent, m.AllRequests())
	})
}

// failingConfig is a storage that cannot read the configuration while failing is set.
type failingConfig struct {
	logical.Storage
	failing bool
}

func (s *failingConfig) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if s.failing && key == "config" {
		return nil, errors.New("the storage has failed")
	}
	return s.Storage.Get(ctx, key)
}

// A configuration that storage does not return at this moment must not be taken for none: its
// tokens would be stranded unasked.
func TestConfigKeptWhileStorageFails(t *testing.T) {
	for name, request := range map[string]logical.Request{
		"write":           {Operation: logical.UpdateOperation},
		"write_by_force":  {Operation: logical.UpdateOperation, Data: map[string]any{"force": "tokens,rotation,certificate", "verify": false}},
		"delete":          {Operation: logical.DeleteOperation},
		"delete_by_force": {Operation: logical.DeleteOperation, Data: map[string]any{"force": "tokens"}},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
				storage := &failingConfig{Storage: &logical.InmemStorage{}}
				m := env.Mount(storage)
				defer m.Stop()
				m.Configure()
				m.Issue()
				stored, sent := m.Stored("config"), m.AllRequests()
				request.Path, request.Storage, request.MountPoint = "config", storage, "ksef/"
				if request.Operation == logical.UpdateOperation {
					data := m.ConfigFields()
					maps.Copy(data, request.Data)
					data["request_timeout"], request.Data = "20s", data
				}
				storage.failing = true
				// Without Vault's check of existence, which reads the same entry just before.
				response, err := m.Backend.HandleRequest(t.Context(), &request)
				storage.failing = false
				require.ErrorContains(t, err, "reading the configuration: the storage has failed")
				require.Zero(t, statusOf(response, err), "Vault answers 500")
				require.Equal(t, stored, m.Stored("config"))
				require.Equal(t, sent, m.AllRequests(), "nothing is sent")
				m.Issue()
			})
		})
	}
}

func TestConfigOfAnotherSignerEndsSessions(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Cert, m.Key = m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP, Key: "rsa"})
		m.Configure()
		require.Equal(t, 1, m.OpenSessions())
		m.Must(m.Delete("config"))
		require.Equal(t, 0, m.OpenSessions())
		m.RequireNothingLeftOf("sessions/", "config")
	})
}

// The session that a login has left in its last step is ended under the configuration that stays.
func TestConfigNotStoredLeavesNoSession(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Issue()
		certificate, key := m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP})
		m.Fault(simulator.Fault{Endpoint: "POST /auth/token/redeem", Kind: simulator.FaultDropResponse, Times: 3})
		for range 3 {
			_, err := m.Write("config", map[string]any{"certificate": certificate, "private_key": key})
			require.ErrorContains(t, err, "was not stored")
		}
		require.Equal(t, 4, m.OpenSessions())
		for range 2 {
			m.Elapse(15 * time.Minute)
			m.Must(m.Read("tokens", nil))
		}
		require.Equal(t, 1, m.OpenSessions())
		m.RequireNothingLeftOf("unstored-sessions/")
	})
}

func TestConfigSettingKeepsSessions(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Issue()
		logins := m.Requests("POST /auth/xades-signature")
		m.Must(m.Write("config", map[string]any{"activation_timeout": "10s"}))
		m.Issue()
		require.Equal(t, logins, m.Requests("POST /auth/xades-signature"))
		require.Equal(t, 1, m.Requests("POST /auth/token/refresh"), "a refresh proves the session")
	})
}

func TestConfigStoreFailureIsNoMistakeOfTheUser(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		disk := &enginetest.FlakyStorage{Storage: &logical.InmemStorage{}}
		m := env.Mount(disk)
		defer m.Stop()
		m.Configure()
		certificate, key := m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP})
		disk.Fail(enginetest.StorageRefuses, "put config")
		m.Fault(simulator.Fault{Endpoint: "DELETE /auth/sessions/current", Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Times: 1})
		response, err := m.Write("config", map[string]any{"certificate": certificate, "private_key": key})
		require.ErrorContains(t, err, "may still be open")
		require.Zero(t, statusOf(response, err), "Vault answers 500")
		disk.Fail(enginetest.StorageWorks, "")
	})
}

func TestConfigIsReadAgainAfterAnUnconfirmedWrite(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{Grants: enginetest.SecondGrant()}, func(t *testing.T, env *enginetest.Env) {
		disk := &enginetest.FlakyStorage{Storage: &logical.InmemStorage{}}
		m := env.Mount(disk)
		defer m.Stop()
		m.Configure()
		m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
		disk.Fail(enginetest.StorageUnconfirmed, "put config")
		response, err := m.Write("config", map[string]any{"nip": enginetest.SecondNIP, "force": "tokens"})
		require.Error(t, err)
		require.Zero(t, statusOf(response, err), "Vault answers 500")
		require.Equal(t, enginetest.SecondNIP, m.Must(m.Read("config", nil)).Data["nip"])
		require.Equal(t, enginetest.SecondNIP, m.Issue().Data["nip"])
		m.Elapse(time.Minute)
		require.Equal(t, enginetest.SecondNIP, m.Must(m.Read("static-creds/erp", nil)).Data["nip"])
	})
}

// statusOf is the HTTP status that an answer names; 0 where it names none.
func statusOf(response *logical.Response, err error) int {
	var coded logical.HTTPCodedError
	switch {
	case errors.As(err, &coded):
		return coded.Code()
	case err == nil && response.IsError():
		return http.StatusBadRequest
	}
	return 0
}
