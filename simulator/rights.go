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

// This file decides what a login may do. Its functions are called with the lock held.

// permissionsOf returns a subject's permissions in a context at a time; without any it may not log
// in there. A person (PESEL) who has never had a grant there has all permissions, unless grants are
// required.
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

// owns reports whether a subject is the context's taxpayer, by its NIP or by the PESEL of the
// person who has that NIP.
func (s *Simulator) owns(subject, context ksef.Identifier) bool {
	if subject.Owns(context) {
		return true
	}
	person := s.store.Subjects.Persons[context.NIP()]
	return person != nil && subject == ksef.Identifier{Type: ksef.TypePESEL, Value: person.PESEL}
}

// effectivePermissions returns a login's permissions at a time: those of its subject, under a token
// only those that the token has too. An access token keeps those of its issue.
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

// rightsFailure returns why a login fails for lack of rights at a time, or nil. A token fails too
// once the person who made it is deceased, which is a guess.
func (s *Simulator) rightsFailure(l *store.Login, at time.Time) *store.StatusInfo {
	switch {
	case s.store.Subjects.Blocked[l.Context]:
		return &store.StatusInfo{Code: 480, Description: "Uwierzytelnienie zablokowane",
			Details: []string{"Podejrzenie incydentu bezpieczeństwa. " +
				"Skontaktuj się z Ministerstwem Finansów przez formularz zgłoszeniowy."}}
	case s.store.Subjects.Deceased(l.Identifier):
		return &store.StatusInfo{Code: 470, Description: "Uwierzytelnianie zakończone niepowodzeniem",
			Details: []string{"Próba wykorzystania metod autoryzacyjnych osoby zmarłej"}}
	case len(s.effectivePermissions(l, at)) == 0:
		return &store.StatusInfo{Code: 415, Description: "Uwierzytelnianie zakończone niepowodzeniem",
			Details: []string{"Brak przypisanych uprawnień"}}
	}
	return nil
}

// lacksEnforcementRole reports whether the permissions need a context with the role of an
// enforcement authority or a bailiff, and this one has no such role.
func (s *Simulator) lacksEnforcementRole(context ksef.Identifier, permissions []string) bool {
	return slices.Contains(permissions, enforcementOperations) && !s.store.Subjects.Enforces(context)
}

// grantFailure returns how an operation that grants permissions in a context ends, or nil when it
// succeeds. EnforcementOperations without the role ends with 430 in the official test
// EnforcementOperationNegativeIntegrationTest. The other two are guesses from KSeF's texts: the
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

// revocationFailure returns how an operation that revokes a grant in the caller's context ends, or
// nil when it succeeds. The 400 for an unknown grant, one of another context and one that has ended
// is not documented. SubunitManage is enough only for grants made with it, which do not exist here.
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

// hasAny reports whether the access token has one of the permissions.
func (req *request) hasAny(permissions ...string) bool {
	return slices.ContainsFunc(permissions,
		func(permission string) bool { return slices.Contains(req.permissions, permission) })
}

// grantAll records the grants of the options, with KSeF as their author.
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
