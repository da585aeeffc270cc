// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"errors"
	"fmt"

	"vault-plugin-secrets-ksef/client"

	"software.sslmate.com/src/go-pkcs12"
)

const (
	remedyPKCS12         = "give a file, in base64, as made by: openssl pkcs12 -export -in certificate.pem -inkey private.key"
	remedyPKCS12Password = "give the password that was set when the file was made"
)

func (s Source) readPKCS12() (*material, error) {
	if len(s.PKCS12) == 0 {
		return nil, &client.InputError{Field: FieldPKCS12, Fault: "is missing, and its password is given", Remedy: remedyPKCS12}
	}
	file, err := readContainer(s.PKCS12, s.PKCS12Password)
	if err != nil {
		return nil, s.explainPKCS12(err)
	}
	if s.PKCS12Password != "" && !file.hasMAC {
		return nil, &client.InputError{Field: FieldPKCS12Password, Fault: "is given, but the file is not encrypted", Remedy: "leave it out, or give the encrypted file"}
	}
	found, err := file.open(s.PKCS12, s.PKCS12Password)
	if err != nil {
		return nil, s.explainPKCS12(err)
	}
	return found, nil
}

func (s Source) explainPKCS12(err error) error {
	wrongPassword := errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption)
	switch {
	case wrongPassword && s.PKCS12Password == "":
		return &client.InputError{Field: FieldPKCS12Password, Fault: "is missing, and the file is encrypted", Remedy: remedyPKCS12Password}
	case wrongPassword:
		return &client.InputError{Field: FieldPKCS12Password, Fault: "does not decrypt the file", Remedy: remedyPKCS12Password}
	default:
		return &client.InputError{Field: FieldPKCS12, Fault: fmt.Sprintf("cannot be read (%v)", err), Remedy: remedyPKCS12}
	}
}
