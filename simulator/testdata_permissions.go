// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import "fmt"

// testPermissionsRequest is TestDataPermissionsGrantRequest, and without permissions
// TestDataPermissionsRevokeRequest.
type testPermissionsRequest struct {
	Context     *Identifier `json:"contextIdentifier"`
	Authorized  *Identifier `json:"authorizedIdentifier"`
	Permissions []struct {
		Type        string `json:"permissionType"`
		Description string `json:"description"`
	} `json:"permissions"`
}

func (r testPermissionsRequest) checkIdentifiers() fieldErrors {
	var wrong fieldErrors
	wrong.identifier("contextIdentifier", r.Context, TypeNIP)
	wrong.identifier("authorizedIdentifier", r.Authorized, TypeNIP, TypePESEL, TypeFingerprint)
	return wrong
}

// grantTestPermissions is POST /testdata/permissions: grants that count at once, of KSeF itself.
func (s *Simulator) grantTestPermissions(c *call) reply {
	var request testPermissionsRequest
	if refused := c.readJSON(&request); refused != nil {
		return *refused
	}
	wrong := request.checkIdentifiers()
	types := make([]string, len(request.Permissions))
	for i, permission := range request.Permissions {
		types[i] = permission.Type
		wrong.length(fmt.Sprintf("permissions[%d].description", i), permission.Description, minDescription, maxDescription)
	}
	wrong.distinct("permissions", types, allPermissions())
	if refused := wrong.refusal(); refused != nil {
		return c.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lacksEnforcementRole(*request.Context, types) {
		return c.failed(badInput("Pole permissions nie może zawierać %s: kontekst nie ma roli %s ani CourtBailiff.",
			enforcementOperations, enforcementAuthority))
	}
	for _, permission := range request.Permissions {
		s.store.rights.add(&grant{
			holder: *request.Authorized, context: *request.Context, permission: permission.Type,
			description: permission.Description, author: system(), begun: c.now,
		})
	}
	return done()
}

// revokeTestPermissions is POST /testdata/permissions/revoke: the subject loses at once all that it
// has in the context, other subjects' grants included.
func (s *Simulator) revokeTestPermissions(c *call) reply {
	var request testPermissionsRequest
	if refused := c.readJSON(&request); refused != nil {
		return *refused
	}
	if refused := request.checkIdentifiers().refusal(); refused != nil {
		return c.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.rights.end(s.store.rights.held[holding{*request.Authorized, *request.Context}], c.now)
	return done()
}

// blockContext is POST /testdata/context/block. Blocking twice is no mistake (ksef2's test
// test_block_context_repeated).
func (s *Simulator) blockContext(c *call) reply {
	return s.setBlocked(c, true)
}

// unblockContext is POST /testdata/context/unblock.
func (s *Simulator) unblockContext(c *call) reply {
	return s.setBlocked(c, false)
}

// setBlocked decides whether logins in a context are turned away. Sessions go on: only logging in
// is documented to be blocked.
func (s *Simulator) setBlocked(c *call, blocked bool) reply {
	var request struct {
		Context *Identifier `json:"contextIdentifier"`
	}
	if refused := c.readJSON(&request); refused != nil {
		return *refused
	}
	var wrong fieldErrors
	wrong.identifier("contextIdentifier", request.Context, TypeNIP, TypeInternalID, TypeNIPVatUE, TypePeppolID)
	if refused := wrong.refusal(); refused != nil {
		return c.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.subjects.blocked[*request.Context] = blocked
	return done()
}
