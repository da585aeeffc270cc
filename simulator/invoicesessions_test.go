// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func base64Of(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// invoiceEncryption encrypts a symmetric key of a length for invoices.
func (a *api) invoiceEncryption(length int) map[string]any {
	a.t.Helper()
	key, id := a.publicKeyFor("SymmetricKeyEncryption")
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key, make([]byte, length), nil)
	require.NoError(a.t, err)
	return map[string]any{"encryptedSymmetricKey": base64Of(encrypted),
		"initializationVector": base64Of(make([]byte, 16)), "publicKeyId": id}
}

func formCode(system, version, value string) map[string]any {
	return map[string]any{"systemCode": system, "schemaVersion": version, "value": value}
}

func (a *api) invoiceSessionRequest() map[string]any {
	a.t.Helper()
	return map[string]any{"formCode": formCode("FA (3)", "1-0E", "FA"), "encryption": a.invoiceEncryption(32)}
}

// openInvoices opens an online session and returns its reference number.
func (a *api) openInvoices(s session) string {
	a.t.Helper()
	return a.want(http.StatusCreated, "POST", "/sessions/online", s.access,
		a.invoiceSessionRequest()).text("referenceNumber")
}

func (a *api) closeInvoices(s session, reference string) response {
	a.t.Helper()
	return a.do("POST", "/sessions/online/"+reference+"/close", s.access, nil)
}

func (a *api) sendInvoice(s session, reference string) response {
	a.t.Helper()
	return a.do("POST", "/sessions/online/"+reference+"/invoices", s.access, map[string]any{})
}

// forbidden checks a refusal and returns its reason and the permissions of which one is enough.
func (a *api) forbidden(got response) (reason string, required []any) {
	a.t.Helper()
	require.Equal(a.t, http.StatusForbidden, got.status, "%v", got.body)
	security, _ := got.body["security"].(map[string]any)
	required, _ = security["requiredAnyOfPermissions"].([]any)
	return got.text("reasonCode"), required
}

func TestInvoiceSessionOpen(t *testing.T) {
	t.Run("stays open for twelve hours", func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		got := a.want(http.StatusCreated, "POST", "/sessions/online", s.access, a.invoiceSessionRequest())
		require.Regexp(t, `^\d{8}-SO-`, got.text("referenceNumber"))
		validUntil, err := time.Parse(time.RFC3339, got.text("validUntil"))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(12*time.Hour), validUntil, time.Minute)
		shown := a.want(http.StatusOK, "GET", "/sessions/"+got.text("referenceNumber"), s.access, nil)
		require.Equal(t, 100, shown.number("status.code"))
		require.Equal(t, "Sesja interaktywna otwarta", shown.text("status.description"))
		require.Equal(t, shown.text("dateCreated"), shown.text("dateUpdated"))
		require.Equal(t, got.text("validUntil"), shown.text("validUntil"))
		require.NotContains(t, shown.body, "failedInvoiceCount")

		a.sim.Advance(12 * time.Hour)
		s.access = a.want(http.StatusOK, "POST", "/auth/token/refresh", s.refresh, nil).text("accessToken.token")
		shown = a.want(http.StatusOK, "GET", "/sessions/"+got.text("referenceNumber"), s.access, nil)
		require.Equal(t, 440, shown.number("status.code"))
		require.Equal(t, shown.text("validUntil"), shown.text("dateUpdated"))
		a.refused(a.closeInvoices(s, got.text("referenceNumber")), 21180,
			"Status sesji 440 uniemożliwia jej zamknięcie.")
		state := a.sim.State().InvoiceSessions
		require.Len(t, state, 1)
		require.Equal(t, 440, state[0].Status)
		require.Equal(t, simulator.Identifier{Type: "Nip", Value: nip}, state[0].AuthorIdentifier)
	})
	t.Run("takes the form codes of the OpenAPI", func(t *testing.T) {
		a := newAPI(t, withoutRateLimits())
		s := a.login(seal(t), nipXML)
		request := a.invoiceSessionRequest()
		for _, code := range []map[string]any{
			formCode("FA (2)", "1-0E", "FA"), formCode("FA (3)", "1-0E", "FA"), formCode("PEF (3)", "2-1", "PEF"),
			formCode("PEF_KOR (3)", "2-1", "PEF"), formCode("FA_RR (1)", "1-1E", "FA_RR"),
		} {
			request["formCode"] = code
			a.want(http.StatusCreated, "POST", "/sessions/online", s.access, request)
		}
		for _, code := range []map[string]any{formCode("FA (1)", "1-0E", "FA"), formCode("FA (3)", "1-0", "FA"),
			formCode("FA (3)", "1-0E", "PEF")} {
			request["formCode"] = code
			a.refused(a.do("POST", "/sessions/online", s.access, request), 21405,
				"Wskazany kod formularza nie jest wspierany.")
		}
		require.Len(t, a.sim.State().InvoiceSessions, 5)
	})
	t.Run("checks the encryption", func(t *testing.T) {
		a := newAPI(t, withoutRateLimits())
		s := a.login(seal(t), nipXML)
		a.refused(a.do("POST", "/sessions/online", s.access, map[string]any{}), 21405,
			"'formCode' must not be empty. 'encryption' must not be empty.")
		for name, test := range map[string]struct {
			field  string
			value  any
			code   int
			detail string
		}{
			"key not base64":    {"encryptedSymmetricKey", "!", 21405, "encryptedSymmetricKey"},
			"no key":            {"encryptedSymmetricKey", "", 21405, "encryptedSymmetricKey"},
			"short vector":      {"initializationVector", base64Of(make([]byte, 15)), 21405, "initializationVector"},
			"vector not base64": {"initializationVector", "!", 21405, "initializationVector"},
			"short key id":      {"publicKeyId", "x", 21405, "publicKeyId"},
			"unknown key id":    {"publicKeyId", strings.Repeat("A", 43) + "=", 21470, "nie jest wspierany"},
		} {
			request := a.invoiceSessionRequest()
			request["encryption"].(map[string]any)[test.field] = test.value
			a.refused(a.withT(t).do("POST", "/sessions/online", s.access, request), test.code, test.detail)
			require.Empty(t, a.sim.State().InvoiceSessions, name)
		}
		request := a.invoiceSessionRequest()
		delete(request["encryption"].(map[string]any), "publicKeyId")
		a.want(http.StatusCreated, "POST", "/sessions/online", s.access, request)
	})
	t.Run("finds a bad key out later", func(t *testing.T) {
		a := newAPI(t, withoutRateLimits())
		s := a.login(seal(t), nipXML)
		short, foreign := a.invoiceSessionRequest(), a.invoiceSessionRequest()
		short["encryption"] = a.invoiceEncryption(16)
		foreign["encryption"].(map[string]any)["encryptedSymmetricKey"] = base64Of(make([]byte, 256))
		for _, request := range []map[string]any{short, foreign} {
			reference := a.want(http.StatusCreated, "POST", "/sessions/online", s.access,
				request).text("referenceNumber")
			shown := a.want(http.StatusOK, "GET", "/sessions/"+reference, s.access, nil)
			require.Equal(t, 415, shown.number("status.code"))
			require.Equal(t, "Błąd odszyfrowania dostarczonego klucza", shown.text("status.description"))
			a.refused(a.sendInvoice(s, reference), 21180, "Status sesji 415 uniemożliwia wysyłkę faktur.")
		}
		require.Len(t, a.invoiceSessions(s, "&statuses=failed"), 2)
	})
}

func TestInvoiceSessionRights(t *testing.T) {
	t.Run("need a permission", func(t *testing.T) {
		a := newAPI(t, withoutRateLimits())
		owner := a.login(seal(t), nipXML)
		reference := a.openInvoices(owner)
		_, secret := a.issue(owner, "InvoiceRead", "CredentialsManage")
		a.sim.Advance(time.Second)
		reader := a.redeem(a.beginWithToken(secret))
		toSend := []any{"InvoiceWrite", "PefInvoiceWrite", "EnforcementOperations"}
		for name, test := range map[string]struct {
			method, path string
			required     []any
		}{
			"open":  {"POST", "/sessions/online", toSend},
			"close": {"POST", "/sessions/online/" + reference + "/close", toSend},
			"send":  {"POST", "/sessions/online/" + reference + "/invoices", toSend},
			"list": {"GET", "/sessions?sessionType=Online",
				[]any{"InvoiceWrite", "Introspection", "EnforcementOperations"}},
			"status": {"GET", "/sessions/" + reference,
				[]any{"InvoiceWrite", "Introspection", "PefInvoiceWrite", "EnforcementOperations"}},
			"open batch": {"POST", "/sessions/batch", []any{"InvoiceWrite", "EnforcementOperations"}},
			"close batch": {"POST", "/sessions/batch/" + reference + "/close",
				[]any{"InvoiceWrite", "EnforcementOperations"}},
		} {
			got := a.withT(t).do(test.method, test.path, reader.access, nil)
			reason, required := a.forbidden(got)
			require.Equal(t, "missing-permissions", reason, name)
			require.Equal(t, test.required, required, name)
			require.Equal(t, []any{"InvoiceRead", "CredentialsManage"},
				got.body["security"].(map[string]any)["presentPermissions"])
		}
	})
	t.Run("one of them will do", func(t *testing.T) {
		for _, permission := range []string{"InvoiceWrite", "EnforcementOperations"} {
			options := withoutRateLimits()
			options.OwnerPermissions = []string{permission}
			a := newAPI(t, options)
			s := a.login(seal(t), nipXML)
			require.Equal(t, http.StatusNoContent, a.closeInvoices(s, a.openInvoices(s)).status)
		}
	})
	t.Run("of a token's session are those of its author", func(t *testing.T) {
		a := newAPI(t, withoutRateLimits())
		owner := a.login(seal(t), nipXML)
		_, secret := a.issue(owner, "InvoiceWrite")
		a.sim.Advance(time.Second)
		application := a.redeem(a.beginWithToken(secret))
		require.Equal(t, http.StatusNoContent, a.closeInvoices(application, a.openInvoices(owner)).status)
		require.Equal(t, http.StatusNoContent, a.closeInvoices(owner, a.openInvoices(application)).status)
	})
	// personWithIntrospection_CanViewForeignSessionStatus_ButCannotCloseIt of
	// IntrospectionPermissionIntegrationTests (CIRFMF/ksef-client-java), without an invoice.
	t.Run("Introspection sees what others may not", func(t *testing.T) {
		employee, third, inspector := simulator.Identifier{Type: "Nip", Value: "1111111111"},
			simulator.Identifier{Type: "Nip", Value: "2222222222"}, simulator.Identifier{Type: "Nip",
				Value: "3333333333"}
		context := simulator.Identifier{Type: "Nip", Value: nip}
		options := withoutRateLimits()
		options.Grants = []simulator.Grant{
			{Identifier: employee, Context: context, Permissions: []string{"InvoiceWrite", "InvoiceRead"}},
			{Identifier: third, Context: context, Permissions: []string{"InvoiceWrite", "InvoiceRead"}},
			{Identifier: inspector, Context: context, Permissions: []string{"InvoiceWrite", "Introspection"}},
		}
		a := newAPI(t, options)
		enter := func(i simulator.Identifier) session {
			return a.login(newCredential(t, simulator.CertificateOptions{NIP: i.Value}), nipXML)
		}
		author, other, introspecting := enter(employee), enter(third), enter(inspector)
		reference := a.openInvoices(author)
		reason, _ := a.forbidden(a.do("GET", "/sessions/"+reference, other.access, nil))
		require.Equal(t, "insufficient-resource-access", reason)
		a.forbidden(a.closeInvoices(other, reference))
		a.forbidden(a.sendInvoice(other, reference))
		require.Empty(t, a.invoiceSessions(other, ""))
		a.want(http.StatusOK, "GET", "/sessions/"+reference, introspecting.access, nil)
		require.Equal(t, []string{reference}, a.invoiceSessions(introspecting, ""))
		a.forbidden(a.closeInvoices(introspecting, reference))
		require.Equal(t, http.StatusNoContent, a.closeInvoices(author, reference).status)
	})
	t.Run("end with the context", func(t *testing.T) {
		a := newAPI(t, withoutRateLimits())
		owner, unit := a.login(seal(t), nipXML), a.login(seal(t), "<InternalId>5265877635-12346</InternalId>")
		reference := a.openInvoices(owner)
		a.refused(a.do("GET", "/sessions/"+reference, unit.access, nil), 21173, "nie została znaleziona.")
		a.refused(a.closeInvoices(unit, reference), 21173,
			"Sesja o numerze referencyjnym "+reference+" nie została odnaleziona.")
		a.refused(a.sendInvoice(unit, reference), 21173, "nie została odnaleziona.")
		a.refused(a.closeInvoices(unit, "nonsense"), 21405, "")
		require.Empty(t, a.invoiceSessions(unit, ""))
	})
}

func TestInvoiceSessionRefusesInvoices(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	reference := a.openInvoices(s)
	code, _ := a.sendInvoice(s, reference).code()
	require.Equal(t, http.StatusNotImplemented, code)
	a.header.Set("X-Error-Format", "problem-details")
	require.Equal(t, "Symulator nie przyjmuje faktur.", a.sendInvoice(s, reference).text("detail"))
	for _, path := range []string{"/sessions/batch", "/sessions/batch/" + reference + "/close"} {
		got := a.want(http.StatusNotImplemented, "POST", path, s.access, map[string]any{})
		require.Equal(t, "Symulator nie obsługuje sesji wsadowych.", got.text("detail"))
	}
	require.Equal(t, http.StatusNoContent, a.closeInvoices(s, reference).status)
	a.refused(a.sendInvoice(s, reference), 21180, "Status sesji 440 uniemożliwia wysyłkę faktur.")
}

func TestInvoiceSessionRateLimits(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	s := a.login(seal(t), nipXML)
	groups := oldGroups()
	groups["onlineSession"], groups["sessionList"], groups["sessionMisc"] = windows(7, 1, 9), windows(1, 2,
		3), windows(1, 3, 3)
	groups["onlineSessionClose"] = windows(20, 60, 1)
	a.want(http.StatusOK, "POST", "/testdata/rate-limits", s.access, map[string]any{"rateLimits": groups})
	reference := a.openInvoices(s)
	a.want(http.StatusTooManyRequests, "POST", "/sessions/online", s.access, map[string]any{})
	require.Equal(t, http.StatusNoContent, a.closeInvoices(s, reference).status)
	require.Equal(t, http.StatusTooManyRequests, a.closeInvoices(s, reference).status)
	for range 2 {
		a.want(http.StatusOK, "GET", "/sessions?sessionType=Online", s.access, nil)
		a.sim.Advance(time.Second)
	}
	a.want(http.StatusTooManyRequests, "GET", "/sessions?sessionType=Online", s.access, nil)
	for range 3 {
		a.want(http.StatusOK, "GET", "/sessions/"+reference, s.access, nil)
		a.sim.Advance(time.Second)
	}
	a.want(http.StatusTooManyRequests, "GET", "/sessions/"+reference, s.access, nil)
}
