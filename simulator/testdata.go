// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// testSubjectEndpoints are the operations on test data. They need no login, as on TEST. By OpenAPI
// 2.7.0, blocking a context nevertheless has the limits of the group "other".
func (s *Simulator) testSubjectEndpoints() []endpoint {
	return []endpoint{
		{name: "POST /testdata/subject", scope: perClient, serve: s.createSubject},
		{name: "POST /testdata/subject/remove", scope: perClient, serve: s.removeSubject},
		{name: "POST /testdata/person", scope: perClient, serve: s.createPerson},
		{name: "POST /testdata/person/remove", scope: perClient, serve: s.removePerson},
		{name: "POST /testdata/permissions", scope: perClient, serve: s.grantTestPermissions},
		{name: "POST /testdata/permissions/revoke", scope: perClient, serve: s.revokeTestPermissions},
		{name: "POST /testdata/context/block", scope: perClient, group: limits.GroupOther, serve: s.blockContext},
		{name: "POST /testdata/context/unblock", scope: perClient, group: limits.GroupOther, serve: s.unblockContext},
		{name: "PUT /testdata/certificates/{serialNumber}", bearer: []string{jwt.Access}, serve: s.shortenCertificate},
	}
}

func alreadyExists() *apiError {
	return &apiError{Code: 30001, Description: "Podmiot lub uprawnienie już istnieje."}
}

// createdDate records when a subject was created: now by default. A NIP that is created again needs
// a later date. The caller holds the lock.
func (s *Simulator) createdDate(nip string, given, now time.Time) *apiError {
	last, known := s.store.Subjects.Created[nip]
	if known && !given.IsZero() && !given.After(last) {
		return badInput("Pole createdDate musi być późniejsze niż poprzednie.")
	}
	if given.IsZero() {
		given = now
	}
	s.store.Subjects.Created[nip] = given
	return nil
}

// subjectCreateRequest is SubjectCreateRequest.
type subjectCreateRequest struct {
	NIP      string `json:"subjectNip"`
	Type     string `json:"subjectType"`
	Subunits []struct {
		NIP         string `json:"subjectNip"`
		Description string `json:"description"`
	} `json:"subunits"`
	Description string  `json:"description"`
	CreatedDate *string `json:"createdDate"`
}

// check returns the subject and its creation date. The refusal of an enforcement authority with
// subunits is not documented; only the other two types are documented to have them.
func (r subjectCreateRequest) check() (*store.TestSubject, time.Time, *apiError) {
	var wrong fieldErrors
	wrong.nip("subjectNip", r.NIP)
	wrong.oneOf("subjectType", r.Type, []string{store.EnforcementAuthority, store.VATGroup, store.LocalGovernment})
	wrong.length("description", r.Description, minDescription, maxDescription)
	made := &store.TestSubject{Kind: r.Type}
	for i, subunit := range r.Subunits {
		wrong.nip(fmt.Sprintf("subunits[%d].subjectNip", i), subunit.NIP)
		wrong.length(fmt.Sprintf("subunits[%d].description", i), subunit.Description, minDescription, maxDescription)
		made.Subunits = append(made.Subunits, subunit.NIP)
	}
	if r.Type == store.EnforcementAuthority && len(r.Subunits) > 0 {
		wrong.add("Pole subunits jest niedozwolone dla typu %s.", store.EnforcementAuthority)
	}
	created := wrong.moment("createdDate", r.CreatedDate)
	return made, created, wrong.refusal()
}

// createSubject serves POST /testdata/subject.
func (s *Simulator) createSubject(req *request) response {
	var body subjectCreateRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	made, created, refused := body.check()
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store.Subjects.HasCompany(body.NIP, made) {
		return req.failed(alreadyExists())
	}
	if refused := s.createdDate(body.NIP, created, req.now); refused != nil {
		return req.failed(refused)
	}
	s.store.Subjects.AddCompany(body.NIP, made)
	return done()
}

// removeSubject serves POST /testdata/subject/remove. An unknown subject is accepted, because no
// code is documented for it.
func (s *Simulator) removeSubject(req *request) response {
	var body struct {
		NIP string `json:"subjectNip"`
	}
	return s.withNIP(req, &body, "subjectNip", &body.NIP, func(nip string) { s.store.Subjects.RemoveCompany(nip) })
}

// withNIP reads a request that names a NIP, and changes something under the lock.
func (s *Simulator) withNIP(req *request, body any, field string, nip *string, change func(nip string)) response {
	if refused := req.readJSON(body); refused != nil {
		return *refused
	}
	var wrong fieldErrors
	wrong.nip(field, *nip)
	if refused := wrong.refusal(); refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	change(*nip)
	return done()
}

// personCreateRequest is PersonCreateRequest.
type personCreateRequest struct {
	NIP         string  `json:"nip"`
	PESEL       string  `json:"pesel"`
	IsBailiff   *bool   `json:"isBailiff"`
	IsDeceased  bool    `json:"isDeceased"`
	Description string  `json:"description"`
	CreatedDate *string `json:"createdDate"`
}

func (r personCreateRequest) check() (time.Time, *apiError) {
	var wrong fieldErrors
	wrong.nip("nip", r.NIP)
	wrong.pattern("pesel", r.PESEL, ksef.PeselPattern)
	wrong.length("description", r.Description, minDescription, maxDescription)
	if r.IsBailiff == nil {
		wrong.add("Pole isBailiff jest wymagane.")
	}
	created := wrong.moment("createdDate", r.CreatedDate)
	return created, wrong.refusal()
}

// createPerson serves POST /testdata/person: the PESEL then owns the context of the NIP.
func (s *Simulator) createPerson(req *request) response {
	var body personCreateRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	created, refused := body.check()
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store.Subjects.HasPerson(body.NIP, body.PESEL) {
		return req.failed(alreadyExists())
	}
	if refused := s.createdDate(body.NIP, created, req.now); refused != nil {
		return req.failed(refused)
	}
	s.store.Subjects.Persons[body.NIP] = &store.TestPerson{PESEL: body.PESEL, Bailiff: *body.IsBailiff,
		Deceased: body.IsDeceased}
	s.store.Rights.Restrict(ksef.Identifier{Type: ksef.TypePESEL, Value: body.PESEL},
		ksef.Identifier{Type: ksef.TypeNIP, Value: body.NIP})
	return done()
}

// removePerson serves POST /testdata/person/remove: the person owns nothing then, and loses all
// grants to the NIP and the PESEL.
func (s *Simulator) removePerson(req *request) response {
	var body struct {
		NIP string `json:"nip"`
	}
	return s.withNIP(req, &body, "nip", &body.NIP, func(nip string) {
		removed := s.store.Subjects.Persons[nip]
		if removed == nil {
			return
		}
		delete(s.store.Subjects.Persons, nip)
		s.store.Rights.EndAll(ksef.Identifier{Type: ksef.TypeNIP, Value: nip}, req.now)
		s.store.Rights.EndAll(ksef.Identifier{Type: ksef.TypePESEL, Value: removed.PESEL}, req.now)
	})
}

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

// grantTestPermissions serves POST /testdata/permissions: grants by KSeF itself that take effect at
// once.
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

// revokeTestPermissions serves POST /testdata/permissions/revoke: the subject loses at once all its
// grants in the context, also those by other subjects.
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
	s.store.Rights.End(s.store.Rights.ByHolder[store.HolderInContext{Holder: *body.Authorized, Context: *body.Context}],
		req.now)
	return done()
}

// blockContext serves POST /testdata/context/block. It may be repeated (ksef2's test
// test_block_context_repeated).
func (s *Simulator) blockContext(req *request) response {
	return s.setBlocked(req, true)
}

// unblockContext serves POST /testdata/context/unblock.
func (s *Simulator) unblockContext(req *request) response {
	return s.setBlocked(req, false)
}

// setBlocked blocks or unblocks logins in a context. Existing sessions continue, because only
// logging in is documented to be blocked.
func (s *Simulator) setBlocked(req *request, blocked bool) response {
	var body struct {
		Context *ksef.Identifier `json:"contextIdentifier"`
	}
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	var wrong fieldErrors
	wrong.identifier("contextIdentifier", body.Context, ksef.TypeNIP, ksef.TypeInternalID, ksef.TypeNIPVatUE,
		ksef.TypePeppolID)
	if refused := wrong.refusal(); refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.Subjects.Blocked[*body.Context] = blocked
	return done()
}

// shortenCertificate serves PUT /testdata/certificates/{serialNumber}: KSeF then treats the
// certificate as expired from validTo on. The certificate itself does not change.
func (s *Simulator) shortenCertificate(req *request) response {
	serial := req.PathValue("serialNumber")
	if !serialPattern.MatchString(serial) {
		return req.failed(badSerial())
	}
	var body struct {
		ValidTo *string `json:"validTo"`
	}
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	var wrong fieldErrors
	validTo := wrong.moment("validTo", body.ValidTo)
	if body.ValidTo == nil {
		wrong.add("Pole validTo jest wymagane.")
	}
	if refused := wrong.refusal(); refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.Certificates.Find(serial, req.login.Identifier, req.now)
	switch {
	case found == nil:
		return req.failed(unknownCertificate())
	case validTo.After(found.ValidTo):
		return req.failed(badInput("Pole validTo nie może być późniejsze niż obecna data ważności certyfikatu."))
	}
	found.ValidTo = validTo
	return done()
}
