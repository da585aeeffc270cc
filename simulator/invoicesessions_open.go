// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// Lengths of what invoices are encrypted with (AES-256-CBC), in bytes.
const (
	symmetricKeyLength = 32
	vectorLength       = 16
)

// openInvoiceSessionRequest is OpenOnlineSessionRequest.
type openInvoiceSessionRequest struct {
	FormCode   *formCode       `json:"formCode"`
	Encryption *encryptionInfo `json:"encryption"`
}

// formCode is FormCode.
type formCode struct {
	SystemCode    string `json:"systemCode"`
	SchemaVersion string `json:"schemaVersion"`
	Value         string `json:"value"`
}

// encryptionInfo is EncryptionInfo.
type encryptionInfo struct {
	SymmetricKey string  `json:"encryptedSymmetricKey"`
	Vector       string  `json:"initializationVector"`
	PublicKeyID  *string `json:"publicKeyId"`
}

// knownFormCodes are those of OpenAPI 2.7.0.
func knownFormCodes() []formCode {
	return []formCode{
		{"FA (2)", "1-0E", "FA"}, {"FA (3)", "1-0E", "FA"}, {"PEF (3)", "2-1", "PEF"}, {"PEF_KOR (3)", "2-1", "PEF"},
		{"FA_RR (1)", "1-1E", "FA_RR"},
	}
}

// openInvoiceSession is POST /sessions/online. A key that cannot be decrypted is found out later at
// KSeF: the session's status says so.
func (s *Simulator) openInvoiceSession(req *request) response {
	var body openInvoiceSessionRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	encrypted, refused := body.read()
	if refused != nil {
		return req.failed(refused)
	}
	keys, err := s.keys()
	if err != nil {
		return req.problemResponse(http.StatusInternalServerError, "Nie udało się utworzyć kluczy publicznych.")
	}
	if id := body.Encryption.PublicKeyID; id != nil && *id != keys.Invoices.PublicKeyID() {
		return req.failed(unknownPublicKey(*id))
	}
	opened := &store.InvoiceSession{
		Reference: ksef.NewReference(ksef.InvoiceSessionKind, req.now),
		Context:   req.login.Context, Author: req.login.Identifier, Created: req.now,
	}
	key, err := rsa.DecryptOAEP(sha256.New(), nil, keys.Invoices.Private, encrypted, nil)
	if err != nil || len(key) != symmetricKeyLength {
		opened.Failure = &store.StatusInfo{Code: store.InvoiceSessionBadKey, Description: "Błąd odszyfrowania dostarczonego klucza"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.InvoiceSessions.Add(opened)
	return response{status: http.StatusCreated,
		body: openedInvoiceSession{opened.Reference, timestamp(opened.ValidUntil())}}
}

// openedInvoiceSession is OpenOnlineSessionResponse.
type openedInvoiceSession struct {
	ReferenceNumber string    `json:"referenceNumber"`
	ValidUntil      timestamp `json:"validUntil"`
}

// read returns the encrypted key.
func (r openInvoiceSessionRequest) read() ([]byte, *apiError) {
	var wrong fieldErrors
	switch {
	case r.FormCode == nil:
		wrong.notEmpty("formCode")
	case !slices.Contains(knownFormCodes(), *r.FormCode):
		wrong.add("Wskazany kod formularza nie jest wspierany.")
	}
	if r.Encryption == nil {
		wrong.notEmpty("encryption")
		return nil, wrong.refusal()
	}
	encrypted, err := base64.StdEncoding.DecodeString(r.Encryption.SymmetricKey)
	if err != nil || len(encrypted) == 0 {
		wrong.add("Pole encryption.encryptedSymmetricKey musi być zapisane w base64.")
	}
	vector, err := base64.StdEncoding.DecodeString(r.Encryption.Vector)
	if err != nil || len(vector) != vectorLength {
		wrong.add("Pole encryption.initializationVector musi mieć 16 bajtów zapisanych w base64.")
	}
	if id := r.Encryption.PublicKeyID; id != nil && len(*id) != publicKeyIDLength {
		wrong.add("Pole encryption.publicKeyId musi mieć %d znaki.", publicKeyIDLength)
	}
	return encrypted, wrong.refusal()
}
