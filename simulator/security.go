// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"time"
)

// PublicKeys are the two key pairs of the Ministry: one for tokens, one for the keys of invoices.
// They are made when first asked for.
type PublicKeys struct {
	Token, Invoices KeyPair
}

// publicKeyIDLength is that of a SHA-256 in base64.
const publicKeyIDLength = 44

type KeyPair struct {
	Private     *rsa.PrivateKey
	Certificate *x509.Certificate
}

func NewPublicKeys(now time.Time) (PublicKeys, error) {
	token, err := newKeyPair(1, now)
	if err != nil {
		return PublicKeys{}, err
	}
	invoices, err := newKeyPair(2, now)
	return PublicKeys{token, invoices}, err
}

// newKeyPair makes a key pair that has begun by the simulator's clock and by that of its clients,
// and is good as long as the authority of certificates: KSeF puts new keys in the place of old
// ones, the simulator does not.
func newKeyPair(serial int64, now time.Time) (KeyPair, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return KeyPair{}, fmt.Errorf("make a public key: %w", err)
	}
	begin := now
	if clients := time.Now(); clients.Before(now) {
		begin = clients
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject: pkix.Name{Country: []string{"PL"}, Organization: []string{"Symulator KSeF"},
			CommonName: "Symulator KSeF"},
		NotBefore: begin.AddDate(0, 0, -1), NotAfter: now.AddDate(authorityYears, 0, 0),
		KeyUsage: x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("make the certificate of a public key: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	return KeyPair{key, certificate}, err
}

func (k KeyPair) PublicKeyID() string {
	return Digest(k.Certificate.RawSubjectPublicKeyInfo)
}

func unknownPublicKey(id string) *apiError {
	return &apiError{21470, "Przesłany identyfikator klucza jest nieznany lub wskazuje na wycofany klucz.",
		[]string{"Klucz o identyfikatorze " + id + " nie jest wspierany."}}
}

func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(sum[:])
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

func describeKey(k KeyPair, usage string) publicKeyCertificate {
	return publicKeyCertificate{
		base64.StdEncoding.EncodeToString(k.Certificate.Raw), Digest(k.Certificate.Raw), k.PublicKeyID(),
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
