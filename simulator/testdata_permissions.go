// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"fmt"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// testPermissionsRequest is TestDataPermissionsGrantRequest, and without permissions
// TestDataPermissionsRevokeRequest.
type testPermissionsRequest struct {
	Context     *ksef.Identifier `json:"contextIdentifier"`
	Authorized  *ksef.Identifier `json:"authorizedIdentifier"`
	Permissions []struct {
		Type        string `json:"permissionType"`
		Description string `json:"description"`
	} `json:"permissions"`
}

func (r testPermissionsRequest) checkIdentifiers() fieldErrors {
	var wrong fieldErrors
	wrong.identifier("contextIdentifier", r.Context, ksef.TypeNIP)
	wrong.identifier("authorizedIdentifier", r.Authorized, ksef.TypeNIP, ksef.TypePESEL, ksef.TypeFingerprint)
	return wrong
}

// grantTestPermissions is POST /testdata/permissions: grants that count at once, of KSeF itself.
func (s *Simulator) grantTestPermissions(req *request) response {
	var body testPermissionsRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	wrong := body.checkIdentifiers()
	types := make([]string, len(body.Permissions))
	for i, permission := range body.Permissions {
		types[i] = permission.Type
		wrong.length(fmt.Sprintf("permissions[%d].description", i), permission.Description, minDescription,
			maxDescription)
	}
	wrong.distinct("permissions", types, ksef.AllPermissions())
	if refused := wrong.refusal(); refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lacksEnforcementRole(*body.Context, types) {
		return req.failed(badInput("Pole permissions nie może zawierać %s: kontekst nie ma roli %s ani CourtBailiff.",
			enforcementOperations, store.EnforcementAuthority))
	}
	for _, permission := range body.Permissions {
		s.store.Rights.Add(&store.Grant{
			Holder: *body.Authorized, Context: *body.Context, Permission: permission.Type,
			Description: permission.Description, Author: ksef.System(), Starts: req.now,
		})
	}
	return done()
}

// revokeTestPermissions is POST /testdata/permissions/revoke: the subject loses at once all that it
// has in the context, other subjects' grants included.
func (s *Simulator) revokeTestPermissions(req *request) response {
	var body testPermissionsRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	if refused := body.checkIdentifiers().refusal(); refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.Rights.End(s.store.Rights.ByHolder[store.HolderInContext{Holder: *body.Authorized, Context: *body.Context}], req.now)
	return done()
}

// blockContext is POST /testdata/context/block. Blocking twice is no mistake (ksef2's test
// test_block_context_repeated).
func (s *Simulator) blockContext(req *request) response {
	return s.setBlocked(req, true)
}

// unblockContext is POST /testdata/context/unblock.
func (s *Simulator) unblockContext(req *request) response {
	return s.setBlocked(req, false)
}

// setBlocked decides whether logins in a context are turned away. Sessions go on: only logging in
// is documented to be blocked.
func (s *Simulator) setBlocked(req *request, blocked bool) response {
	var body struct {
		Context *ksef.Identifier `json:"contextIdentifier"`
	}
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	var wrong fieldErrors
	wrong.identifier("contextIdentifier", body.Context, ksef.TypeNIP, ksef.TypeInternalID, ksef.TypeNIPVatUE, ksef.TypePeppolID)
	if refused := wrong.refusal(); refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.Subjects.Blocked[*body.Context] = blocked
	return done()
}
