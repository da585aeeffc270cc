// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// Grant is one permission of a subject in the context of another. Whether it is in force follows
// from the times.
type Grant struct {
	ID          string // 36 characters, lower-case hexadecimal digits and dashes
	Holder      ksef.Identifier
	Context     ksef.Identifier
	Permission  string
	Description string
	Author      ksef.Identifier
	CanDelegate bool
	Person      *PersonDetails // whom it was granted to, as the request described them
	Entity      *EntityDetails // the same of a company that may handle invoices
	Starts      time.Time
	Ends        time.Time // when it was taken away; zero if it was not
}

// InForce tells whether the grant counts at a time.
func (g *Grant) InForce(now time.Time) bool {
	return !now.Before(g.Starts) && (g.Ends.IsZero() || now.Before(g.Ends))
}

// HolderInContext is a subject in a context.
type HolderInContext struct{ Holder, Context ksef.Identifier }

// Rights are the permissions that have been granted. What an owner may do is not among them.
type Rights struct {
	ByID       map[string]*Grant
	Grants     []*Grant // oldest first, those taken away too
	ByHolder   map[HolderInContext][]*Grant
	restricted map[HolderInContext]bool // those without all permissions, though nothing was granted
}

// Restrict records that the holder has had rights in the context, whatever is left of them.
func (r *Rights) Restrict(holder, context ksef.Identifier) {
	r.restricted[HolderInContext{holder, context}] = true
}

// Add records a grant unless the holder has that permission in the context already, or is about to
// have it: then it begins no later than this one. What KSeF does with a permission that is granted
// twice is not documented. What a company was granted for invoices, and the same granted as to a
// person, are two.
func (r *Rights) Add(g *Grant) {
	key := HolderInContext{g.Holder, g.Context}
	known := slices.IndexFunc(r.ByHolder[key], func(other *Grant) bool {
		return other.Permission == g.Permission && other.Ends.IsZero() && (other.Entity == nil) == (g.Entity == nil)
	})
	if known >= 0 {
		if other := r.ByHolder[key][known]; g.Starts.Before(other.Starts) {
			other.Starts = g.Starts
		}
		return
	}
	g.ID = newGrantID()
	r.ByID[g.ID] = g
	r.Grants = append(r.Grants, g)
	r.ByHolder[key] = append(r.ByHolder[key], g)
}

// End takes away grants at a time, unless they end before.
func (r *Rights) End(grants []*Grant, at time.Time) {
	for _, g := range grants {
		if g.Ends.IsZero() || at.Before(g.Ends) {
			g.Ends = at
		}
	}
}

// EndAll takes away at a time all that a subject has been granted in any context.
func (r *Rights) EndAll(holder ksef.Identifier, at time.Time) {
	for key, grants := range r.ByHolder {
		if key.Holder == holder {
			r.End(grants, at)
		}
	}
}

// Of returns what a subject has been granted in a context by now, in the order of allPermissions,
// and whether anything ever was.
func (r *Rights) Of(holder, context ksef.Identifier, now time.Time) (permissions []string, ever bool) {
	key := HolderInContext{holder, context}
	ever = r.restricted[key]
	granted := map[string]bool{}
	for _, g := range r.ByHolder[key] {
		granted[g.Permission] = granted[g.Permission] || g.InForce(now)
		ever = ever || !now.Before(g.Starts)
	}
	return slices.DeleteFunc(ksef.AllPermissions(), func(permission string) bool { return !granted[permission] }), ever
}

func newRights() Rights {
	return Rights{ByID: map[string]*Grant{}, ByHolder: map[HolderInContext][]*Grant{},
		restricted: map[HolderInContext]bool{}}
}

func newGrantID() string {
	digits := ksef.RandomHex(32)
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}

// PersonDetails is PermissionsSubjectPersonDetails.
type PersonDetails struct {
	Type       string           `json:"subjectDetailsType"`
	FirstName  string           `json:"firstName"`
	LastName   string           `json:"lastName"`
	Identifier *ksef.Identifier `json:"personIdentifier,omitempty"`
	BirthDate  string           `json:"birthDate,omitempty"`
	IDDocument *IDDocument      `json:"idDocument,omitempty"`
}

// EntityDetails is PermissionsSubjectEntityDetails.
type EntityDetails struct {
	Type     string `json:"subjectDetailsType"`
	FullName string `json:"fullName"`
}

// IDDocument is IdDocument.
type IDDocument struct {
	Type    string `json:"type"`
	Number  string `json:"number"`
	Country string `json:"country"`
}
