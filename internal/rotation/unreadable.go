// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// unreadableError says that the stored rotation cannot be read.
type unreadableError struct{ err error }

func (e *unreadableError) Error() string { return e.Unwrap().Error() }

// Unwrap returns what the user can do about it.
func (e *unreadableError) Unwrap() error {
	return &client.InputError{
		Field: "rotation", Fault: fmt.Sprintf("has a stored state that cannot be read (%v), so that it is not known whether one is in progress", e.err),
		Remedy: "give it up with: vault write <mount>/config force=rotation",
	}
}

func isUnreadable(err error) bool {
	var unreadable *unreadableError
	return errors.As(err, &unreadable)
}

// abandonUnreadable replaces the stored rotation by one that has ended.
func (r *Rotation) abandonUnreadable(ctx context.Context) (left string, err error) {
	left = "The rotation whose state could not be read was given up. If KSeF has issued a certificate for it, that is of no use: revoke it there."
	return left, r.save(ctx, &stored{Version: storedVersion, Last: &Outcome{At: time.Now().UTC(), Error: left}})
}
