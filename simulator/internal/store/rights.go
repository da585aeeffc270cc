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
	Person      *PersonDetails // the grantee, as the request described them
	Entity      *EntityDetails // the same of a company that may handle invoices
	Starts      time.Time
	Ends        time.Time // when it was revoked, or zero
}

// InForce reports whether the grant is in force at a time.
func (g *Grant) InForce(now time.Time) bool {
	return !now.Before(g.Starts) && (g.Ends.IsZero() || now.Before(g.Ends))
}

// HolderInContext is a subject in a context.
type HolderInContext struct{ Holder, Context ksef.Identifier }

// Rights are the granted permissions. The permissions of an owner are not among them.
type Rights struct {
	ByID       map[string]*Grant
	Grants     []*Grant // oldest first, also those revoked
	ByHolder   map[HolderInContext][]*Grant
	restricted map[HolderInContext]bool // no longer with all permissions by default
}

func newRights() Rights {
	return Rights{ByID: map[string]*Grant{}, ByHolder: map[HolderInContext][]*Grant{},
		restricted: map[HolderInContext]bool{}}
}

// Restrict records that the holder has had grants in the context. Without a grant it then has no
// permissions there.
func (r *Rights) Restrict(holder, context ksef.Identifier) {
	r.restricted[HolderInContext{holder, context}] = true
}

// Add records a grant, unless the holder already has that permission in the context or is about to:
// then the earlier start counts. What KSeF does with a repeated grant is not documented. A grant to
// a company for invoices and the same grant to a person are two.
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

// End ends grants at a time, unless they end earlier.
func (r *Rights) End(grants []*Grant, at time.Time) {
	for _, g := range grants {
		if g.Ends.IsZero() || at.Before(g.Ends) {
			g.Ends = at
		}
	}
}

// EndAll ends all grants of a subject in every context at a time.
func (r *Rights) EndAll(holder ksef.Identifier, at time.Time) {
	for key, grants := range r.ByHolder {
		if key.Holder == holder {
			r.End(grants, at)
		}
	}
}

// Of returns the permissions granted to a subject in a context by now, in the order of
// AllPermissions, and whether it ever had a grant.
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
