// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestOpenSession(t *testing.T) {
	certPEM, keyPEM, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: "5265877635"})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	url := startServer(t, "--activation-delay", "0")
	client, err := newAPI(url, "")
	require.NoError(t, err)
	defer client.client.CloseIdleConnections()
	access := logInWithSignature(t, client, pair)

	tests := map[string]struct {
		permissions []string
		code        int
		out         string
	}{
		"with InvoiceWrite": {[]string{"InvoiceRead", "InvoiceWrite"}, exitDone,
			`^invoice session opened and closed: \d{8}-SO-`},
		"without InvoiceWrite": {[]string{"InvoiceRead", "Introspection"}, exitRefused,
			`^invoice session refused: 403 .*InvoiceWrite.*; the token has InvoiceRead, Introspection\.\n$`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var issued struct{ Token string }
			body := map[string]any{"permissions": test.permissions, "description": "Token testowy"}
			require.NoError(t, client.call(t.Context(), "POST", "/tokens", access, body, &issued))
			code, out, log := command(t, issued.Token+"\n", "open-session", "--url", url)
			require.Equal(t, test.code, code, log)
			require.Regexp(t, test.out, out)
		})
	}
	t.Run("refused at the login", func(t *testing.T) {
		code, out, _ := command(t, "20250625-EC-20F5EE4000-DA48AE4124-46|nip-5265877635|00", "open-session", "--url",
			url)
		require.Equal(t, exitRefused, code)
		require.Contains(t, out, "login refused: 450")
	})
}
