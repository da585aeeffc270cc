// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// grantAll records the grants of the options. KSeF itself is their author.
func (s *Simulator) grantAll(grants []Grant, now time.Time) {
	for _, given := range grants {
		s.store.Rights.Restrict(given.Identifier, given.Context)
		for _, permission := range given.Permissions {
			s.store.Rights.Add(&store.Grant{
				Holder: given.Identifier, Context: given.Context, Permission: permission,
				Description: "Nadane przy uruchomieniu", Author: ksef.System(), Starts: now,
			})
		}
	}
}
