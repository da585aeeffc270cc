// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/base64"
	"runtime"
	"strings"
	"sync"
	"testing"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestExternalLoginCost uses the largest text that Vault accepts: 1 MiB.
func TestExternalLoginCost(t *testing.T) {
	WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		document := base64.StdEncoding.EncodeToString([]byte("<x>" + strings.Repeat("<a/>", 786<<10/4-2) + "</x>"))
		allocated := allocatedBy(func() {
			var requests sync.WaitGroup
			for range 10 {
				requests.Go(func() {
					response, err := m.Backend.HandleRequest(m.Ctx, &logical.Request{
						Operation: logical.UpdateOperation, Path: "login/complete", Storage: m.Storage,
						Data: map[string]any{"signed_request": document},
					})
					if err != nil || !response.IsError() {
						t.Error("the request must be refused")
					}
				})
			}
			requests.Wait()
		})
		t.Logf("%d KiB", allocated>>10)
		require.Less(t, allocated, uint64(32<<20))
	})
}

// allocatedBy is what do allocates in total, which is more than is in use at once.
func allocatedBy(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
