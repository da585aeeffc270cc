// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// PermissionOperation grants or revokes permissions. Its outcome is decided at the request, and
// takes effect when it ends.
type PermissionOperation struct {
	Reference string
	Context   ksef.Identifier
	Requested time.Time
	Decided   time.Time   // when it stops being in progress
	Failure   *StatusInfo // nil when it succeeds
}

// Status returns the status at a time.
func (o *PermissionOperation) Status(now time.Time) StatusInfo {
	switch {
	case now.Before(o.Decided):
		return StatusInfo{Code: 100, Description: "Operacja przyjęta do realizacji"}
	case o.Failure != nil:
		return *o.Failure
	}
	return StatusInfo{Code: 200, Description: "Operacja zakończona sukcesem"}
}
