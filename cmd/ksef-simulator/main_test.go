// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"
)

// command runs a command line and returns its exit code and output.
func command(t *testing.T, in string, arguments ...string) (code int, out, log string) {
	t.Helper()
	var outBuffer, logBuffer bytes.Buffer
	code = run(t.Context(), arguments, strings.NewReader(in), &outBuffer, &logBuffer)
	return code, outBuffer.String(), logBuffer.String()
}

// startServer runs the command serve until the test ends, and returns the address of its API.
func startServer(t *testing.T, arguments ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0"}, arguments...), nil, writer, io.Discard)
	}()
	line, err := bufio.NewReader(reader).ReadString('\n')
	require.NoError(t, err)
	t.Cleanup(func() {
		stop()
		require.Equal(t, exitDone, <-ended, "the server must stop without an error")
	})
	url := regexp.MustCompile(`https?://[0-9.:]+/v2`).FindString(line)
	require.NotEmpty(t, url, line)
	return url
}

func TestLoginUntilTokenRevoked(t *testing.T) {
	directory := t.TempDir()
	certFile, keyFile := filepath.Join(directory, "cert.pem"), filepath.Join(directory, "key.pem")
	code, out, log := command(t, "", "certificate", "--nip", "5265877635", "--key", "ec", "--out-cert", certFile,
		"--out-key", keyFile)
	require.Equal(t, exitDone, code, log)
	require.Equal(t, "5265877635\n", out)
	info, err := os.Stat(keyFile)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)

	caFile := filepath.Join(directory, "ca.pem")
	url := startServer(t, "--tls", "--tls-host", "127.0.0.1", "--ca-out", caFile, "--activation-delay", "0",
		"--revocation-delay", "1h")
	client, err := newAPI(url, caFile)
	require.NoError(t, err)
	defer client.client.CloseIdleConnections()
	access := logInWithSignature(t, client, pair)
	var issued struct{ ReferenceNumber, Token string }
	body := map[string]any{"permissions": []string{"InvoiceRead"}, "description": "Token testowy"}
	require.NoError(t, client.call(t.Context(), "POST", "/tokens", access, body, &issued))

	code, out, log = command(t, issued.Token+"\n", "login", "--url", url, "--ca", caFile)
	require.Equal(t, exitDone, code, log)
	require.Regexp(t, `^login accepted: \d{8}-AU-[0-9A-F-]{24}\n$`, out)

	require.NoError(t, client.call(t.Context(), "DELETE", "/tokens/"+issued.ReferenceNumber, access, nil, nil))
	code, out, _ = command(t, "", "login", "--url", url, "--ca", caFile, "--token", issued.Token)
	require.Equal(t, exitRefused, code)
	require.Equal(t, "login refused: 450 Uwierzytelnianie zakończone niepowodzeniem z powodu błędnego tokenu: "+
		"Token unieważniony\n", out)
}

func logInWithSignature(t *testing.T, client *api, pair tls.Certificate) string {
	t.Helper()
	var challenge struct{ Challenge string }
	require.NoError(t, client.call(t.Context(), "POST", "/auth/challenge", "", nil, &challenge))
	document, err := xadestest.Sign(xadestest.Request{
		Challenge: challenge.Challenge, Context: "<Nip>5265877635</Nip>", Layout: xadestest.CSharp(),
		Key: pair.PrivateKey.(crypto.Signer), Certificate: pair.Leaf, SigningTime: time.Now(),
	})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, client.url+"/auth/xades-signature",
		bytes.NewReader(document))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/xml")
	response, err := client.client.Do(request)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	require.Equal(t, http.StatusAccepted, response.StatusCode)
	var begun struct{ AuthenticationToken struct{ Token string } }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&begun))
	var tokens struct{ AccessToken struct{ Token string } }
	require.NoError(t, client.call(t.Context(), "POST", "/auth/token/redeem", begun.AuthenticationToken.Token, nil,
		&tokens))
	return tokens.AccessToken.Token
}

func TestServeEnrollmentDelayZero(t *testing.T) {
	certPEM, keyPEM, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: "5265877635"})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	client, err := newAPI(startServer(t, "--enrollment-delay", "0"), "")
	require.NoError(t, err)
	defer client.client.CloseIdleConnections()
	access := logInWithSignature(t, client, pair)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: pair.Leaf.RawSubject},
		pair.PrivateKey)
	require.NoError(t, err)
	body := map[string]any{"certificateName": "Certyfikat testowy", "certificateType": "Authentication", "csr": csr}
	var begun struct{ ReferenceNumber string }
	require.NoError(t, client.call(t.Context(), "POST", "/certificates/enrollments", access, body, &begun))
	var ended struct{ CertificateSerialNumber string }
	require.NoError(t, client.call(t.Context(), "GET", "/certificates/enrollments/"+begun.ReferenceNumber, access, nil,
		&ended))
	require.Regexp(t, "^[0-9A-F]{16}$", ended.CertificateSerialNumber)
}

func TestCertificatePeppolProvider(t *testing.T) {
	directory := t.TempDir()
	certFile, keyFile := filepath.Join(directory, "cert.pem"), filepath.Join(directory, "key.pem")
	code, out, log := command(t, "", "certificate", "--peppol-id", "PPL000001", "--out-cert", certFile, "--out-key",
		keyFile)
	require.Equal(t, exitDone, code, log)
	require.Equal(t, "PPL000001\n", out)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	require.Equal(t, "PPL000001", pair.Leaf.Subject.CommonName)
}

func TestServeGrantDelayZero(t *testing.T) {
	certPEM, keyPEM, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: "5265877635"})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	client, err := newAPI(startServer(t, "--grant-delay", "0"), "")
	require.NoError(t, err)
	defer client.client.CloseIdleConnections()
	access := logInWithSignature(t, client, pair)
	body := map[string]any{
		"subjectIdentifier": map[string]string{"type": "Nip",
			"value": "1111111111"}, "description": "Uprawnienie testowe",
		"permissions":    []any{map[string]any{"type": "InvoiceRead"}},
		"subjectDetails": map[string]string{"fullName": "Testowo"},
	}
	var begun struct{ ReferenceNumber string }
	require.NoError(t, client.call(t.Context(), "POST", "/permissions/entities/grants", access, body, &begun))
	var ended struct{ Status struct{ Code int } }
	require.NoError(t, client.call(t.Context(), "GET", "/permissions/operations/"+begun.ReferenceNumber, access, nil,
		&ended))
	require.Equal(t, http.StatusOK, ended.Status.Code)
}

func TestCertificateRandomNIP(t *testing.T) {
	directory := t.TempDir()
	certFile, keyFile := filepath.Join(directory, "cert.pem"), filepath.Join(directory, "key.pem")
	arguments := []string{"certificate", "--nip", "random", "--days", "7", "--out-cert", certFile, "--out-key", keyFile}
	code, out, log := command(t, "", arguments...)
	require.Equal(t, exitDone, code, log)
	require.Regexp(t, `^\d{10}\n$`, out)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().AddDate(0, 0, 7), pair.Leaf.NotAfter, time.Minute)

	code, _, log = command(t, "", arguments...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, log, "exists already")
	require.NoError(t, os.Remove(keyFile))
	code, _, _ = command(t, "", arguments...)
	require.Equal(t, exitFailed, code)
	require.NoFileExists(t, keyFile, "a key without its certificate must not stay behind")
}

func TestCommandLineInvalid(t *testing.T) {
	tests := map[string][]string{
		"a command is missing":                  {},
		"\"start\" is not known":                {"start"},
		"takes flags only":                      {"serve", "now"},
		"--tls needs --ca-out":                  {"serve", "--tls"},
		"are for --tls only":                    {"serve", "--tls-host", "localhost"},
		"--listen":                              {"serve", "--listen", "nowhere:x"},
		"use accepted, refused or expiring":     {"serve", "--tokens", "forbidden"},
		"--token-validity 0 is not valid":       {"serve", "--token-validity", "0"},
		"--access-token-lifetime 0 is not":      {"serve", "--access-token-lifetime", "0"},
		"lifetime of 9.999s is not valid":       {"serve", "--access-token-lifetime", "9999ms"},
		"15m1s is not valid: use 10s to 15m0s":  {"serve", "--access-token-lifetime", "901s"},
		"use 1 to 365":                          {"serve", "--token-validity", "366"},
		"use 204, 400 or 403":                   {"serve", "--delete-dead", "500"},
		"one of --nip, --pesel and --peppol-id": {"certificate", "--out-cert", "a", "--out-key", "b"},
		"--out-cert and --out-key":              {"certificate", "--nip", "random"},
		"--days 0": {"certificate", "--nip", "random", "--days", "0", "--out-cert", "a",
			"--out-key", "b"},
		"11 digits":                  {"certificate", "--pesel", "1", "--out-cert", "a", "--out-key", "b"},
		"not a KSeF token":           {"login", "--token", "hunter2"},
		"has no certificate in PEM":  {"login", "--token", "a|nip-1|b", "--ca", os.DevNull},
		"flag provided but not defi": {"login", "--user", "x"},
	}
	for text, arguments := range tests {
		t.Run(text, func(t *testing.T) {
			code, _, log := command(t, "", arguments...)
			require.Equal(t, exitFailed, code)
			require.Contains(t, log, text)
			require.NotContains(t, log, "hunter2")
		})
	}
}

func TestHelp(t *testing.T) {
	for _, arguments := range [][]string{{"help"}, {"serve", "-h"}, {"certificate", "-h"}, {"login", "-h"}} {
		code, out, log := command(t, "", arguments...)
		require.Equal(t, exitDone, code)
		require.NotEmpty(t, out+log)
	}
}
