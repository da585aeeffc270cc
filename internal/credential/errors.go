// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import "errors"

// The fields of a credential.
const (
	FieldCertificate        = "certificate"
	FieldPrivateKey         = "private_key"
	FieldPrivateKeyPassword = "private_key_password"
	FieldPKCS12             = "pkcs12"
	FieldPKCS12Password     = "pkcs12_password"
)

// ErrNotYetValid is returned for a certificate before the start of its validity. KSeF has issued
// some that start one or two hours late, with local time marked as UTC (KSeF issue 160), so that
// waiting can help.
var ErrNotYetValid = errors.New("the certificate is not valid yet")
