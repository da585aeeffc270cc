// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestExplain has a sentence for each code and status that the OpenAPI lists for an exchange of
// this client's.
func TestExplain(t *testing.T) {
	for _, code := range []int{
		9101, 9102, 9103, 9105, 21001, 21111, 21115, 21117, 21217, 21301, 21304, 21308, 21401, 21405, 21406, 21418, 21470,
		25001, 25002, 25003, 25004, 25005, 25006, 25007, 25008, 25009, 25010, 25011, 26001, 26002,
	} {
		refused := &APIError{Status: 400, Problems: []Problem{{Code: code}}}
		require.NotEmpty(t, refused.Explain(), code)
		require.Contains(t, refused.Error(), refused.Explain())
	}
	for _, status := range []int{401, 403, 410, 415, 429} {
		require.NotEmpty(t, (&APIError{Status: status}).Explain(), status)
	}
	for _, status := range []int{415, 425, 450, 460, 470, 480, 500, 550} {
		require.NotEmpty(t, loginRefusals[status], status)
	}
	require.Empty(t, (&APIError{Status: 400, Problems: []Problem{{Code: 1}}}).Explain())

	for code, want := range map[int]string{21001: "could not read the content", 21470: "public key", 21308: "has died"} {
		body := fmt.Sprintf(`{"errors":[{"code":%d,"description":"d"}]}`, code)
		_, err := newClient(t, &answering{status: 400, body: body}).SubmitXAdES(t.Context(), nil)
		require.ErrorContains(t, err, want)
	}
}

func TestIsTokenRevoked(t *testing.T) {
	refused := func(code int, details ...string) error {
		return fmt.Errorf("logging in: %w", &LoginError{Status: Status{Code: code, Details: details}})
	}
	require.True(t, IsTokenRevoked(refused(450, "Token unieważniony")))
	for _, other := range []error{
		nil, refused(450), refused(450, "Token nieaktywny"), refused(450, "Nieprawidłowy token"), refused(425, "Token unieważniony"),
		&APIError{Status: 400, Problems: []Problem{{Code: 21301, Description: "Token KSeF został unieważniony."}}},
	} {
		require.False(t, IsTokenRevoked(other), other)
	}
}
