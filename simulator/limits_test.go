// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func invoiceLimits(size, sizeWithAttachment, invoices float64) map[string]any {
	return map[string]any{
		"maxInvoiceSizeInMB": size, "maxInvoiceWithAttachmentSizeInMB": sizeWithAttachment, "maxInvoices": invoices,
	}
}

func TestLimitsContext(t *testing.T) {
	const path = "/testdata/limits/context/session"
	a := newAPI(t, simulator.Options{})
	s, unit := a.login(seal(t), nipXML), a.login(seal(t), "<InternalId>5265877635-12346</InternalId>")
	standard := map[string]any{
		"onlineSession": invoiceLimits(1, 3, 10000), "batchSession": invoiceLimits(1, 3, 10000),
		"collectiveIdentifier": map[string]any{"maxInvoices": 500.0},
	}
	shown := func(s session) map[string]any {
		return a.want(http.StatusOK, "GET", "/limits/context", s.access, nil).body
	}
	require.Equal(t, standard, shown(s))

	// ContextLimitIntegrationTest (CIRFMF/ksef-client-java).
	changed := map[string]any{
		"onlineSession": invoiceLimits(4, 5, 6), "batchSession": invoiceLimits(4, 5, 6),
		"collectiveIdentifier": map[string]any{"maxInvoices": 6.0},
	}
	a.want(http.StatusOK, "POST", path, s.access, changed)
	require.Equal(t, changed, shown(s))
	require.Equal(t, standard, shown(unit))
	a.want(http.StatusOK, "DELETE", path, s.access, nil)
	require.Equal(t, standard, shown(s))

	older := map[string]any{"onlineSession": invoiceLimits(0, 0, 0), "batchSession": invoiceLimits(5, 10, 100000)}
	a.want(http.StatusOK, "POST", path, s.access, older)
	older["collectiveIdentifier"] = map[string]any{"maxInvoices": 500.0}
	require.Equal(t, older, shown(s))

	wrong := map[string]any{"batchSession": invoiceLimits(6, 11, 100001),
		"collectiveIdentifier": map[string]any{"maxInvoices": -1}}
	code, details := a.want(http.StatusBadRequest, "POST", path, s.access, wrong).code()
	require.Equal(t, 21405, code)
	require.Equal(t, strings.Join([]string{
		"'onlineSession' must not be empty.",
		"'batchSession.maxInvoiceSizeInMB' must be between 0 and 5. You entered 6.",
		"'batchSession.maxInvoiceWithAttachmentSizeInMB' must be between 0 and 10. You entered 11.",
		"'batchSession.maxInvoices' must be between 0 and 100000. You entered 100001.",
		"'collectiveIdentifier.maxInvoices' must be between 0 and 100000. You entered -1.",
	}, " "), details)
	require.Equal(t, older, shown(s))
	a.sim.Reset()
	require.Equal(t, standard, shown(a.login(seal(t), nipXML)))
}

func subjectLimits(enrollments, certificates float64) map[string]any {
	return map[string]any{
		"enrollment":  map[string]any{"maxEnrollments": enrollments},
		"certificate": map[string]any{"maxCertificates": certificates},
	}
}

func TestLimitsSubject(t *testing.T) {
	const path = "/testdata/limits/subject/certificate"
	shown := func(a *api, s session) map[string]any {
		return a.want(http.StatusOK, "GET", "/limits/subject", s.access, nil).body
	}
	t.Run("change and are reset", func(t *testing.T) { // SubjectLimitIntegrationTest (CIRFMF/ksef-client-java)
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		require.Equal(t, subjectLimits(300, 100), shown(a, s))
		request := subjectLimits(15, 15)
		request["subjectIdentifierType"] = "Nip"
		a.want(http.StatusOK, "POST", path, s.access, request)
		require.Equal(t, subjectLimits(15, 15), shown(a, s))
		require.Equal(t, 15, a.want(http.StatusOK, "GET", "/certificates/limits", s.access,
			nil).number("enrollment.limit"))
		a.want(http.StatusOK, "DELETE", path, s.access, nil)
		require.Equal(t, subjectLimits(300, 100), shown(a, s))
	})
	t.Run("belong to the subject in every context", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		person := newCredential(t, simulator.CertificateOptions{PESEL: pesel})
		here, there := a.login(person, nipXML), a.login(person, "<Nip>"+otherNIP+"</Nip>")
		require.Equal(t, subjectLimits(12, 6), shown(a, here))
		a.want(http.StatusOK, "POST", path, here.access, subjectLimits(3, 2))
		require.Equal(t, subjectLimits(3, 2), shown(a, there))
		require.Equal(t, subjectLimits(300, 100), shown(a, a.login(seal(t), nipXML)))
	})
	t.Run("bound certificates", func(t *testing.T) {
		a := newAPI(t, withoutRateLimits())
		s := a.login(seal(t), nipXML)
		a.want(http.StatusOK, "POST", path, s.access,
			map[string]any{"certificate": map[string]any{"maxCertificates": 1}})
		require.Equal(t, subjectLimits(300, 1), shown(a, s))
		a.newCertificate(s, "Offline")
		a.refused(a.do("POST", "/certificates/enrollments", s.access, a.enrollment(s, "Offline", newECKey(t))), 25007,
			"")
		a.want(http.StatusOK, "POST", path, s.access, subjectLimits(1, 5))
		a.refused(a.do("POST", "/certificates/enrollments", s.access, a.enrollment(s, "Offline", newECKey(t))), 25006,
			"")
		a.want(http.StatusOK, "DELETE", path, s.access, nil)
		a.newCertificate(s, "Offline")
		a.want(http.StatusOK, "POST", path, s.access, subjectLimits(0, 0))
		limits := a.want(http.StatusOK, "GET", "/certificates/limits", s.access, nil)
		require.Equal(t, false, limits.body["canRequest"])
		require.Zero(t, limits.number("enrollment.limit"))
	})
	t.Run("are checked", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		wrong := subjectLimits(-1, -2)
		wrong["subjectIdentifierType"] = "Regon"
		code, details := a.want(http.StatusBadRequest, "POST", path, s.access, wrong).code()
		require.Equal(t, 21405, code)
		require.Equal(t, "'subjectIdentifierType' has a range of values which does not include 'Regon'. "+
			"'enrollment.maxEnrollments' must be greater than or equal to '0'. "+
			"'certificate.maxCertificates' must be greater than or equal to '0'.", details)
		a.refused(a.do("POST", path, s.access, subjectLimits(1<<31, 1)), 21405, "enrollment.maxEnrollments")
		a.want(http.StatusOK, "POST", path, s.access,
			map[string]any{"enrollment": nil, "certificate": map[string]any{"maxCertificates": nil}})
		require.Equal(t, subjectLimits(300, 100), shown(a, s))
	})
}
