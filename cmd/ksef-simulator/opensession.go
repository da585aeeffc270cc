// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Sizes of the key and vector of invoice encryption, in bytes: AES-256-CBC (OpenAPI,
// EncryptionInfo).
const (
	symmetricKeySize = 32
	vectorSize       = 16
)

// openSession logs in with a KSeF token, opens an invoice session and closes it.
func openSession(ctx context.Context, arguments []string, in io.Reader, out, log io.Writer) error {
	api, opened, err := logInWithToken(ctx, "open-session", arguments, in, out, log)
	if err != nil {
		return err
	}
	reference, err := api.openInvoiceSession(ctx, opened.access)
	var refused *statusError
	if errors.As(err, &refused) && refused.status == http.StatusForbidden {
		_, err := fmt.Fprintf(out, "invoice session refused: %s\n", refused.missing())
		return errors.Join(errRefused, err)
	}
	if err != nil {
		return err
	}
	if err := api.call(ctx, "POST", "/sessions/online/"+reference+"/close", opened.access, nil, nil); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "invoice session opened and closed: %s\n", reference)
	return err
}

// openInvoiceSession opens a session for invoices of the form FA (3) and returns its reference
// number.
func (a *api) openInvoiceSession(ctx context.Context, access string) (string, error) {
	key, keyID, err := a.publicKey(ctx, "SymmetricKeyEncryption")
	if err != nil {
		return "", err
	}
	symmetric, vector := make([]byte, symmetricKeySize), make([]byte, vectorSize)
	_, _ = rand.Read(symmetric) // crypto/rand.Read never returns an error
	_, _ = rand.Read(vector)
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key, symmetric, nil)
	if err != nil {
		return "", fmt.Errorf("encrypt the key of the session: %w", err)
	}
	request := map[string]any{
		"formCode": map[string]string{"systemCode": "FA (3)", "schemaVersion": "1-0E", "value": "FA"},
		"encryption": map[string]any{"encryptedSymmetricKey": encrypted, "initializationVector": vector,
			"publicKeyId": keyID},
	}
	var begun struct{ ReferenceNumber string }
	err = a.call(ctx, "POST", "/sessions/online", access, request, &begun)
	return begun.ReferenceNumber, err
}

// missing returns the permissions that a refusal names (OpenAPI, ForbiddenProblemDetails).
func (e *statusError) missing() string {
	var problem struct {
		Detail   string
		Security struct{ RequiredAnyOfPermissions, PresentPermissions []string }
	}
	if json.Unmarshal(e.body, &problem) != nil || len(problem.Security.RequiredAnyOfPermissions) == 0 {
		return e.Error()
	}
	return fmt.Sprintf("%d %s It asks for one of %s; the token has %s.", e.status, problem.Detail,
		strings.Join(problem.Security.RequiredAnyOfPermissions, ", "), strings.Join(problem.Security.PresentPermissions,
			", "))
}
