// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"slices"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// The types of test subjects (SubjectType).
const (
	EnforcementAuthority = "EnforcementAuthority"
	VATGroup             = "VatGroup"
	LocalGovernment      = "JST"
)

// TestSubject is a taxpayer of the test data. Only the role of an enforcement authority has an
// effect here.
type TestSubject struct {
	Kind     string // "" for a subunit
	Subunits []string
}

// TestPerson is a person with a NIP, who owns the context of that NIP.
type TestPerson struct {
	PESEL    string
	Bailiff  bool
	Deceased bool
}

// TestSubjects are the subjects and persons of the test data, by NIP.
type TestSubjects struct {
	companies map[string]*TestSubject
	Persons   map[string]*TestPerson
	Created   map[string]time.Time     // the last createdDate of each NIP, also after removal
	Blocked   map[ksef.Identifier]bool // contexts in which logins end with 480
}

// HasCompany reports whether the subject or one of its subunits exists.
func (s *TestSubjects) HasCompany(nip string, made *TestSubject) bool {
	return slices.ContainsFunc(append([]string{nip}, made.Subunits...),
		func(each string) bool { return s.companies[each] != nil })
}

// AddCompany records a subject and its subunits.
func (s *TestSubjects) AddCompany(nip string, made *TestSubject) {
	s.companies[nip] = made
	for _, subunit := range made.Subunits {
		s.companies[subunit] = &TestSubject{}
	}
}

// RemoveCompany removes a subject and its subunits.
func (s *TestSubjects) RemoveCompany(nip string) {
	removed := s.companies[nip]
	if removed == nil {
		return
	}
	delete(s.companies, nip)
	for _, subunit := range removed.Subunits {
		delete(s.companies, subunit)
	}
}

// HasPerson reports whether the NIP or the PESEL belongs to a person.
func (s *TestSubjects) HasPerson(nip, pesel string) bool {
	for known, person := range s.Persons {
		if known == nip || person.PESEL == pesel {
			return true
		}
	}
	return false
}

// Deceased reports whether a subject is a deceased person.
func (s *TestSubjects) Deceased(subject ksef.Identifier) bool {
	if subject.Type == ksef.TypeNIP {
		person := s.Persons[subject.Value]
		return person != nil && person.Deceased
	}
	for _, person := range s.Persons {
		if subject == (ksef.Identifier{Type: ksef.TypePESEL, Value: person.PESEL}) {
			return person.Deceased
		}
	}
	return false
}

// Enforces reports whether a context has the role EnforcementAuthority or CourtBailiff.
func (s *TestSubjects) Enforces(context ksef.Identifier) bool {
	company, person := s.companies[context.NIP()], s.Persons[context.NIP()]
	return company != nil && company.Kind == EnforcementAuthority || person != nil && person.Bailiff
}

func newTestSubjects() TestSubjects {
	return TestSubjects{
		companies: map[string]*TestSubject{}, Persons: map[string]*TestPerson{},
		Created: map[string]time.Time{}, Blocked: map[ksef.Identifier]bool{},
	}
}
