// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"encoding/base64"
	"net/http"

	"vault-plugin-secrets-ksef/simulator/internal/ca"
)

// publicKeyIDLength is the length of a SHA-256 in base64.
const publicKeyIDLength = 44

func unknownPublicKey(id string) *apiError {
	return &apiError{21470, "Przesłany identyfikator klucza jest nieznany lub wskazuje na wycofany klucz.",
		[]string{"Klucz o identyfikatorze " + id + " nie jest wspierany."}}
}

func (s *Simulator) securityEndpoints() []endpoint {
	return []endpoint{{name: "GET /security/public-key-certificates", scope: perClient, serve: s.publicKeyCertificates}}
}

// publicKeyCertificate is PublicKeyCertificate.
type publicKeyCertificate struct {
	Certificate   string    `json:"certificate"`
	CertificateID string    `json:"certificateId"`
	PublicKeyID   string    `json:"publicKeyId"`
	ValidFrom     timestamp `json:"validFrom"`
	ValidTo       timestamp `json:"validTo"`
	Usage         []string  `json:"usage"`
}

func describeKey(k ca.KeyPair, usage string) publicKeyCertificate {
	return publicKeyCertificate{
		base64.StdEncoding.EncodeToString(k.Certificate.Raw), ca.Digest(k.Certificate.Raw), k.PublicKeyID(),
		timestamp(k.Certificate.NotBefore), timestamp(k.Certificate.NotAfter), []string{usage},
	}
}

func (s *Simulator) publicKeyCertificates(req *request) response {
	keys, err := s.keys()
	if err != nil {
		return req.problemResponse(http.StatusInternalServerError, "Nie udało się utworzyć kluczy publicznych.")
	}
	return ok([]publicKeyCertificate{describeKey(keys.Invoices, "SymmetricKeyEncryption"),
		describeKey(keys.Token, "KsefTokenEncryption")})
}
