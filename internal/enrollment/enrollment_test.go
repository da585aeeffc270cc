// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enrollment_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/enrollment/enrollmenttest"

	"github.com/stretchr/testify/require"
)

var request = enrollment.Request{KeyType: enrollment.KeyP256, Name: "Vault"}

// prepared returns an enrollment that has been prepared, and nothing else.
func prepared(t *testing.T, ksef *enrollmenttest.KSeF) *enrollment.Enrollment {
	t.Helper()
	one := &enrollment.Enrollment{Subject: enrollmenttest.Subject}
	require.NoError(t, one.Prepare(t.Context(), ksef, request))
	return one
}

func TestPrepare(t *testing.T) {
	t.Run("quota_respected", func(t *testing.T) {
		ksef := enrollmenttest.New()
		ksef.Left = 0
		one := &enrollment.Enrollment{Subject: enrollmenttest.Subject}
		var input *client.InputError
		require.ErrorAs(t, one.Prepare(t.Context(), ksef, request), &input)
		require.Contains(t, input.Error(), "0 of 10 requests in 30 days")
		require.Empty(t, one.PrivateKey, "no key is made")
		require.Equal(t, []string{client.EndpointCertificateLimits}, ksef.Requests)
	})
	t.Run("asks_for_nothing_yet", func(t *testing.T) {
		ksef := enrollmenttest.New()
		one := prepared(t, ksef)
		require.Zero(t, ksef.Count(client.EndpointEnroll))
		require.Equal(t, 10, one.Remaining)
		require.Equal(t, "Firma", one.SubjectName)
	})
	t.Run("request_names_the_subject_that_KSeF_gives", func(t *testing.T) {
		ksef := enrollmenttest.New()
		csr, err := x509.ParseCertificateRequest(prepared(t, ksef).CSR)
		require.NoError(t, err)
		require.NoError(t, csr.CheckSignature())
		var names []string
		for _, attribute := range csr.Subject.Names {
			names = append(names, fmt.Sprint(attribute.Type, "=", attribute.Value))
		}
		require.Equal(t, []string{"2.5.4.3=Firma", "2.5.4.10=Firma", "2.5.4.97=VATPL-5265877635", "2.5.4.6=PL"}, names)
	})
	t.Run("name_is_unique", func(t *testing.T) {
		ksef := enrollmenttest.New()
		first, second := prepared(t, ksef), prepared(t, ksef)
		require.NotEqual(t, first.Name, second.Name)
	})
}

func TestAsk(t *testing.T) {
	ask := func(t *testing.T, ksef *enrollmenttest.KSeF) (*enrollment.Enrollment, error) {
		t.Helper()
		one := prepared(t, ksef)
		return one, one.Ask(t.Context(), ksef)
	}
	t.Run("accepted", func(t *testing.T) {
		one, err := ask(t, enrollmenttest.New())
		require.NoError(t, err)
		require.Equal(t, "request-1", one.ReferenceNumber)
	})
	t.Run("lost_reply", func(t *testing.T) {
		ksef := enrollmenttest.New()
		ksef.After = failAt(client.EndpointEnroll, enrollmenttest.Lost(client.EndpointEnroll))
		one, err := ask(t, ksef)
		var lost *enrollment.LostReplyError
		require.ErrorAs(t, err, &lost)
		require.Equal(t, one.Name, lost.Name)
		require.Empty(t, one.ReferenceNumber)
	})
	t.Run("refused", func(t *testing.T) {
		ksef := enrollmenttest.New()
		ksef.Before = failAt(client.EndpointEnroll, enrollmenttest.Refused(client.EndpointEnroll, 25003))
		_, err := ask(t, ksef)
		var refused *enrollment.FinalError
		require.ErrorAs(t, err, &refused)
	})
	for name, cause := range map[string]error{
		"rate_limited":  &client.APIError{Endpoint: client.EndpointEnroll, Status: http.StatusTooManyRequests},
		"unauthorized":  &client.APIError{Endpoint: client.EndpointEnroll, Status: http.StatusUnauthorized},
		"not_sent":      &client.TransportError{Endpoint: client.EndpointEnroll, Err: errors.New("no route")},
		"login_is_lost": enrollmenttest.Lost("POST /auth/token/refresh"),
	} {
		t.Run("not_taken_this_time/"+name, func(t *testing.T) {
			ksef := enrollmenttest.New()
			ksef.Before = failAt(client.EndpointEnroll, cause)
			_, err := ask(t, ksef)
			require.ErrorIs(t, err, cause)
			var refused *enrollment.FinalError
			var lost *enrollment.LostReplyError
			require.False(t, errors.As(err, &refused) || errors.As(err, &lost))
		})
	}
}

func failAt(endpoint string, err error) func(string) error {
	return func(called string) error {
		if called == endpoint {
			return err
		}
		return nil
	}
}

// TestRecover is about a request whose reply was lost.
func TestRecover(t *testing.T) {
	// within runs a test some time after the request.
	within := func(name string, age time.Duration, test func(t *testing.T, ksef *enrollmenttest.KSeF, one *enrollment.Enrollment)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ksef := enrollmenttest.New()
				one := prepared(t, ksef)
				time.Sleep(age)
				test(t, ksef, one)
			})
		})
	}
	type K = enrollmenttest.KSeF
	type E = enrollment.Enrollment
	within("found_by_name", time.Minute, func(t *testing.T, ksef *K, one *E) {
		require.NoError(t, one.Ask(t.Context(), ksef))
		serial, err := one.Recover(t.Context(), ksef)
		require.NoError(t, err)
		require.Equal(t, []string{serial}, ksef.Active())
	})
	within("waits_until_it_is_settled", time.Minute, func(t *testing.T, ksef *K, one *E) {
		_, err := one.Recover(t.Context(), ksef)
		var unsettled *enrollment.UnsettledError
		require.ErrorAs(t, err, &unsettled)
		require.Equal(t, time.Minute, unsettled.Wait)
		require.Equal(t, one.Asked.Add(10*time.Minute), unsettled.Until)
	})
	within("asked_again_where_KSeF_has_not_counted_it", 11*time.Minute, func(t *testing.T, ksef *K, one *E) {
		before := *one
		serial, err := one.Recover(t.Context(), ksef)
		require.NoError(t, err)
		require.Empty(t, serial)
		require.Equal(t, before.Asked.Add(11*time.Minute), one.Asked)
		require.Equal(t, before.CSR, one.CSR, "the key stays")
		require.Zero(t, ksef.Count(client.EndpointEnroll), "the caller stores it first")
	})
	within("not_asked_again_while_KSeF_has_counted_it", 23*time.Hour, func(t *testing.T, ksef *K, one *E) {
		ksef.Left--
		_, err := one.Recover(t.Context(), ksef)
		require.ErrorContains(t, err, "KSeF has counted a request")
	})
	within("asked_again_after_a_day_all_the_same", 25*time.Hour, func(t *testing.T, ksef *K, one *E) {
		ksef.Left--
		serial, err := one.Recover(t.Context(), ksef)
		require.NoError(t, err)
		require.Empty(t, serial)
		require.Equal(t, 9, one.Remaining)
	})
	within("quota_respected", 25*time.Hour, func(t *testing.T, ksef *K, one *E) {
		ksef.Left = 0
		_, err := one.Recover(t.Context(), ksef)
		var input *client.InputError
		require.ErrorAs(t, err, &input)
	})
}

func TestAwait(t *testing.T) {
	asked := func(t *testing.T) (*enrollmenttest.KSeF, *enrollment.Enrollment) {
		t.Helper()
		ksef := enrollmenttest.New()
		one := prepared(t, ksef)
		require.NoError(t, one.Ask(t.Context(), ksef))
		return ksef, one
	}
	t.Run("issued", func(t *testing.T) {
		ksef, one := asked(t)
		serial, err := one.Await(t.Context(), ksef)
		require.NoError(t, err)
		require.Equal(t, []string{serial}, ksef.Active())
	})
	t.Run("pending", func(t *testing.T) {
		ksef, one := asked(t)
		ksef.Pending = true
		serial, err := one.Await(t.Context(), ksef)
		require.NoError(t, err)
		require.Empty(t, serial)
	})
	t.Run("rejected", func(t *testing.T) {
		ksef, one := asked(t)
		ksef.Rejected = true
		_, err := one.Await(t.Context(), ksef)
		var final *enrollment.FinalError
		var rejected *client.EnrollmentError
		require.ErrorAs(t, err, &final)
		require.ErrorAs(t, err, &rejected)
	})
	t.Run("forgotten", func(t *testing.T) {
		ksef, one := asked(t)
		one.ReferenceNumber = "another"
		_, err := one.Await(t.Context(), ksef)
		require.ErrorIs(t, err, enrollment.ErrForgotten)
	})
	t.Run("forgotten_after_30_days", func(t *testing.T) {
		ksef, one := asked(t)
		ksef.Before = failAt(client.EndpointEnrollment, &client.APIError{Endpoint: client.EndpointEnrollment, Status: http.StatusGone})
		_, err := one.Await(t.Context(), ksef)
		require.ErrorIs(t, err, enrollment.ErrForgotten)
	})
}

func TestFetch(t *testing.T) {
	fetch := func(t *testing.T, ksef *enrollmenttest.KSeF) (*enrollment.Enrollment, error) {
		t.Helper()
		one := prepared(t, ksef)
		require.NoError(t, one.Ask(t.Context(), ksef))
		return one, one.Fetch(t.Context(), ksef, ksef.Active()[0])
	}
	t.Run("certificate_of_the_key", func(t *testing.T) {
		ksef := enrollmenttest.New()
		one, err := fetch(t, ksef)
		require.NoError(t, err)
		require.Equal(t, []string{one.SerialNumber}, ksef.Active())
		require.Contains(t, one.Certificate, "BEGIN CERTIFICATE")
	})
	t.Run("another_subjects_is_revoked", func(t *testing.T) {
		ksef := enrollmenttest.New()
		ksef.Subject.OrganizationIdentifier = "VATPL-1111111111"
		one, err := fetch(t, ksef)
		var final *enrollment.FinalError
		require.ErrorAs(t, err, &final)
		require.ErrorContains(t, err, "is for Nip:1111111111, not for "+enrollmenttest.Subject)
		require.Empty(t, ksef.Active())
		require.Empty(t, one.Certificate)
	})
}

func TestRevoke(t *testing.T) {
	ksef := enrollmenttest.New()
	one := prepared(t, ksef)
	require.NoError(t, one.Ask(t.Context(), ksef))
	serial := ksef.Active()[0]
	require.NoError(t, enrollment.Revoke(t.Context(), ksef, serial))
	require.Equal(t, "Superseded", ksef.Certificates[serial].Revoked)
	require.NoError(t, enrollment.Revoke(t.Context(), ksef, serial), "revoked already")
	require.NoError(t, enrollment.Revoke(t.Context(), ksef, "0200000000000000"), "unknown to KSeF")
	ksef.Before = failAt(client.EndpointRevokeCertificate, enrollmenttest.Lost(client.EndpointRevokeCertificate))
	require.ErrorContains(t, enrollment.Revoke(t.Context(), ksef, serial), "revoking the certificate "+serial)
}

func TestIsIssued(t *testing.T) {
	ksef := enrollmenttest.New()
	one := prepared(t, ksef)
	require.NoError(t, one.Ask(t.Context(), ksef))
	serial := ksef.Active()[0]
	digest := enrollment.Digest(ksef.Certificates[serial].Issued)
	for name, test := range map[string]struct {
		serial, digest string
		want           bool
	}{
		"KSeF's":                                {serial, digest, true},
		"another issuer's with the same number": {serial, "other", false},
		"unknown to KSeF":                       {"0200000000000000", digest, false},
		"a number that KSeF does not give":      {"4711", digest, false},
	} {
		t.Run(name, func(t *testing.T) {
			issued, err := enrollment.IsIssued(t.Context(), ksef, test.serial, test.digest)
			require.NoError(t, err)
			require.Equal(t, test.want, issued)
		})
	}
}
