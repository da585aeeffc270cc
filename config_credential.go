// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/credential"

	"github.com/hashicorp/vault/sdk/framework"
)

// writtenCredential is the part of the signing credential that a write gives.
type writtenCredential struct {
	// whole is a certificate with its key; nil where there is none.
	whole *credential.Credential
	// certificates are given without a key: they must be those in force.
	certificates []*x509.Certificate
}

// readCredential reads the credential from the fields. That can take a second, so it is done before
// anything is locked, and for one request at a time.
func (b *backend) readCredential(ctx context.Context, data *framework.FieldData) (writtenCredential, error) {
	given := func(field string) bool { _, is := data.Raw[field]; return is }
	if !slices.ContainsFunc(credentialFields(), given) {
		return writtenCredential{}, nil
	}
	if err := b.parsing.Acquire(ctx, 1); err != nil {
		return writtenCredential{}, fmt.Errorf("waiting for another credential that is being read: %w", err)
	}
	defer b.parsing.Release(1)
	if given(credential.FieldCertificate) && !slices.ContainsFunc(credentialFields()[1:], given) {
		certificates, err := credential.ReadCertificates(data.Get(credential.FieldCertificate).(string))
		return writtenCredential{certificates: certificates}, err
	}
	source := credential.Source{
		Certificate:        data.Get(credential.FieldCertificate).(string),
		PrivateKey:         data.Get(credential.FieldPrivateKey).(string),
		PrivateKeyPassword: password(data, credential.FieldPrivateKeyPassword),
		PKCS12Password:     password(data, credential.FieldPKCS12Password),
	}
	if raw := data.Get(credential.FieldPKCS12).(string); raw != "" {
		decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(raw), ""))
		if err != nil {
			return writtenCredential{}, &client.InputError{Field: "pkcs12", Fault: "is not base64", Remedy: "give the output of: base64 -w0 file.p12"}
		}
		source.PKCS12 = decoded
	}
	whole, err := credential.Read(source)
	return writtenCredential{whole: whole}, err
}

// credentialFields replace the credential as a whole.
func credentialFields() []string {
	return []string{
		credential.FieldCertificate, credential.FieldPrivateKey, credential.FieldPrivateKeyPassword,
		credential.FieldPKCS12, credential.FieldPKCS12Password,
	}
}

// password removes the end of the line that an editor adds to a file.
func password(data *framework.FieldData, field string) string {
	return strings.TrimSuffix(strings.TrimSuffix(data.Get(field).(string), "\n"), "\r")
}

// applyCredential leaves a configuration without a credential to externally signed logins. The
// credential in force, given again, changes nothing.
func applyCredential(next *config, given writtenCredential) error {
	if given.whole == nil {
		cred, err := next.credential()
		if err == nil && len(given.certificates) > 0 && !cred.Consists(given.certificates) {
			err = &client.InputError{
				Field: credential.FieldPrivateKey, Fault: "is missing, and certificate is not the one in force",
				Remedy: "give the key that certificate was issued for, or leave certificate out",
			}
		}
		return err
	}
	certificate, key, err := given.whole.PEM()
	if err != nil {
		return err
	}
	if certificate != next.Certificate {
		if err := given.whole.CheckValidity(time.Now()); err != nil {
			return err
		}
		next.SubjectIdentifierType, next.CertificateMade = given.whole.Identity.SubjectIdentifierType(), false
	}
	next.Certificate, next.PrivateKey = certificate, key
	return nil
}
