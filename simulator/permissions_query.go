// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// partner is an identifier that has no value for some types: the author System and the target
// AllPartners.
type partner struct {
	Type  string `json:"type"`
	Value string `json:"value,omitempty"`
}

// grantFilter is PersonPermissionsQueryRequest, and in its first part
// PersonalPermissionsQueryRequest.
type grantFilter struct {
	Context *ksef.Identifier `json:"contextIdentifier"`
	Target  *partner         `json:"targetIdentifier"`
	Types   []string         `json:"permissionTypes"`
	State   *string          `json:"permissionState"`

	Author     *partner         `json:"authorIdentifier"`
	Authorized *ksef.Identifier `json:"authorizedIdentifier"`
	QueryType  string           `json:"queryType"`
}

const grantedInContext = "PermissionsGrantedInCurrentContext"

// checkPersonal validates the first part.
func (f grantFilter) checkPersonal(known []string) fieldErrors {
	var wrong fieldErrors
	if f.Context != nil {
		wrong.identifier("contextIdentifier", f.Context, ksef.TypeNIP, ksef.TypeInternalID)
	}
	if f.Target != nil && f.Target.Type != "AllPartners" {
		wrong.identifier("targetIdentifier", (*ksef.Identifier)(f.Target), ksef.TypeNIP, ksef.TypeInternalID)
	}
	for _, kind := range f.Types {
		wrong.oneOf("permissionTypes", kind, known)
	}
	if f.State != nil {
		wrong.oneOf("permissionState", *f.State, []string{"Active", "Inactive"})
	}
	return wrong
}

func (f grantFilter) check() *apiError {
	wrong := f.checkPersonal(ksef.AllPermissions())
	if f.Author != nil && f.Author.Type != ksef.System().Type {
		wrong.identifier("authorIdentifier", (*ksef.Identifier)(f.Author), ksef.TypeNIP, ksef.TypePESEL,
			ksef.TypeFingerprint)
	}
	if f.Authorized != nil {
		wrong.identifier("authorizedIdentifier", f.Authorized, ksef.TypeNIP, ksef.TypePESEL, ksef.TypeFingerprint)
	}
	wrong.oneOf("queryType", f.QueryType, []string{"PermissionsInCurrentContext", grantedInContext})
	return wrong.refusal()
}

// matchesPersonal reports whether the first part of the filter matches a grant in force. In the
// official tests of PersonPermission a direct grant has its own context as context and as target.
// Only indirect grants have other targets or can be inactive, and the simulator has none.
func (f grantFilter) matchesPersonal(g *store.Grant) bool {
	switch {
	case f.Context != nil && *f.Context != g.Context:
		return false
	case f.Target != nil && ksef.Identifier(*f.Target) != g.Context:
		return false
	case f.State != nil && *f.State != "Active":
		return false
	}
	return len(f.Types) == 0 || slices.Contains(f.Types, g.Permission)
}

func (f grantFilter) matches(g *store.Grant) bool {
	switch {
	case f.Author != nil && ksef.Identifier(*f.Author) != g.Author:
		return false
	case f.Authorized != nil && *f.Authorized != g.Holder:
		return false
	case f.QueryType == grantedInContext && g.Author == ksef.System():
		return false
	}
	return f.matchesPersonal(g)
}

// grantsInForce returns one page of the matching grants in force: latest start first, and by
// identifier within one start. The caller holds the lock.
func (s *Simulator) grantsInForce(now time.Time, size, number int, matches func(*store.Grant) bool) ([]*store.Grant,
	bool) {
	found := slices.DeleteFunc(slices.Clone(s.store.Rights.Grants), func(g *store.Grant) bool {
		return !g.InForce(now) || !matches(g)
	})
	slices.SortFunc(found, func(a, b *store.Grant) int {
		return cmp.Or(b.Starts.Compare(a.Starts), strings.Compare(a.ID, b.ID))
	})
	first := min(size*number, len(found))
	last := min(first+size, len(found))
	return found[first:last], last < len(found)
}

// grantItem is PersonalPermission, and part of PersonPermission.
type grantItem struct {
	ID                   string               `json:"id"`
	ContextIdentifier    *ksef.Identifier     `json:"contextIdentifier,omitempty"`
	AuthorizedIdentifier *ksef.Identifier     `json:"authorizedIdentifier,omitempty"`
	PermissionScope      string               `json:"permissionScope"`
	Description          string               `json:"description"`
	SubjectPersonDetails *store.PersonDetails `json:"subjectPersonDetails,omitempty"`
	SubjectEntityDetails *store.EntityDetails `json:"subjectEntityDetails,omitempty"`
	PermissionState      string               `json:"permissionState"`
	StartDate            timestamp            `json:"startDate"`
	CanDelegate          bool                 `json:"canDelegate"`
}

func grantItemOf(g *store.Grant) grantItem {
	return grantItem{
		ID: g.ID, PermissionScope: g.Permission, Description: g.Description,
		SubjectPersonDetails: g.Person, SubjectEntityDetails: g.Entity,
		PermissionState: "Active", StartDate: timestamp(g.Starts), CanDelegate: g.CanDelegate,
	}
}

// grantList is QueryPersonalPermissionsResponse and QueryPersonPermissionsResponse.
type grantList[Item any] struct {
	Permissions []Item `json:"permissions"`
	HasMore     bool   `json:"hasMore"`
}

// queryPersonalGrants serves POST /permissions/query/personal/grants: the caller's grants in its
// context as they are now, not as its access token has them (C# test TestDataE2ETests). An owner
// finds what others have granted to the company for their invoices. What it may do as the owner is
// not listed (ksef-api issue 369); 2.9.0 has OwnerPermissionScope for that.
func (s *Simulator) queryPersonalGrants(req *request) response {
	var filter grantFilter
	if refused := req.decodeOptional(&filter); refused != nil {
		return req.failed(refused)
	}
	size, number, refused := numberedPage(req.URL.Query(), maxPageSize)
	if refused != nil {
		return req.failed(refused)
	}
	if refused := filter.checkPersonal(append(ksef.AllPermissions(), "VatUeManage")).refusal(); refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	company := ksef.Identifier{Type: ksef.TypeNIP, Value: req.login.Context.NIP()}
	owner := s.owns(req.login.Identifier, req.login.Context)
	found, more := s.grantsInForce(req.now, size, number, func(g *store.Grant) bool {
		own := g.Holder == req.login.Identifier && g.Context == req.login.Context
		received := owner && g.Entity != nil && g.Holder == company
		return (own || received) && filter.matchesPersonal(g)
	})
	list := grantList[grantItem]{[]grantItem{}, more}
	for _, g := range found {
		item := grantItemOf(g)
		if g.Entity != nil {
			item.ContextIdentifier = &g.Context
		}
		if g.Holder != req.login.Identifier {
			item.AuthorizedIdentifier = &g.Holder
		}
		list.Permissions = append(list.Permissions, item)
	}
	return ok(list)
}

// personGrantItem is PersonPermission.
type personGrantItem struct {
	grantItem
	AuthorIdentifier partner `json:"authorIdentifier"`
}

// queryPersonsGrants serves POST /permissions/query/persons/grants: the grants in the caller's
// context. By its description PermissionsGrantedInCurrentContext lists what the caller has granted.
// In the official PersonPermissionIntegrationTest a delegate finds there what the owner has
// granted, so here it lists all grants but KSeF's own.
func (s *Simulator) queryPersonsGrants(req *request) response {
	var filter grantFilter
	if refused := req.readJSON(&filter); refused != nil {
		return *refused
	}
	size, number, refused := numberedPage(req.URL.Query(), maxPageSize)
	if refused == nil {
		refused = filter.check()
	}
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, more := s.grantsInForce(req.now, size, number, func(g *store.Grant) bool {
		return g.Context == req.login.Context && filter.matches(g)
	})
	list := grantList[personGrantItem]{[]personGrantItem{}, more}
	for _, g := range found {
		item := personGrantItem{grantItemOf(g), partner(g.Author)}
		item.AuthorizedIdentifier = &g.Holder
		list.Permissions = append(list.Permissions, item)
	}
	return ok(list)
}
