// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// handled is a KSeF that a handler plays.
type handled struct{ http.Handler }

func (h handled) RoundTrip(request *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, request)
	return recorder.Result(), nil
}

// publishedKey is a key that KSeF publishes, from and to being hours from now.
type publishedKey struct {
	id       string
	from, to int
	usage    string
	public   any
}

func (k publishedKey) encode(t *testing.T, signer *rsa.PrivateKey) map[string]any {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.public, signer)
	require.NoError(t, err)
	return map[string]any{
		"certificate": der, "publicKeyId": k.id, "usage": []string{k.usage},
		"validFrom": time.Now().Add(time.Duration(k.from) * time.Hour), "validTo": time.Now().Add(time.Duration(k.to) * time.Hour),
	}
}

func newRSAKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return key
}

func TestTokenKey(t *testing.T) {
	signer := newRSAKey(t)
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	key := func(id string, from, to int) publishedKey {
		return publishedKey{id, from, to, publicKeyUsageTokens, signer.Public()}
	}
	for name, test := range map[string]struct {
		keys []publishedKey
		want string
	}{
		"the one that began last":    {[]publishedKey{key("old", -9, 9), key("new", -1, 9), key("middle", -5, 9)}, "new"},
		"not one that has yet begun": {[]publishedKey{key("now", -9, 9), key("tomorrow", 24, 99)}, "now"},
		"not one that has ended":     {[]publishedKey{key("now", -9, 9), key("withdrawn", -5, -1)}, "now"},
		"not one of another usage": {
			[]publishedKey{key("now", -9, 9), {"invoices", -1, 9, "SymmetricKeyEncryption", signer.Public()}}, "now",
		},
		"not one that is not RSA": {
			[]publishedKey{key("now", -9, 9), {"elliptic", -1, 9, publicKeyUsageTokens, elliptic.Public()}}, "now",
		},
		"none": {[]publishedKey{key("tomorrow", 24, 99)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var published []map[string]any
			for _, one := range test.keys {
				published = append(published, one.encode(t, signer))
			}
			body, err := json.Marshal(published)
			require.NoError(t, err)
			found, err := newClient(t, &answering{status: 200, body: string(body)}).TokenKey(t.Context())
			if test.want == "" {
				require.ErrorIs(t, err, errNoTokenKey)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, found.ID)
		})
	}
}

// Which key is valid KSeF's clock decides, here a day ahead.
func TestTokenKey_byKSeFsClock(t *testing.T) {
	signer := newRSAKey(t)
	body, err := json.Marshal([]any{
		publishedKey{"old", -9, 23, publicKeyUsageTokens, signer.Public()}.encode(t, signer),
		publishedKey{"new", 22, 99, publicKeyUsageTokens, signer.Public()}.encode(t, signer),
	})
	require.NoError(t, err)
	date := http.Header{"Date": {time.Now().Add(24 * time.Hour).UTC().Format(http.TimeFormat)}}
	found, err := newClient(t, &answering{status: 200, body: string(body), header: date}).TokenKey(t.Context())
	require.NoError(t, err)
	require.Equal(t, "new", found.ID)
}

// tokenLogins is a KSeF that withdraws its key with each login, as long as refusals are left.
type tokenLogins struct {
	t          *testing.T
	key        *rsa.PrivateKey
	code       int
	refusals   int
	published  int
	challenges int
	submitted  []map[string]any
}

func (k *tokenLogins) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET /v2/security/public-key-certificates":
		k.published++
		one := publishedKey{fmt.Sprintf("key-%d", k.published), -1, 1, publicKeyUsageTokens, k.key.Public()}
		assert.NoError(k.t, json.NewEncoder(w).Encode([]any{one.encode(k.t, k.key)}))
	case "POST /v2/auth/challenge":
		k.challenges++
		_, _ = fmt.Fprintf(w, `{"challenge":"challenge-%d","timestamp":"2026-01-01T00:00:00Z","timestampMs":%d}`, k.challenges, k.challenges)
	case "POST /v2/auth/ksef-token":
		var body map[string]any
		assert.NoError(k.t, json.NewDecoder(r.Body).Decode(&body))
		k.submitted = append(k.submitted, body)
		if k.refusals > 0 {
			k.refusals--
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprintf(w, `{"errors":[{"code":%d,"description":"d"}]}`, k.code)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{"referenceNumber":"20251010-AU-1DCE3E3000-12ECB5B36E-45","authenticationToken":{"token":"opaque","validUntil":"2026-01-01T00:00:00Z"}}`))
	default:
		k.t.Errorf("unexpected %s %s", r.Method, r.URL.Path)
	}
}

func TestBeginTokenLogin(t *testing.T) {
	taxpayer := ContextIdentifier{Type: ContextNIP, Value: testAuthor}
	for name, test := range map[string]struct {
		code, refusals, submissions int
		accepted                    bool
	}{
		"accepted":                 {0, 0, 1, true},
		"key withdrawn":            {21470, 1, 2, true},
		"each key withdrawn":       {21470, 9, 2, false},
		"refused for other causes": {21111, 1, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			ksef := &tokenLogins{t: t, key: newRSAKey(t), code: test.code, refusals: test.refusals}
			operation, _, err := newClient(t, handled{ksef}).BeginTokenLogin(t.Context(), TokenLogin{Taxpayer: taxpayer, Token: "the token"})
			if test.accepted {
				require.NoError(t, err)
				require.NotEmpty(t, operation.ReferenceNumber)
			} else {
				require.True(t, HasCode(err, test.code), err)
			}
			require.Equal(t, []int{test.submissions, test.submissions}, []int{ksef.published, ksef.challenges})
			require.Len(t, ksef.submitted, test.submissions)
			for i, body := range ksef.submitted {
				require.Equal(t, fmt.Sprintf("key-%d", i+1), body["publicKeyId"])
				require.Equal(t, fmt.Sprintf("challenge-%d", i+1), body["challenge"])
				var encrypted []byte
				require.NoError(t, json.Unmarshal([]byte(`"`+body["encryptedToken"].(string)+`"`), &encrypted))
				plain, err := rsa.DecryptOAEP(sha256.New(), nil, ksef.key, encrypted, nil)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("the token|%d", i+1), string(plain))
			}
		})
	}
}
