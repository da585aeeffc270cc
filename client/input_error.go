// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

// InputError is a user's mistake. It holds nothing secret.
type InputError struct {
	// Field is the one that should be changed.
	Field string
	// Fault says what is wrong with it, and Remedy what would be right.
	Fault, Remedy string
	// Cause is no part of the text; nil for none.
	Cause error
}

// Error reads "field: fault; remedy".
func (e *InputError) Error() string { return e.Field + ": " + e.Fault + "; " + e.Remedy }

func (e *InputError) Unwrap() error { return e.Cause }
