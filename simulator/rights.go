// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"slices"
	"strings"
	"time"
)

// grant is one permission of a subject in the context of another.
type grant struct {
	id          string // 36 characters, lower-case hexadecimal digits and dashes
	holder      Identifier
	context     Identifier
	permission  string
	description string
	author      Identifier
	canDelegate bool
	begun       time.Time
}

// holding is a subject in a context.
type holding struct{ holder, context Identifier }

// rights are the permissions that have been granted. What an owner may do is not among them.
type rights struct {
	grants []*grant         // in force, oldest first
	ever   map[holding]bool // where anything was ever granted
}

func newRights() rights { return rights{ever: map[holding]bool{}} }

// touch records that the holder has had a grant in the context, whatever is left of it.
func (r *rights) touch(holder, context Identifier) { r.ever[holding{holder, context}] = true }

func (r *rights) add(g *grant) {
	r.grants = append(r.grants, g)
	r.touch(g.holder, g.context)
}

// remove takes away the grants that match.
func (r *rights) remove(matches func(*grant) bool) {
	r.grants = slices.DeleteFunc(r.grants, matches)
}

// held returns what a subject has been granted in a context, in the order of allPermissions, and
// whether anything ever was.
func (r *rights) held(holder, context Identifier) (permissions []string, ever bool) {
	for _, permission := range allPermissions() {
		if slices.ContainsFunc(r.grants, func(g *grant) bool {
			return g.holder == holder && g.context == context && g.permission == permission
		}) {
			permissions = append(permissions, permission)
		}
	}
	return permissions, r.ever[holding{holder, context}]
}

// grantAll records the grants of the options. KSeF itself is their author.
func (s *store) grantAll(grants []Grant, now time.Time) {
	for _, given := range grants {
		s.rights.touch(given.Identifier, given.Context)
		for _, permission := range given.Permissions {
			s.rights.add(&grant{
				id: newGrantID(), holder: given.Identifier, context: given.Context, permission: permission,
				description: "Nadane przy uruchomieniu", author: Identifier{Type: "System"}, begun: now,
			})
		}
	}
}

func newGrantID() string {
	digits := randomHex(32)
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}

// permissionsOf returns what a subject may do in a context; nil when it may not log in there. A
// person (PESEL) to whom nothing was ever granted there may do everything, unless grants are
// required. The caller holds the lock.
func (s *Simulator) permissionsOf(subject, context Identifier) []string {
	if subject.owns(context) {
		return s.options.OwnerPermissions
	}
	held, ever := s.store.rights.held(subject, context)
	if !ever && subject.Type == TypePESEL && !s.options.RequireGrants {
		return allPermissions()
	}
	return held
}

// effectivePermissions returns what a login may do now: what its subject may, and under a token only
// what the token carries too. An access token keeps what it was issued with. The caller holds the
// lock.
func (s *Simulator) effectivePermissions(l *login) []string {
	permissions := s.permissionsOf(l.identifier, l.context)
	if l.token == "" {
		return permissions
	}
	carried := s.store.tokens[l.token].permissions
	return slices.DeleteFunc(slices.Clone(carried), func(permission string) bool {
		return !slices.Contains(permissions, permission)
	})
}
