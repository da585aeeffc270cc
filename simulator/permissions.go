// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"net/http"
	"time"
)

// operationKept is how long the status of an operation can be asked for.
const operationKept = 30 * 24 * time.Hour

const permissionIDLength = 36

func (s *Simulator) permissionEndpoints() []endpoint {
	access := []string{accessJWT}
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

// permissionOperation grants permissions or takes one away. How it ends is decided when it is asked
// for, and takes effect when it ends.
type permissionOperation struct {
	reference string
	context   Identifier
	requested time.Time
	decided   time.Time   // when it stops being in progress
	failure   *statusInfo // nil when it succeeds
}

func (o *permissionOperation) status(now time.Time) statusInfo {
	switch {
	case now.Before(o.decided):
		return statusInfo{Code: 100, Description: "Operacja przyjęta do realizacji"}
	case o.failure != nil:
		return *o.failure
	}
	return statusInfo{Code: 200, Description: "Operacja zakończona sukcesem"}
}

// permissionOperationResponse is PermissionsOperationResponse.
type permissionOperationResponse struct {
	ReferenceNumber string `json:"referenceNumber"`
}

// beginOperation records an operation that ends after the delay. The caller holds the lock.
func (s *Simulator) startOperation(req *request, failure *statusInfo) (*permissionOperation, response) {
	started := &permissionOperation{
		reference: newReference(operationKind, req.now), context: req.login.context,
		requested: req.now, decided: req.now.Add(s.options.GrantDelay), failure: failure,
	}
	s.store.operations[started.reference] = started
	return started, accepted(permissionOperationResponse{started.reference})
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
	found := s.store.operations[reference]
	if found == nil || found.context != req.login.context {
		return req.failed(badInput("Operacja o numerze referencyjnym %s nie istnieje.", reference))
	}
	if !req.now.Before(found.requested.Add(operationKept)) {
		return req.failure(http.StatusGone, 0)
	}
	return ok(map[string]statusInfo{"status": found.status(req.now)})
}

// revokePermission is DELETE /permissions/common/grants/{permissionId}.
func (s *Simulator) revokePermission(req *request) response {
	id := req.PathValue("permissionId")
	if len(id) != permissionIDLength {
		return req.failed(badInput("Identyfikator uprawnienia musi mieć %d znaków.", permissionIDLength))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.rights.byID[id]
	operation, resp := s.startOperation(req, req.revocationFailure(found))
	if operation.failure == nil {
		s.store.rights.end([]*grant{found}, operation.decided)
	}
	return resp
}
