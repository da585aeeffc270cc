// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"errors"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"vault-plugin-secrets-ksef/internal/contract"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// conformance checks the exchanges of a test with KSeF's OpenAPI document, if KSEF_CONTRACTS names
// its folder.
type conformance struct {
	// faulty is set when a test makes responses go wrong. From then on only requests are checked.
	faulty atomic.Bool
}

// loadContract reads the document once for all tests, since that takes a second. It returns nil if
// no folder is named.
var loadContract = sync.OnceValues(func() (*contract.Contract, error) {
	folder := os.Getenv("KSEF_CONTRACTS")
	if folder == "" {
		return nil, nil
	}
	return contract.Load(folder)
})

func (j *conformance) Check(t TB, next http.Handler) http.Handler {
	document, err := loadContract()
	require.NoError(t, err)
	if document == nil {
		return next
	}
	return document.Middleware(next, func(err error) {
		if !j.isProvoked(err) {
			assert.NoError(t, err, "the exchange is not as KSeF's OpenAPI says")
		}
	})
}

// isProvoked reports whether a response is wrong because the test has made it so.
func (j *conformance) isProvoked(err error) bool {
	var disagreement *contract.Disagreement
	return errors.As(err, &disagreement) && disagreement.Status != 0 && j.faulty.Load()
}
