// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNothingSecretIsPrinted(t *testing.T) {
	key := rsaKey(t, 2048)
	source := Source{
		Certificate: certificatePEM(certify(t, key)), PrivateKey: encryptedPEM(t, key), PrivateKeyPassword: password,
	}
	credential, err := parse(source, noon)
	require.NoError(t, err)
	secrets := []string{
		password, source.PrivateKey[100:140], fmt.Sprintf("%x", password),
		key.D.String(), key.D.Text(16), key.Primes[0].String(), key.Primes[1].Text(16),
	}

	var printed bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%t"} {
		for _, value := range []any{source, &source, credential, *credential, []any{credential, *credential, source}, struct{ Owner any }{source}} {
			fmt.Fprintf(&printed, verb+"\n", value)
		}
	}
	for _, value := range []any{source, &source, credential, *credential, map[string]any{"a": credential, "b": source}} {
		require.NoError(t, json.NewEncoder(&printed).Encode(value))
		slog.New(slog.NewJSONHandler(&printed, nil)).Info("held", "value", value)
		slog.New(slog.NewTextHandler(&printed, nil)).Info("held", "value", value)
	}
	for _, secret := range secrets {
		require.NotContains(t, printed.String(), secret)
	}
	require.Equal(t, "seal certificate 123456789ABCDEF with private key [redacted]", credential.String())
	require.Equal(t, "no credential", Credential{}.String())
}

func TestJSONOfACredentialIsItsIdentity(t *testing.T) {
	key := ecKey(t)
	credential, err := parse(Source{Certificate: certificatePEM(certify(t, key)), PrivateKey: keyPEM(t, key)}, noon)
	require.NoError(t, err)
	text, err := json.Marshal(credential)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"kind": "seal", "identifier_type": "Nip", "identifier": "5265877635",
		"name": "Testowa Sp. z o.o.", "private_key": "[redacted]"
	}`, string(text))
}
