// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"net/http"
	"regexp"
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

// permissionOperationStatus serves GET /permissions/operations/{referenceNumber}. Every login in
// the operation's context may read it. Who may do so at KSeF is not documented.
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

// revokePermission serves DELETE /permissions/common/grants/{permissionId}.
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

// Lengths of names, in characters.
const (
	minName       = 2
	maxFirstName  = 30
	maxLastName   = 81
	minEntityName = 5
	maxEntityName = 90
)

var countryPattern = regexp.MustCompile("^[A-Z]{2}$")

// describedPerson is PersonDetails, PersonByFingerprintWithIdentifierDetails and
// PersonByFingerprintWithoutIdentifierDetails.
type describedPerson struct {
	FirstName  string            `json:"firstName"`
	LastName   string            `json:"lastName"`
	Identifier *ksef.Identifier  `json:"identifier"`
	BirthDate  string            `json:"birthDate"`
	IDDocument *store.IDDocument `json:"idDocument"`
}

// personGrantRequest is PersonPermissionsGrantRequest.
type personGrantRequest struct {
	SubjectIdentifier *ksef.Identifier `json:"subjectIdentifier"`
	Permissions       []string         `json:"permissions"`
	Description       string           `json:"description"`
	SubjectDetails    *struct {
		Type          string           `json:"subjectDetailsType"`
		ByID          *describedPerson `json:"personById"`
		ByFingerprint *describedPerson `json:"personByFpWithId"`
		WithoutID     *describedPerson `json:"personByFpNoId"`
	} `json:"subjectDetails"`
}

// grantToPerson serves POST /permissions/persons/grants. CredentialsManage is enough to grant also
// what the caller lacks (official test PersonPermissionIntegrationTest).
func (s *Simulator) grantToPerson(req *request) response {
	var body personGrantRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	details, refused := body.check()
	if refused != nil {
		return req.failed(refused)
	}
	var grants []*store.Grant
	for _, permission := range body.Permissions {
		grants = append(grants, &store.Grant{Permission: permission, Description: body.Description, Person: details})
	}
	return s.grant(req, *body.SubjectIdentifier, grants)
}

func (r personGrantRequest) check() (*store.PersonDetails, *apiError) {
	var wrong fieldErrors
	wrong.identifier("subjectIdentifier", r.SubjectIdentifier, ksef.TypeNIP, ksef.TypePESEL, ksef.TypeFingerprint)
	wrong.distinct("permissions", r.Permissions, ksef.AllPermissions())
	wrong.length("description", r.Description, minDescription, maxDescription)
	if r.SubjectDetails == nil {
		wrong.add("Pole subjectDetails jest wymagane.")
		return nil, wrong.refusal()
	}
	described := map[string]struct {
		field  string
		person *describedPerson
	}{
		"PersonByIdentifier":                   {"personById", r.SubjectDetails.ByID},
		"PersonByFingerprintWithIdentifier":    {"personByFpWithId", r.SubjectDetails.ByFingerprint},
		"PersonByFingerprintWithoutIdentifier": {"personByFpNoId", r.SubjectDetails.WithoutID},
	}
	kind := r.SubjectDetails.Type
	chosen, known := described[kind]
	switch {
	case !known:
		wrong.add("Pole subjectDetails.subjectDetailsType ma nieznaną wartość %q.", kind)
		return nil, wrong.refusal()
	case chosen.person == nil:
		wrong.add("Pole subjectDetails.%s jest wymagane.", chosen.field)
		return nil, wrong.refusal()
	}
	details := chosen.person.check(kind, "subjectDetails."+chosen.field+".", &wrong)
	return details, wrong.refusal()
}

// check validates the fields of the type of details, and ignores the rest.
func (p describedPerson) check(kind, field string, wrong *fieldErrors) *store.PersonDetails {
	details := &store.PersonDetails{Type: kind, FirstName: p.FirstName, LastName: p.LastName}
	wrong.length(field+"firstName", p.FirstName, minName, maxFirstName)
	wrong.length(field+"lastName", p.LastName, minName, maxLastName)
	switch kind {
	case "PersonByFingerprintWithIdentifier":
		wrong.identifier(field+"identifier", p.Identifier, ksef.TypeNIP, ksef.TypePESEL)
		details.Identifier = p.Identifier
	case "PersonByFingerprintWithoutIdentifier":
		if _, err := time.Parse(time.DateOnly, p.BirthDate); err != nil {
			wrong.add("Pole %sbirthDate nie jest datą.", field)
		}
		checkIDDocument(p.IDDocument, field+"idDocument", wrong)
		details.BirthDate, details.IDDocument = p.BirthDate, p.IDDocument
	}
	return details
}

func checkIDDocument(d *store.IDDocument, field string, wrong *fieldErrors) {
	if d == nil {
		wrong.add("Pole %s jest wymagane.", field)
		return
	}
	wrong.length(field+".type", d.Type, 1, 20)
	wrong.length(field+".number", d.Number, 1, 20)
	wrong.pattern(field+".country", d.Country, countryPattern)
}

// entityPermission is EntityPermission.
type entityPermission struct {
	Type        string `json:"type"`
	CanDelegate bool   `json:"canDelegate"`
}

// entityGrantRequest is EntityPermissionsGrantRequest.
type entityGrantRequest struct {
	SubjectIdentifier *ksef.Identifier   `json:"subjectIdentifier"`
	Permissions       []entityPermission `json:"permissions"`
	Description       string             `json:"description"`
	SubjectDetails    *struct {
		FullName string `json:"fullName"`
	} `json:"subjectDetails"`
}

// grantToEntity serves POST /permissions/entities/grants.
func (s *Simulator) grantToEntity(req *request) response {
	var body entityGrantRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	if refused := body.check(); refused != nil {
		return req.failed(refused)
	}
	details := &store.EntityDetails{Type: "EntityByIdentifier", FullName: body.SubjectDetails.FullName}
	var grants []*store.Grant
	for _, permission := range body.Permissions {
		grants = append(grants, &store.Grant{
			Permission: permission.Type, CanDelegate: permission.CanDelegate,
			Description: body.Description, Entity: details,
		})
	}
	return s.grant(req, *body.SubjectIdentifier, grants)
}

func (r entityGrantRequest) check() *apiError {
	var wrong fieldErrors
	wrong.identifier("subjectIdentifier", r.SubjectIdentifier, ksef.TypeNIP)
	types := make([]string, len(r.Permissions))
	for i, permission := range r.Permissions {
		types[i] = permission.Type
	}
	wrong.distinct("permissions", types, []string{"InvoiceWrite", "InvoiceRead"})
	wrong.length("description", r.Description, minDescription, maxDescription)
	if r.SubjectDetails == nil {
		wrong.add("Pole subjectDetails jest wymagane.")
	} else {
		wrong.length("subjectDetails.fullName", r.SubjectDetails.FullName, minEntityName, maxEntityName)
	}
	return wrong.refusal()
}

// grant starts the operation that gives a subject permissions in the caller's context.
func (s *Simulator) grant(req *request, holder ksef.Identifier, grants []*store.Grant) response {
	var permissions []string
	for _, g := range grants {
		permissions = append(permissions, g.Permission)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	operation, resp := s.startOperation(req, s.grantFailure(holder, req.login.Context, permissions))
	if operation.Failure != nil {
		return resp
	}
	for _, g := range grants {
		g.Holder, g.Context, g.Author, g.Starts = holder, req.login.Context, req.login.Identifier, operation.Decided
		s.store.Rights.Add(g)
	}
	return resp
}
