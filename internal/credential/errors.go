// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import "errors"

// The names of the fields in which a credential is given.
const (
	FieldCertificate        = "certificate"
	FieldPrivateKey         = "private_key"
	FieldPrivateKeyPassword = "private_key_password"
	FieldPKCS12             = "pkcs12"
	FieldPKCS12Password     = "pkcs12_password"
)

// ErrNotYetValid is a certificate whose time has not come. KSeF has issued some that begin one or
// two hours late, since their start was local time marked as UTC (KSeF issue 160), so waiting may
// be the right answer.
var ErrNotYetValid = errors.New("the certificate is not valid yet")
