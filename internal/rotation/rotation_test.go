// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"errors"
	"testing"
	"testing/synctest"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/enrollment/enrollmenttest"

	"github.com/stretchr/testify/require"
)

func TestRotation(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, m *mount){
		"old_is_retired_as_superseded": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			require.NoError(t, m.begin())
			m.finish()
			m.requireRotated(before)
			require.Equal(t, []string{"verify", "commit", "close", "supersede"}, m.steps)
			require.Equal(t, []string{EventBegin, EventRotate}, m.events)
		},
		"intent_is_recorded_before_KSeF_is_asked": func(t *testing.T, m *mount) {
			recorded := stored{}
			m.KSeF.Before = func(endpoint string) error {
				if endpoint == client.EndpointEnroll {
					recorded = m.recorded()
				}
				return nil
			}
			require.NoError(t, m.begin())
			require.NotNil(t, recorded.Current)
			require.Equal(t, StepEnroll, recorded.Current.Step)
			require.Equal(t, m.recorded().Current.Name, recorded.Current.Name)
			require.Equal(t, m.recorded().Current.PrivateKey, recorded.Current.PrivateKey)
		},
		"asked_again_only_once_that_is_recorded": func(t *testing.T, m *mount) {
			m.KSeF.Before = lostAt(client.EndpointEnroll)
			require.Error(t, m.begin())
			first := m.recorded().Current.Asked
			m.KSeF.Before = func(endpoint string) error {
				if endpoint == client.EndpointEnroll {
					require.True(t, m.recorded().Current.Asked.After(first))
				}
				return nil
			}
			before := m.serialInForce()
			m.finish()
			m.requireRotated(before)
			require.Equal(t, 2, m.Count(client.EndpointEnroll))
		},
		"lost_reply_is_found_by_name": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			m.KSeF.After = lostAt(client.EndpointEnroll)
			var lost *enrollment.LostReplyError
			require.ErrorAs(t, m.begin(), &lost)
			m.finish()
			m.requireRotated(before)
			require.Equal(t, 1, m.Count(client.EndpointEnroll))
		},
		"forgotten_reference_number_is_found_by_name": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			require.NoError(t, m.begin())
			m.KSeF.Before = func(endpoint string) error {
				if endpoint == client.EndpointEnrollment {
					return enrollmenttest.Refused(endpoint, client.CodeUnknownEnrollment)
				}
				return nil
			}
			m.finish()
			m.requireRotated(before)
			require.Equal(t, 1, m.Count(client.EndpointEnroll))
		},
		"quota_respected": func(t *testing.T, m *mount) {
			m.Left = 0
			var input *client.InputError
			require.ErrorAs(t, m.begin(), &input)
			require.Zero(t, m.Count(client.EndpointEnroll))
			require.Nil(t, m.recorded().Current)
		},
		"refusal_leaves_no_rotation": func(t *testing.T, m *mount) {
			m.KSeF.Before = func(endpoint string) error {
				if endpoint == client.EndpointEnroll {
					return enrollmenttest.Refused(endpoint, 25003)
				}
				return nil
			}
			var refused *enrollment.FinalError
			require.ErrorAs(t, m.begin(), &refused)
			require.Nil(t, m.recorded().Current)
			require.Equal(t, []string{EventBegin, EventFail}, m.events)
		},
		"rejection_ends_the_rotation": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			require.NoError(t, m.begin())
			m.Rejected = true
			err := m.Await(t.Context())
			var rejected *client.EnrollmentError
			require.ErrorAs(t, err, &rejected)
			require.Nil(t, m.recorded().Current)
			require.Equal(t, before, m.serialInForce())
		},
		"old_stays_until_new_has_logged_in": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			require.NoError(t, m.begin())
			m.refused = errors.New("not yet valid")
			require.NoError(t, m.Await(t.Context()))
			require.Equal(t, before, m.serialInForce())
			require.Len(t, m.Active(), 2)
			require.Equal(t, []string{"verify", "close"}, m.steps)
			state, err := m.State(t.Context())
			require.NoError(t, err)
			require.Equal(t, StepProve, state.Step)
			require.ErrorIs(t, state.Err, m.refused)
			m.refused = nil
			m.finish()
			m.requireRotated(before)
		},
		"old_that_is_in_force_again_is_not_revoked": func(t *testing.T, m *mount) {
			before := m.inForce
			require.NoError(t, m.begin())
			m.KSeF.Before = lostAt(client.EndpointRevokeCertificate)
			require.NoError(t, m.Await(t.Context()))
			m.inForce = before
			m.finish()
			require.Contains(t, m.Active(), enrollment.SerialNumber(before))
			require.Contains(t, m.recorded().Last.Warning, "is in force again")
		},
		"another_issuers_is_not_revoked": func(t *testing.T, m *mount) {
			before := m.serialInForce()
			delete(m.Certificates, before)
			require.NoError(t, m.begin())
			m.finish()
			require.Zero(t, m.Count(client.EndpointRevokeCertificate))
			require.Empty(t, m.recorded().Last.Retired)
		},
		"automatic_renews_only_KSeFs": func(t *testing.T, m *mount) {
			delete(m.Certificates, m.serialInForce())
			err := m.Begin(t.Context(), Request{Automatic: true})
			require.ErrorIs(t, err, ErrNotKSeFs)
			require.Equal(t, 1, m.recorded().Last.Failures)
			require.Zero(t, m.Count(client.EndpointEnroll))
		},
		"one_at_a_time": func(t *testing.T, m *mount) {
			require.NoError(t, m.begin())
			require.ErrorIs(t, m.begin(), ErrInProgress)
			require.Equal(t, 1, m.Count(client.EndpointEnroll))
		},
		"abandoned_names_what_stays_in_KSeF": func(t *testing.T, m *mount) {
			require.NoError(t, m.begin())
			release, err := m.Pause(t.Context())
			require.NoError(t, err)
			left, err := m.Abandon(t.Context())
			release()
			require.NoError(t, err)
			require.Contains(t, left, "If KSeF still issues the certificate \"Vault ")
			require.Nil(t, m.recorded().Current)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newMount(t)) })
		})
	}
}

func lostAt(endpoint string) func(string) error {
	return func(called string) error {
		if called == endpoint {
			return enrollmenttest.Lost(endpoint)
		}
		return nil
	}
}
