// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"crypto/tls"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestServeSwitches(t *testing.T) {
	plain, err := newServeFlags(nil, io.Discard)
	require.NoError(t, err)
	tests := map[string]func(*simulator.Options){
		"--tokens-read-others":                func(o *simulator.Options) { o.TokensReadOthers = true },
		"--tokens-may-not-query-certificates": func(o *simulator.Options) { o.TokensMayNotQueryCertificates = true },
		"--omit-authentication-method":        func(o *simulator.Options) { o.OmitAuthenticationMethod = true },
		"--forbid-other-jwts":                 func(o *simulator.Options) { o.ForbidOtherJWTs = true },
		"--tokens=expiring":                   func(o *simulator.Options) { o.Tokens = simulator.TokensExpiring },
		"--access-token-lifetime=30s":         func(o *simulator.Options) { o.AccessTokenLifetime = 30 * time.Second },
		"--token-validity=30":                 func(o *simulator.Options) { o.TokenValidity = 30 },
	}
	for flag, set := range tests {
		want := plain.options
		set(&want)
		got, err := newServeFlags([]string{flag}, io.Discard)
		require.NoError(t, err)
		require.NotEqual(t, plain.options, got.options)
		require.Equal(t, want, got.options, flag)
	}
}

// The clocks of an application and of the simulator may differ: the public keys are valid by both.
func TestLoginServerClockAhead(t *testing.T) {
	certPEM, keyPEM, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: "5265877635"})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	url := startServer(t, "--activation-delay", "0", "--clock-offset", "1000h")
	client, err := newAPI(url, "")
	require.NoError(t, err)
	defer client.client.CloseIdleConnections()
	access := logInWithSignature(t, client, pair)
	var issued struct{ Token string }
	body := map[string]any{"permissions": []string{"InvoiceWrite"}, "description": "Token testowy"}
	require.NoError(t, client.call(t.Context(), "POST", "/tokens", access, body, &issued))
	code, out, log := command(t, issued.Token+"\n", "open-session", "--url", url)
	require.Equal(t, exitDone, code, log)
	require.Contains(t, out, "invoice session opened and closed")
}
