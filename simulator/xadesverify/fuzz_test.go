// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator/xadestest"
	"vault-plugin-secrets-ksef/simulator/xadesverify"
)

// FuzzVerify checks that any input gives either a document or an *Error with a code.
func FuzzVerify(f *testing.F) {
	for _, layout := range layouts() {
		document := signed(f, request(f, layout, "ec"))
		f.Add([]byte(document))
		f.Add([]byte(strings.Replace(document, "5265877635", "<!-- -->", 1)))
	}
	f.Add([]byte(signed(f, request(f, xadestest.DSS(), "rsa"))))
	f.Add([]byte("<a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		document, err := xadesverify.Verify(data, time.Now(), time.Minute)
		if err == nil {
			if document.Content == nil || document.Certificate == nil || document.Content.Parent() != nil {
				t.Fatal("a verified document must have a root of its own and a certificate")
			}
			return
		}
		var refused *xadesverify.Error
		if !errors.As(err, &refused) || refused.Code == 0 || len(refused.Details) == 0 {
			t.Fatalf("not a refusal with a code and details: %v", err)
		}
	})
}
