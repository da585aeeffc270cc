// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// Notices are what an operator may want to know of a mount although no request asked for it: the
// last warning of KSeF and the last failures. The zero value is ready for use, also concurrently.
type Notices struct {
	mu      sync.Mutex
	warning *client.Warning
	// failures is the last failure of each activity, the newest last.
	failures []Failure
	// lastNotified is when each daily notice was last sent.
	lastNotified map[string]time.Time
}

// Daily returns true once a day for each subject.
func (n *Notices) Daily(subject string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.lastNotified[subject]) < 24*time.Hour {
		return false
	}
	if n.lastNotified == nil {
		n.lastNotified = make(map[string]time.Time)
	}
	n.lastNotified[subject] = time.Now()
	return true
}

// freshWarningAge is how old a warning of the current request can be.
const freshWarningAge = 30 * time.Second

// SetWarning records a warning of KSeF.
func (n *Notices) SetWarning(warning client.Warning) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.warning = &warning
}

// SetOutcome records that an activity has succeeded, with a nil error, or failed.
func (n *Notices) SetOutcome(of Activity, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		n.resolve(func(one *Failure) bool { return one.resolvedBy(of) })
		return
	}
	kept := slices.DeleteFunc(n.failures, func(one Failure) bool { return one.Activity == of })
	kept = append(kept, Failure{Activity: of, At: time.Now(), Err: err})
	n.failures = kept[max(0, len(kept)-maxFailures):]
}

// RoleDeleted resolves what KSeF has refused to a role: no request can show any more that it is
// over.
func (n *Notices) RoleDeleted(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resolve(func(one *Failure) bool {
		return one.Activity.Object == name && slices.Contains([]string{Issue, Access, TokenRotation}, one.Activity.Kind)
	})
}

func (n *Notices) resolve(over func(*Failure) bool) {
	for i := range n.failures {
		if one := &n.failures[i]; one.ResolvedAt.IsZero() && over(one) {
			one.ResolvedAt = time.Now()
		}
	}
}

// Last returns the last warning and the newest unresolved failure, otherwise the newest; nil for
// none.
func (n *Notices) Last() (*client.Warning, *Failure) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, one := range slices.Backward(n.failures) {
		if one.ResolvedAt.IsZero() {
			return n.warning, &one
		}
	}
	if len(n.failures) == 0 {
		return n.warning, nil
	}
	newest := n.failures[len(n.failures)-1]
	return n.warning, &newest
}

// FreshWarning returns what KSeF has just warned of, or an empty text.
func (n *Notices) FreshWarning() string {
	warning, _ := n.Last()
	if warning == nil || time.Since(warning.At) > freshWarningAge {
		return ""
	}
	return fmt.Sprintf("KSeF warns at %s: %s", warning.Endpoint, warning.Text)
}

// The kinds of activities.
const (
	Login    = "login"
	Issue    = "issue"
	Revoke   = "revoke"
	Rotation = "rotation"
	// Access is the login behind an access token, TokenRotation that of a token without a lease.
	Access        = "access"
	TokenRotation = "token-rotation"
)

// Activity is something that fails or succeeds at KSeF.
type Activity struct {
	Kind     string
	Taxpayer client.ContextIdentifier
	// Object is the role of an issue (see StaticRole), of an access token and of a rotation of a
	// token without a lease, and the reference number of a revocation.
	Object string
}

// Failure is the error of an activity.
type Failure struct {
	Activity Activity
	At       time.Time
	Err      error
	// ResolvedAt is when a success, or the end of the role, showed that the failure is over; zero
	// until then.
	ResolvedAt time.Time
}

// resolvedBy reports whether a success shows that the cause of the failure is gone.
func (f *Failure) resolvedBy(success Activity) bool {
	failed := f.Activity
	switch {
	case failed == success:
		return true
	case failed.Taxpayer != success.Taxpayer || failed.Kind == Rotation || success.Kind == Rotation:
		return false
	case failed.Kind == Login || isOutage(f.Err):
		return true // without a login and an answer of KSeF nothing succeeds
	case failed.Kind != success.Kind:
		return false
	}
	// A refusal may be about the role or the token alone. Limits are the endpoint's.
	return client.IsRateLimited(f.Err) || !client.IsRefusal(f.Err)
}

// isOutage reports whether KSeF gave no usable answer, or did not accept the session.
func isOutage(err error) bool {
	var lost *client.TransportError
	var refused *client.APIError
	return errors.As(err, &lost) || client.IsUnauthorized(err) || (errors.As(err, &refused) && !client.IsRefusal(err))
}

// maxFailures bounds the failures that are kept.
const maxFailures = 50
