// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// String shows the certificate's kind and serial number, neither the key nor the holder.
func (c Credential) String() string {
	if c.Certificate == nil {
		return "no credential"
	}
	return fmt.Sprintf("%s certificate %X with private key %s", c.Identity.Kind, c.Certificate.SerialNumber, redacted)
}

// Format keeps every verb, %#v included, from showing the key.
func (c Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue keeps structured logs from showing the key.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON returns the identity, with a placeholder for the key. PEM returns the credential
// itself.
func (c Credential) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Identity
		PrivateKey string `json:"private_key"`
	}{c.Identity, redacted})
}

// String shows nothing of a source, which has keys and passwords.
func (s Source) String() string { return redacted }

// Format keeps every verb, %#v included, from showing keys and passwords.
func (s Source) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue keeps structured logs from showing keys and passwords.
func (s Source) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON keeps encoders from showing keys and passwords.
func (s Source) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }
