// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a string that must not be seen: a KSeF token, a JWT. It prints, formats, logs and
// marshals as a placeholder; Reveal gives the string itself.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string { return redacted }

// Format keeps every verb from showing the secret, %#v too.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText keeps encoders from showing the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue keeps structured logs from showing the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
