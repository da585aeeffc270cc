// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"slices"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// enforcementOperations is a permission that only some contexts can give.
const enforcementOperations = "EnforcementOperations"

// This file decides who may do what. Its functions are called with the lock held.

// permissionsOf returns what a subject may do in a context at a time; nothing when it may not log
// in there. A person (PESEL) to whom nothing was ever granted there may do everything, unless
// grants are required.
func (s *Simulator) permissionsOf(subject, context ksef.Identifier, at time.Time) []string {
	if s.owns(subject, context) {
		return s.options.OwnerPermissions
	}
	granted, ever := s.store.Rights.Of(subject, context, at)
	if !ever && subject.Type == ksef.TypePESEL && !s.options.RequireGrants {
		return ksef.AllPermissions()
	}
	return granted
}

// owns tells whether a subject is the taxpayer whom a context is about: by its NIP, or by the PESEL
// of the person who has that NIP.
func (s *Simulator) owns(subject, context ksef.Identifier) bool {
	if subject.Owns(context) {
		return true
	}
	person := s.store.Subjects.Persons[context.NIP()]
	return person != nil && subject == ksef.Identifier{Type: ksef.TypePESEL, Value: person.PESEL}
}

// effectivePermissions returns what a login may do at a time: what its subject may, and under a
// token only what the token carries too. An access token keeps what it was issued with.
func (s *Simulator) effectivePermissions(l *store.Login, at time.Time) []string {
	permissions := s.permissionsOf(l.Identifier, l.Context, at)
	if l.Token == "" {
		return permissions
	}
	carried := s.store.Tokens[l.Token].Permissions
	return slices.DeleteFunc(slices.Clone(carried), func(permission string) bool {
		return !slices.Contains(permissions, permission)
	})
}

// rightsFailure is how a login ends that has no right to succeed at a time; nil for others. A token
// is of the person who made it, so it ends with that person's death too: that is a guess.
func (s *Simulator) rightsFailure(l *store.Login, at time.Time) *store.StatusInfo {
	switch {
	case s.store.Subjects.Blocked[l.Context]:
		return &store.StatusInfo{Code: 480, Description: "Uwierzytelnienie zablokowane",
			Details: []string{"Podejrzenie incydentu bezpieczeństwa. Skontaktuj się z Ministerstwem Finansów przez formularz zgłoszeniowy."}}
	case s.store.Subjects.Deceased(l.Identifier):
		return &store.StatusInfo{Code: 470, Description: "Uwierzytelnianie zakończone niepowodzeniem",
			Details: []string{"Próba wykorzystania metod autoryzacyjnych osoby zmarłej"}}
	case len(s.effectivePermissions(l, at)) == 0:
		return &store.StatusInfo{Code: 415, Description: "Uwierzytelnianie zakończone niepowodzeniem",
			Details: []string{"Brak przypisanych uprawnień"}}
	}
	return nil
}

// lacksEnforcementRole tells whether permissions are among those that only a context with the role
// of an enforcement authority or a bailiff can give, and it has none.
func (s *Simulator) lacksEnforcementRole(context ksef.Identifier, permissions []string) bool {
	return slices.Contains(permissions, enforcementOperations) && !s.store.Subjects.Enforces(context)
}

// grantFailure returns how an operation ends that grants permissions in a context; nil when it
// succeeds. EnforcementOperations without the role ends with 430 in the official test
// EnforcementOperationNegativeIntegrationTest. The other two ends are guesses by their texts: the
// owner has all permissions, and contexts of the European Union and of Peppol have other endpoints.
func (s *Simulator) grantFailure(holder, context ksef.Identifier, permissions []string) *store.StatusInfo {
	switch {
	case context.Type != ksef.TypeNIP && context.Type != ksef.TypeInternalID:
		return &store.StatusInfo{Code: 430,
			Description: "Kontekst identyfikatora nie odpowiada wymaganej roli lub uprawnieniom"}
	case s.lacksEnforcementRole(context, permissions):
		return &store.StatusInfo{Code: 430,
			Description: "Kontekst identyfikatora nie odpowiada wymaganej roli lub uprawnieniom"}
	case context.Type == ksef.TypeNIP && s.owns(holder, context):
		return &store.StatusInfo{Code: 450,
			Description: "Operacja niedozwolona dla wskazanego identyfikatora lub jego typu"}
	}
	return nil
}

// revocationFailure returns how an operation ends that takes a grant away in the caller's context; nil
// when it succeeds. That an unknown grant, one of another context and one that has ended end with
// 400 is not documented. SubunitManage is enough for what it has granted, and no grant here is.
func (req *request) revocationFailure(g *store.Grant) *store.StatusInfo {
	switch {
	case g == nil || g.Context != req.login.Context || !g.Ends.IsZero():
		return &store.StatusInfo{Code: 400, Description: "Operacja zakończona niepowodzeniem"}
	case !req.hasAny("CredentialsManage"):
		return &store.StatusInfo{Code: 420,
			Description: "Użyte poświadczenia nie mają uprawnień do wykonania tej operacji"}
	}
	return nil
}

// hasAny tells whether the access token carries one of the permissions.
func (req *request) hasAny(permissions ...string) bool {
	return slices.ContainsFunc(permissions,
		func(permission string) bool { return slices.Contains(req.permissions, permission) })
}

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
