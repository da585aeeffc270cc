// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"github.com/youmark/pkcs8"
)

func TestConfigReadShowsNoSecrets(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		read := m.Must(m.Read("config", nil)).Data
		require.Equal(t, enginetest.URL, read["url"])
		require.Equal(t, enginetest.NIP, read["nip"])
		require.Equal(t, "seal", read["signer_kind"])
		require.Equal(t, enginetest.NIP, read["signer_identifier"])
		require.Equal(t, "certificateSubject", read["subject_identifier_type"])
		require.Equal(t, int64(30), read["request_timeout"])
		require.Positive(t, read["certificate_days_left"])
		for field, value := range read {
			require.NotContains(t, field, "private")
			text, _ := value.(string)
			require.NotContains(t, text, "PRIVATE KEY")
		}
	})
}

func TestConfigWriteKeepsOtherFields(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("config", map[string]any{"activation_timeout": "7s"}))
		read := m.Must(m.Read("config", nil)).Data
		require.Equal(t, int64(7), read["activation_timeout"])
		require.Equal(t, enginetest.URL, read["url"])
		require.NoError(t, m.Login(m.Issue().Data["token"]))
	})
}

// A password that comes from a file ends as its lines do.
func TestConfigPasswordWithALineEnd(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		block, _ := pem.Decode([]byte(m.Key))
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		require.NoError(t, err)
		encrypted, err := pkcs8.MarshalPrivateKey(key, []byte("sekret"), nil)
		require.NoError(t, err)
		fields := m.ConfigFields()
		fields["private_key"] = string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: encrypted}))
		fields["private_key_password"] = "sekret\n"
		m.Must(m.Write("config", fields))
		fields["private_key_password"] = "sekret\n\n"
		require.Contains(t, m.Refused(m.Write("config", fields)), "private_key_password:")
	})
}

func TestConfigDefaultContext(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Must(m.Write("config", map[string]any{"url": enginetest.URL, "certificate": m.Cert, "private_key": m.Key}))
		require.Equal(t, enginetest.NIP, m.Must(m.Read("config", nil)).Data["nip"])
	})
}

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

func TestConfigOfAnotherSignerOrOwner(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Issue()
		certificate, key := m.NewCertificate(simulator.CertificateOptions{PESEL: "90010112345"})
		response := m.Must(m.Write("config", map[string]any{"certificate": certificate, "private_key": key}))
		require.Contains(t, strings.Join(response.Warnings, " "), "only if it holds CredentialsManage")
		text := m.Refused(m.Write("config", map[string]any{"nip": "1111111111"}))
		require.Contains(t, text, "nip: would leave behind 1 live token")
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

func TestConfigGuardedByOpenTokens(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		issued := m.Issue()
		text := m.Refused(m.Write("config", map[string]any{"environment": "demo", "verify": false, "certificate": m.Cert, "private_key": m.Key}))
		require.Contains(t, text, "1 live token")
		require.Contains(t, text, "force=tokens")
		require.Contains(t, m.Refused(m.Delete("config")), "1 live token")

		response := m.Must(m.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
		require.Contains(t, strings.Join(response.Warnings, " "), "Left behind: 1 live token")
		require.Error(t, m.Revoke(m.Lease(issued)), "a lease never ends while its token lives")
		m.Configure()
		require.Eventually(t, func() bool { m.Elapse(time.Minute); return m.Revoke(m.Lease(issued)) == nil }, time.Hour, time.Second)
		m.RequireLoginRefused(issued.Data["token"])
	})
}

// warning is a KSeF that answers everything and warns of it.
type warning struct{ http.RoundTripper }

func (w warning) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := w.RoundTripper.RoundTrip(request)
	if err == nil {
		response.Header.Set("X-System-Warning", "[sig-001]: Format podpisu niezgodny")
	}
	return response, err
}

func TestConfigShowsKSeFsWarning(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		env.SetTransport(warning{env.Transport})
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		response := m.Must(m.Write("config", map[string]any{"url": enginetest.URL, "nip": enginetest.NIP, "certificate": m.Cert, "private_key": m.Key}))
		require.Contains(t, strings.Join(response.Warnings, " "), "[sig-001]: Format podpisu niezgodny")
		status := m.Must(m.Read("status", nil)).Data
		require.Equal(t, "[sig-001]: Format podpisu niezgodny", status["last_warning"])
		require.Contains(t, m.Logs.String(), "KSeF warns")
	})
}

func TestConfigShowsKSeFsRefusal(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{OwnerPermissions: []string{"InvoiceRead"}}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceWrite"}))
		text := m.Refused(m.Read("creds/writer", nil))
		require.Contains(t, text, "26001")
		require.Contains(t, text, "Nie można nadać tokenowi uprawnień")
		require.Contains(t, text, "cannot grant a permission that it does not hold")
		m.RequireEmptyLedger()
		status := m.Must(m.Read("status", nil)).Data
		require.Contains(t, status["last_error"], "26001")
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
