// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"slices"
	"time"
)

const enforcementOperations = "EnforcementOperations"

// The types of test subjects (SubjectType).
const (
	enforcementAuthority = "EnforcementAuthority"
	vatGroup             = "VatGroup"
	localGovernment      = "JST"
)

// testSubject is a taxpayer that the test data describe. Only the role of an enforcement authority
// has an effect here.
type testSubject struct {
	kind     string // "" for a subunit
	subunits []string
}

// testPerson is a person who has a NIP, and so owns the context of that NIP.
type testPerson struct {
	pesel    string
	bailiff  bool
	deceased bool
}

// testSubjects are the subjects and persons of the test data, by NIP.
type testSubjects struct {
	companies map[string]*testSubject
	persons   map[string]*testPerson
	created   map[string]time.Time // the last createdDate of a NIP, kept when it is removed
	blocked   map[Identifier]bool  // contexts in which logins end with 480
}

func newTestSubjects() testSubjects {
	return testSubjects{
		companies: map[string]*testSubject{}, persons: map[string]*testPerson{},
		created: map[string]time.Time{}, blocked: map[Identifier]bool{},
	}
}

// hasCompany tells whether the subject or one of its subunits exists.
func (s *testSubjects) hasCompany(nip string, made *testSubject) bool {
	return slices.ContainsFunc(append([]string{nip}, made.subunits...),
		func(each string) bool { return s.companies[each] != nil })
}

// addCompany records a subject and its subunits.
func (s *testSubjects) addCompany(nip string, made *testSubject) {
	s.companies[nip] = made
	for _, subunit := range made.subunits {
		s.companies[subunit] = &testSubject{}
	}
}

// removeCompany forgets a subject and its subunits.
func (s *testSubjects) removeCompany(nip string) {
	removed := s.companies[nip]
	if removed == nil {
		return
	}
	delete(s.companies, nip)
	for _, subunit := range removed.subunits {
		delete(s.companies, subunit)
	}
}

// hasPerson tells whether the NIP or the PESEL belongs to a person.
func (s *testSubjects) hasPerson(nip, pesel string) bool {
	for known, person := range s.persons {
		if known == nip || person.pesel == pesel {
			return true
		}
	}
	return false
}

// deceased tells whether a subject is a person who has died.
func (s *testSubjects) deceased(subject Identifier) bool {
	if subject.Type == TypeNIP {
		person := s.persons[subject.Value]
		return person != nil && person.deceased
	}
	for _, person := range s.persons {
		if subject == (Identifier{TypePESEL, person.pesel}) {
			return person.deceased
		}
	}
	return false
}

// enforces tells whether a context has the role EnforcementAuthority or CourtBailiff.
func (s *testSubjects) enforces(context Identifier) bool {
	company, person := s.companies[context.nip()], s.persons[context.nip()]
	return company != nil && company.kind == enforcementAuthority || person != nil && person.bailiff
}
