// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"net/http"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// testdata prepares KSeF as its TEST environment allows: testdata path body.
func testdata(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: testdata path body")
	}
	request, err := http.NewRequest(http.MethodPost, ts.Getenv("KSEF_URL")+"/testdata/"+args[0], strings.NewReader(args[1])) //nolint:noctx // bounded by the client
	ts.Check(err)
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	ts.Check(err)
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		ts.Fatalf("testdata %s: %s", args[0], response.Status)
	}
}
