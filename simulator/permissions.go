// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"net/http"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// operationKept is how long the status of an operation can be asked for.
const operationKept = 30 * 24 * time.Hour

const permissionIDLength = 36

func (s *Simulator) permissionEndpoints() []endpoint {
	access := []string{jwt.Access}
	return []endpoint{
		{name: "POST /permissions/persons/grants", bearer: access, requires: []string{"CredentialsManage"},
			serve: s.grantToPerson},
		{name: "POST /permissions/entities/grants", bearer: access, requires: []string{"CredentialsManage"},
			serve: s.grantToEntity},
		{name: "GET /permissions/operations/{referenceNumber}", bearer: access, serve: s.permissionOperationStatus},
		{
			name: "DELETE /permissions/common/grants/{permissionId}", bearer: access,
			requires: []string{"CredentialsManage", "VatUeManage", "SubunitManage"}, serve: s.revokePermission,
		},
		{name: "POST /permissions/query/personal/grants", bearer: access, serve: s.queryPersonalGrants},
		{
			name: "POST /permissions/query/persons/grants", bearer: access,
			requires: []string{"CredentialsManage", "CredentialsRead", "SubunitManage"}, serve: s.queryPersonsGrants,
		},
	}
}

// permissionOperationResponse is PermissionsOperationResponse.
type permissionOperationResponse struct {
	ReferenceNumber string `json:"referenceNumber"`
}

// startOperation records an operation that ends after the delay. The caller holds the lock.
func (s *Simulator) startOperation(req *request, failure *store.StatusInfo) (*store.PermissionOperation, response) {
	started := &store.PermissionOperation{
		Reference: ksef.NewReference(ksef.OperationKind, req.now), Context: req.login.Context,
		Requested: req.now, Decided: req.now.Add(s.options.GrantDelay), Failure: failure,
	}
	s.store.Operations[started.Reference] = started
	return started, accepted(permissionOperationResponse{started.Reference})
}

// permissionOperationStatus is GET /permissions/operations/{referenceNumber}. An operation is known
// in its own context, to everybody there: who may ask is not documented.
func (s *Simulator) permissionOperationStatus(req *request) response {
	reference, refused := req.reference()
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.Operations[reference]
	if found == nil || found.Context != req.login.Context {
		return req.failed(badInput("Operacja o numerze referencyjnym %s nie istnieje.", reference))
	}
	if !req.now.Before(found.Requested.Add(operationKept)) {
		return req.failure(http.StatusGone, 0)
	}
	return ok(map[string]store.StatusInfo{"status": found.Status(req.now)})
}

// revokePermission is DELETE /permissions/common/grants/{permissionId}.
func (s *Simulator) revokePermission(req *request) response {
	id := req.PathValue("permissionId")
	if len(id) != permissionIDLength {
		return req.failed(badInput("Identyfikator uprawnienia musi mieć %d znaków.", permissionIDLength))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.Rights.ByID[id]
	operation, resp := s.startOperation(req, req.revocationFailure(found))
	if operation.Failure == nil {
		s.store.Rights.End([]*store.Grant{found}, operation.Decided)
	}
	return resp
}
