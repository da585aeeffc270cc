// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// publicKey fetches the key for tokens and its identifier.
func (a *api) publicKey() (*rsa.PublicKey, string) {
	a.t.Helper()
	return a.publicKeyFor("KsefTokenEncryption")
}

func (a *api) publicKeyFor(usage string) (*rsa.PublicKey, string) {
	a.t.Helper()
	resp, err := a.send("GET", "/v2/security/public-key-certificates", "", nil)
	require.NoError(a.t, err)
	data, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	require.NoError(a.t, resp.Body.Close())
	var keys []struct {
		Certificate []byte
		PublicKeyID string
		Usage       []string
	}
	require.NoError(a.t, json.Unmarshal(data, &keys))
	require.Len(a.t, keys, 2)
	for _, key := range keys {
		if key.Usage[0] == usage {
			certificate, err := x509.ParseCertificate(key.Certificate)
			require.NoError(a.t, err)
			return certificate.PublicKey.(*rsa.PublicKey), key.PublicKeyID
		}
	}
	require.Fail(a.t, "no key for "+usage)
	return nil, ""
}

// tokenRequest is the body of a login with a token.
func (a *api) tokenRequest(token string) map[string]any {
	a.t.Helper()
	got := a.want(http.StatusOK, "POST", "/auth/challenge", "", nil)
	return a.encrypted(got.text("challenge"), fmt.Sprintf("%s|%d", token, got.number("timestampMs")))
}

func (a *api) encrypted(challenge, plain string) map[string]any {
	a.t.Helper()
	key, id := a.publicKey()
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key, []byte(plain), nil)
	require.NoError(a.t, err)
	return map[string]any{
		"challenge": challenge, "encryptedToken": base64.StdEncoding.EncodeToString(encrypted), "publicKeyId": id,
		"contextIdentifier": map[string]string{"type": "Nip", "value": nip},
	}
}

func (a *api) beginWithToken(token string) operation {
	a.t.Helper()
	return operationOf(a.want(http.StatusAccepted, "POST", "/auth/ksef-token", "", a.tokenRequest(token)))
}

func TestTokenLoginOnlyWhileActive(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: time.Minute, RevocationDelay: time.Minute})
	owner := a.login(seal(t), nipXML)
	reference, token := a.issue(owner, "InvoiceRead")
	login := func() (int, string) { return a.status(a.beginWithToken(token)) }

	early := a.beginWithToken(token)
	code, _ := a.status(early)
	require.Equal(t, 100, code)
	a.refused(a.do("POST", "/auth/token/redeem", early.token, nil), 21301, "(100)")

	a.sim.Advance(time.Minute)
	a.redeem(early)
	code, _ = login()
	require.Equal(t, 200, code)
	used := a.want(http.StatusOK, "GET", "/tokens/"+reference, owner.access, nil)
	require.NotEmpty(t, used.text("lastUseDate"))

	a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, owner.access, nil)
	for range 2 { // while it is Revoking, and when it is Revoked
		code, detail := login()
		require.Equal(t, 450, code)
		require.Equal(t, "Token unieważniony", detail)
		a.sim.Advance(time.Minute)
	}
}

// The official Java client's KsefTokenIntegrationTest logs in with a new token at once.
func TestTokenLoginPendingDecidedWithToken(t *testing.T) {
	begin := func(t *testing.T, options simulator.Options, kind simulator.FaultKind) (a *api, owner session,
		reference string, o operation) {
		a = newAPI(t, options)
		owner = a.login(seal(t), nipXML)
		if kind != "" {
			require.NoError(t, a.sim.AddFault(simulator.Fault{Endpoint: "POST /tokens", Kind: kind}))
		}
		reference, token := a.issue(owner, "InvoiceRead")
		o = a.beginWithToken(token)
		code, _ := a.status(o)
		require.Equal(t, 100, code)
		return a, owner, reference, o
	}
	pending := simulator.Options{ActivationDelay: time.Minute}

	t.Run("becomes active", func(t *testing.T) {
		a, _, _, o := begin(t, pending, "")
		state := a.sim.State().Sessions[1]
		require.Equal(t, 100, state.Status)
		require.False(t, state.Active)
		a.sim.Advance(time.Minute)
		code, _ := a.status(o)
		require.Equal(t, 200, code)
		require.True(t, a.sim.State().Sessions[1].Active)
		a.redeem(o)
	})
	t.Run("fails", func(t *testing.T) {
		a, _, _, o := begin(t, pending, simulator.FaultFailActivation)
		a.sim.Advance(time.Minute)
		code, detail := a.status(o)
		require.Equal(t, 450, code)
		require.Equal(t, "Token nieaktywny", detail)
	})
	t.Run("is revoked while pending", func(t *testing.T) {
		a, owner, reference, o := begin(t, pending, "")
		a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, owner.access, nil)
		code, detail := a.status(o)
		require.Equal(t, 450, code)
		require.Equal(t, "Token unieważniony", detail)
		require.Equal(t, 450, a.sim.State().Sessions[1].Status)
	})
	t.Run("is revoked before the login delay is over", func(t *testing.T) {
		a := newAPI(t, simulator.Options{ActivationDelay: -1, LoginDelay: time.Minute})
		o := a.begin(seal(t), nipXML)
		a.sim.Advance(time.Minute)
		owner := a.redeem(o)
		reference, token := a.issue(owner, "InvoiceRead")
		o = a.beginWithToken(token)
		a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, owner.access, nil)
		code, _ := a.status(o)
		require.Equal(t, 100, code)
		a.sim.Advance(time.Minute)
		code, _ = a.status(o)
		require.Equal(t, 450, code)
	})
	t.Run("is revoked after the decision, before its status is read", func(t *testing.T) {
		a, owner, reference, o := begin(t, pending, "")
		a.sim.Advance(2 * time.Minute)
		a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, owner.access, nil)
		code, _ := a.status(o)
		require.Equal(t, 200, code)
		a.refused(a.do("POST", "/auth/token/redeem", o.token, nil), 21301, "Token KSeF został unieważniony.")
	})
}

func TestTokenLoginWrongToken450(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: -1})
	_, token := a.issue(a.login(seal(t), nipXML), "InvoiceRead")
	last := map[bool]string{true: "1", false: "0"}[strings.HasSuffix(token, "0")]
	tests := map[string]struct {
		body   func() map[string]any
		detail string
	}{
		"another secret": {func() map[string]any { return a.tokenRequest(token[:len(token)-1] + last) },
			"Nieprawidłowy token"},
		"no separator": {func() map[string]any { return a.encrypted(a.challenge(), "token") },
			"Nieprawidłowe kodowanie tokena"},
		"KSeF 1.0 token": {func() map[string]any { return a.tokenRequest("0123456789ABCDEF") },
			"Nieprawidłowe kodowanie tokena"},
		"another time": {func() map[string]any { return a.encrypted(a.challenge(), token+"|1") },
			"Nieprawidłowy czas tokena"},
		"not encrypted": {func() map[string]any {
			body := a.tokenRequest(token)
			body["encryptedToken"] = base64.StdEncoding.EncodeToString([]byte(token))
			return body
		}, "Nieprawidłowe szyfrowanie tokena"},
		"another context": {func() map[string]any {
			body := a.tokenRequest(token)
			body["contextIdentifier"] = map[string]string{"type": "Nip", "value": otherNIP}
			return body
		}, "Token nie może być użyty w kontekście Nip: " + otherNIP},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := operationOf(a.want(http.StatusAccepted, "POST", "/auth/ksef-token", "", test.body()))
			code, detail := a.status(o)
			require.Equal(t, 450, code)
			require.Equal(t, test.detail, detail)
		})
	}
}

func TestTokenLoginInvalidRequest(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	tests := map[string]struct {
		key   string
		value any
		code  int
	}{
		"no challenge":      {"challenge", "", 21405},
		"unknown challenge": {"challenge", "20250625-CR-20F5EE4000-DA48AE4124-46", 21111},
		"bad context":       {"contextIdentifier", map[string]string{"type": "Nip", "value": "5265877636"}, 21405},
		"unknown context":   {"contextIdentifier", map[string]string{"type": "Pesel", "value": "44051401359"}, 21405},
		"not base64":        {"encryptedToken", "?", 21405},
		"short key id":      {"publicKeyId", "AAAA", 21405},
		"unknown key id":    {"publicKeyId", strings.Repeat("A", 43) + "=", 21470},
		"bad policy": {"authorizationPolicy",
			map[string]any{"allowedIps": map[string]any{"ip4Masks": []string{"10.0.0.0/33"}}}, 21405},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := a.withT(t)
			body := a.tokenRequest("a|b|c")
			body[test.key] = test.value
			a.refused(a.do("POST", "/auth/ksef-token", "", body), test.code, "")
		})
	}
	a.want(http.StatusUnsupportedMediaType, "POST", "/auth/ksef-token", "", []byte("{}"))
	a.refused(a.do("POST", "/auth/ksef-token", "", "text"), 21405, "JSON")
}

func TestTokenRevokedEndsItsSessions(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: -1})
	owner := a.login(seal(t), nipXML)
	reference, token := a.issue(owner, "InvoiceRead")
	opened := a.redeem(a.beginWithToken(token))
	waiting := a.beginWithToken(token)
	a.want(http.StatusOK, "POST", "/auth/token/refresh", opened.refresh, nil)

	a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, owner.access, nil)
	a.refused(a.do("POST", "/auth/token/refresh", opened.refresh, nil), 21301, "Token KSeF został unieważniony.")
	a.refused(a.do("POST", "/auth/token/redeem", waiting.token, nil), 21301, "Token KSeF został unieważniony.")
	a.want(http.StatusOK, "GET", "/tokens", opened.access, nil)
	a.sim.Advance(15 * time.Minute)
	a.want(http.StatusUnauthorized, "GET", "/tokens", opened.access, nil)
}

func TestTokenLoginInternalUnit(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: -1})
	_, token := a.issue(a.login(seal(t), "<InternalId>5265877635-12346</InternalId>"), "InvoiceRead")
	require.Contains(t, token, "|internalId-5265877635-12346|")
	require.LessOrEqual(t, len(token), 160)
	body := a.tokenRequest(token)
	body["contextIdentifier"] = map[string]string{"type": "InternalId", "value": "5265877635-12346"}
	code, _ := a.status(operationOf(a.want(http.StatusAccepted, "POST", "/auth/ksef-token", "", body)))
	require.Equal(t, 200, code)
}
