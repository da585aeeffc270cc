// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// The scenarios of the official Java client's integration tests (CIRFMF/ksef-client-java), each
// under the name of its class and test. tooManyRequestTest sends an invoice and is left out.

func TestAuthorizationIntegrationTest(t *testing.T) {
	t.Run("refreshTokenE2EIntegrationTest", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer := o.nip()
		s := o.authWith(taxpayer, newCredential(t, simulator.CertificateOptions{NIP: taxpayer, Key: "ec"}))
		o.sim.Advance(time.Second) // within one second KSeF gives the same token again (ksef-api issue 385)
		refreshed := o.want(http.StatusOK, "POST", "/auth/token/refresh", s.refresh, nil).text("accessToken.token")
		require.NotEmpty(t, refreshed)
		require.NotEqual(t, s.access, refreshed)
	})
	for name, key := range map[string]string{"authorizeByKSeFCertificateWithECDSaEncoding": "ec",
		"authorizeByKSeFCertificateWithRSaEncoding": "rsa"} {
		t.Run(name, func(t *testing.T) {
			o := newOfficial(t)
			taxpayer := o.nip()
			s := o.auth(taxpayer, taxpayer)
			issued, _ := o.enrollAndRetrieve(s, key)
			require.NotEmpty(t, o.authWith(taxpayer, issued).access)
		})
	}
}

func TestKsefTokenIntegrationTest(t *testing.T) {
	t.Run("checkGenerateTokenTest", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer := o.nip()
		s := o.auth(taxpayer, taxpayer)
		var references []string
		for range 3 {
			reference, token := o.issue(s, "InvoiceRead", "InvoiceWrite", "CredentialsRead")
			require.NotEmpty(t, token)
			references = append(references, reference)
		}
		o.awaitToken(s, references[0], "Active")
		active := func() int {
			return len(o.want(http.StatusOK, "GET", "/tokens?status=Active&pageSize=10", s.access, nil).list("tokens"))
		}
		require.Equal(t, 3, active())
		o.want(http.StatusNoContent, "DELETE", "/tokens/"+references[0], s.access, nil)
		o.awaitToken(s, references[0], "Revoked")
		require.Equal(t, 2, active())
	})
	t.Run("tokenTest", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer := o.nip()
		_, token := o.issue(o.auth(taxpayer, taxpayer), "InvoiceRead", "InvoiceWrite")
		begun, code := o.authWithToken(taxpayer, token) // at once, while the token is Pending
		require.Equal(t, http.StatusOK, code)
		require.NotEmpty(t, o.redeem(begun).access)
	})
}

func (o official) awaitToken(s session, reference, status string) {
	o.t.Helper()
	o.await(10*time.Second, func() bool { return o.tokenStatus(s, reference) == status })
}

func TestSessionIntegrationTest(t *testing.T) {
	t.Run("createSessionSearchSessionAndRevokeCurrentSession", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer := o.nip()
		s := o.auth(taxpayer, taxpayer)
		o.openFA2(s)
		references, current := o.activeSessions(s)
		require.Equal(t, []string{s.reference}, references)
		require.Equal(t, s.reference, current)
		o.want(http.StatusNoContent, "DELETE", "/auth/sessions/current", s.access, nil)
		references, _ = o.activeSessions(s)
		require.Empty(t, references)
		got := o.want(http.StatusBadRequest, "POST", "/auth/token/refresh", s.refresh, nil)
		fault, _ := got.errorObject()
		require.Equal(t, map[string]any{
			"code": 21301.0, "description": "Brak autoryzacji.",
			"details": []any{"Status uwierzytelnienia (425) nie pozwala na odświeżenie tokenu dostępowego."},
		}, fault)
	})
	t.Run("createSecondSessionAndRevokeSessionByReferenceNumber", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer := o.nip()
		first := o.auth(taxpayer, taxpayer)
		o.openFA2(first)
		references, _ := o.activeSessions(first)
		require.Equal(t, []string{first.reference}, references)
		second := o.auth(taxpayer, taxpayer)
		references, current := o.activeSessions(first)
		require.ElementsMatch(t, []string{first.reference, second.reference}, references)
		require.Equal(t, first.reference, current)
		o.want(http.StatusNoContent, "DELETE", "/auth/sessions/"+second.reference, first.access, nil)
		references, _ = o.activeSessions(first)
		require.Equal(t, []string{first.reference}, references)
		o.want(http.StatusBadRequest, "POST", "/auth/token/refresh", second.refresh, nil)
	})
	t.Run("searchSessionsByStatuses", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer := o.nip()
		first, second := o.auth(taxpayer, taxpayer), o.auth(taxpayer, taxpayer)
		open, closed := o.openFA2(first), o.openFA2(second)
		o.want(http.StatusNoContent, "POST", "/sessions/online/"+closed+"/close", first.access, nil)
		got := o.want(http.StatusOK, "GET",
			"/sessions?sessionType=Online&statuses=InProgress&statuses=Cancelled&pageSize=10", first.access, nil)
		status := map[string]any{}
		for _, item := range got.list("sessions") {
			found := item["status"].(map[string]any)
			status[item["referenceNumber"].(string)] = []any{found["code"], found["description"]}
		}
		require.Equal(t, map[string]any{
			open:   []any{100.0, "Sesja interaktywna otwarta"},
			closed: []any{440.0, "Sesja anulowana"},
		}, status)
	})
	t.Run("searchSessions", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer := o.nip()
		s := o.auth(taxpayer, taxpayer)
		o.openFA2(s)
		got := o.want(http.StatusOK, "GET", "/sessions?sessionType=Online&statuses=InProgress&pageSize=10", s.access,
			nil)
		require.Len(t, got.list("sessions"), 1)
	})
}

func TestCertificateIntegrationTest(t *testing.T) {
	t.Run("certificateE2EIntegrationTest", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer, delegate := o.nip(), o.nip()
		o.operation(o.auth(taxpayer, taxpayer), "POST", "/permissions/persons/grants",
			personGrant(identifier("Nip", delegate), "CredentialsManage"))
		s := o.auth(taxpayer, delegate)
		require.Equal(t, true, o.want(http.StatusOK, "GET", "/certificates/limits", s.access, nil).body["canRequest"])
		_, serial := o.enrollAndRetrieve(s, "rsa")
		o.want(http.StatusNoContent, "POST", "/certificates/"+serial+"/revoke", s.access,
			map[string]any{"revocationReason": "KeyCompromise"})
		require.Equal(t, serial,
			o.query(s, "?pageSize=10&pageOffset=0",
				map[string]any{}).list("certificates")[0]["certificateSerialNumber"])
	})
}

func TestSubjectLimitIntegrationTest(t *testing.T) {
	t.Run("subjectLimitE2EIntegrationTest", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer := o.nip()
		s := o.auth(taxpayer, taxpayer)
		limits := func() (certificates, enrollments int) {
			got := o.want(http.StatusOK, "GET", "/limits/subject", s.access, nil)
			return got.number("certificate.maxCertificates"), got.number("enrollment.maxEnrollments")
		}
		o.want(http.StatusOK, "POST", "/testdata/limits/subject/certificate", s.access, map[string]any{
			"subjectIdentifierType": "Nip",
			"certificate":           map[string]int{"maxCertificates": 15},
			"enrollment":            map[string]int{"maxEnrollments": 15},
		})
		certificates, enrollments := limits()
		require.Equal(t, []int{15, 15}, []int{certificates, enrollments})
		o.want(http.StatusOK, "DELETE", "/testdata/limits/subject/certificate", s.access, nil)
		certificates, enrollments = limits()
		require.Equal(t, []int{100, 300}, []int{certificates, enrollments})
	})
}
