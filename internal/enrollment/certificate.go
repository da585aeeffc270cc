// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enrollment

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"vault-plugin-secrets-ksef/client"
)

// KSeF's bounds of a certificate's name, in characters (OpenAPI, EnrollCertificateRequest), and
// what of it is left to the user.
const (
	MinName  = 5
	longest  = 100
	markSize = 12
	MaxName  = longest - markSize - 1
)

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9_\- ąćęłńóśźżĄĆĘŁŃÓŚŹŻ]+$`)

// CheckName refuses a name that KSeF would refuse, with a *client.InputError that names the field.
func CheckName(field, name string) error {
	length := len([]rune(name))
	if length >= MinName && length <= MaxName && namePattern.MatchString(name) && name == strings.TrimSpace(name) {
		return nil
	}
	return &client.InputError{
		Field: field, Fault: "gives what cannot be the name of a KSeF certificate",
		Remedy: fmt.Sprintf("use %d to %d letters, digits, blanks, dashes and underscores", MinName, MaxName),
	}
}

// uniqueName ends with a mark, by which the certificate is found again.
func uniqueName(name string) string {
	var mark [markSize / 2]byte
	_, _ = rand.Read(mark[:]) // never fails
	return name + " " + hex.EncodeToString(mark[:])
}

// SerialNumber is a certificate's number as KSeF writes it.
func SerialNumber(certificate *x509.Certificate) string {
	return fmt.Sprintf("%016X", certificate.SerialNumber)
}

// Digest distinguishes certificates that have the same number.
func Digest(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:])
}

// serialPattern is what KSeF's serial numbers look like (OpenAPI, CertificateListItem).
var serialPattern = regexp.MustCompile(`^[0-9A-F]{16}$`)

// IsIssued says whether KSeF has issued the certificate: whether it returns the same one for the
// number. Another issuer's could have the number.
func IsIssued(ctx context.Context, api API, serial, digest string) (bool, error) {
	if !serialPattern.MatchString(serial) {
		return false, nil
	}
	found, err := api.RetrieveCertificate(ctx, serial)
	if errors.Is(err, client.ErrNoCertificate) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking KSeF for the certificate %s: %w", serial, err)
	}
	return Digest(found) == digest, nil
}

// Revoke revokes a certificate as superseded. One that KSeF does not know, or that has ended, is no
// failure.
func Revoke(ctx context.Context, api API, serial string) error {
	err := api.RevokeCertificate(ctx, serial, client.RevokedSuperseded)
	if err == nil || client.HasCode(err, client.CodeUnknownCertificate) || client.HasCode(err, client.CodeCertificateEnded) {
		return nil
	}
	return fmt.Errorf("revoking the certificate %s: %w", serial, err)
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
