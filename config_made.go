// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/credential"
)

// guardCertificate refuses to replace a certificate that the engine has made, unless that is agreed
// to: a document that is written again after each rotation would undo it. next is nil for a
// deletion, which needs no consent. The text is a warning of what stays in KSeF. The caller holds
// the rotation.
func (b *backend) guardCertificate(ctx context.Context, current, next *config, agreed bool) (warning string, err error) {
	if current == nil || (next != nil && next.Certificate == current.Certificate) {
		return "", nil
	}
	serial, err := b.madeCertificate(ctx, current)
	if err != nil || serial == "" {
		return "", err
	}
	if agreed || next == nil {
		return "The certificate " + serial + ", which the engine had made, is no longer used and stays active in KSeF: revoke it there.", nil
	}
	return "", &client.InputError{
		Field: credential.FieldCertificate, Fault: "is not the one in force, " + serial + ", which the engine has made: to write another puts that out of use, and leaves it active in KSeF",
		Remedy: "leave certificate, private_key and pkcs12 out, or " + consentCertificate.remedy(),
	}
}

// madeCertificate returns the serial number of the certificate in force if the engine has made it,
// "" otherwise. Where an older version has stored the configuration, the rotation's record tells.
func (b *backend) madeCertificate(ctx context.Context, current *config) (serial string, err error) {
	cred, err := current.credential()
	if err != nil || cred == nil {
		return "", nil //nolint:nilerr // an unreadable credential protects nothing
	}
	serial = serialNumber(cred)
	if current.CertificateMade {
		return serial, nil
	}
	state, err := b.rotation.State(ctx)
	if err != nil || state.Made != serial {
		return "", err
	}
	return serial, nil
}
