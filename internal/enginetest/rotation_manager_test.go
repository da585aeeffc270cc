// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/helper/automatedrotationutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/rotation"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// rotationManager is a Vault with, or without, a rotation manager.
type rotationManager struct {
	logical.StaticSystemView
	missing, old bool
	calls        []string
}

func (r *rotationManager) RegisterRotationJob(_ context.Context, job *rotation.RotationJobConfigureRequest) (string, error) {
	if r.missing {
		// As it comes across gRPC: the text alone.
		return "", errors.New("rpc: " + automatedrotationutil.ErrRotationManagerUnsupported.Error())
	}
	if r.old {
		return "", status.Error(codes.Unimplemented, "unknown method RegisterRotationJobWithResponse")
	}
	r.calls = append(r.calls, "register "+job.ReqPath+" "+job.RotationPeriod.Round(time.Second).String())
	return "job-1", nil
}

func (r *rotationManager) DeregisterRotationJob(_ context.Context, job *rotation.RotationJobDeregisterRequest) error {
	r.calls = append(r.calls, "deregister "+job.ReqPath)
	return nil
}

func TestRotationManager(t *testing.T) {
	for name, test := range map[string]struct {
		manager *rotationManager
		check   func(t *testing.T, m *Mount, manager *rotationManager)
	}{
		"Vault Enterprise": {&rotationManager{}, func(t *testing.T, m *Mount, manager *rotationManager) {
			m.Must(m.Write("config", map[string]any{"rotation_period": "720h"}))
			require.Equal(t, []string{"register config 720h0m0s"}, manager.calls)
			require.InDelta(t, (720 * time.Hour).Seconds(), m.Must(m.Read("config", nil)).Data["rotation_period"], 0)
			request := &logical.Request{Operation: logical.RotationOperation, Path: "config", Storage: m.Storage}
			m.Must(m.Backend.HandleRequest(t.Context(), request))
			require.Contains(t, m.Must(m.Read("config", nil)).Data["certificate_issuer"], "CN=TEST CCK KSeF")
			m.Must(m.Write("config", map[string]any{"rotation_period": "0"}))
			require.Equal(t, "deregister config", manager.calls[len(manager.calls)-1])
		}},
		"an older Vault": {&rotationManager{old: true}, func(t *testing.T, m *Mount, _ *rotationManager) {
			require.Contains(t, m.Refused(m.Write("config", map[string]any{"rotation_period": "720h"})), "use certificate_renew_before")
			m.Must(m.Write("config", map[string]any{"rotation_period": "720h", "disable_automated_rotation": true}))
			require.Contains(t, m.Refused(m.Write("config", map[string]any{"rotation_schedule": "0 3 * * 0"})), "mutually exclusive")
		}},
		"Vault Community": {&rotationManager{missing: true}, func(t *testing.T, m *Mount, _ *rotationManager) {
			text := m.Refused(m.Write("config", map[string]any{"rotation_schedule": "0 3 * * 0"}))
			require.Contains(t, text, "rotation manager of a current Vault Enterprise")
			require.Contains(t, text, "use certificate_renew_before")
			require.Equal(t, 1, m.OpenSessions())
			certificate, key := m.NewCertificate(simulator.CertificateOptions{NIP: NIP})
			m.Refused(m.Write("config", map[string]any{"certificate": certificate, "private_key": key, "rotation_period": "720h"}))
			require.Equal(t, 1, m.OpenSessions(), "what was logged in for nothing has been ended")
			require.NotContains(t, m.Must(m.Read("config", nil)).Data, "rotation_schedule")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
				m := env.Mount(&logical.InmemStorage{})
				defer m.Stop()
				m.Configure()
				synctest.Wait() // Setup must not meet the sending of events
				require.NoError(t, m.Backend.Setup(t.Context(), &logical.BackendConfig{
					System: test.manager, Logger: m.Backend.Logger(), EventsSender: m.Events, StorageView: m.Storage,
				}))
				test.check(t, m, test.manager)
			})
		})
	}
}
