// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// askVault sends one request without Vault's client, and prints the status, the headers and the
// body: ask-vault METHOD path [body]
func askVault(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: ask-vault METHOD path [body]")
	}
	request, err := http.NewRequest(args[0], ts.Getenv("VAULT_ADDR")+"/v1/"+args[1], strings.NewReader(strings.Join(args[2:], " "))) //nolint:noctx // bounded by the client
	ts.Check(err)
	request.Header.Set("X-Vault-Token", ts.Getenv("VAULT_TOKEN"))
	response, err := (&http.Client{Timeout: time.Minute}).Do(request)
	ts.Check(err)
	defer response.Body.Close()
	_, err = fmt.Fprintf(ts.Stdout(), "HTTP %d\n", response.StatusCode)
	ts.Check(err)
	ts.Check(response.Header.Write(ts.Stdout()))
	_, err = io.Copy(ts.Stdout(), response.Body)
	ts.Check(err)
}
