// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import "errors"

// UnclaimedError says that KSeF has made a token which nobody has received. The ledger sees to its
// end.
type UnclaimedError struct{ Err error }

func (e *UnclaimedError) Error() string { return e.Err.Error() }

func (e *UnclaimedError) Unwrap() error { return e.Err }

// IsSpent says of an error of Issue that the request may have cost one of KSeF's hourly requests
// for tokens: repeating it costs another.
func IsSpent(err error) bool {
	var lost *LostReplyError
	var unclaimed *UnclaimedError
	return errors.As(err, &lost) || errors.As(err, &unclaimed)
}
