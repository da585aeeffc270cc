// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package notices keeps what an operator may want to know of a mount although no request asked for
// it.
package notices

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// Notices are the last warning of KSeF and the last failures of a mount. The zero value is ready
// for use, also concurrently.
type Notices struct {
	mu       sync.Mutex
	warning  *client.Warning
	failures failures
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
	if err != nil {
		n.failures.failed(of, err)
		return
	}
	n.failures.succeeded(of)
}

// RoleDeleted resolves what KSeF has refused to a role: no request can show any more that it is
// over.
func (n *Notices) RoleDeleted(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failures.roleDeleted(name)
}

// Last returns the last warning and the failure that status shows; nil for none.
func (n *Notices) Last() (*client.Warning, *Failure) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.warning, n.failures.last()
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
)

// Activity is something that fails or succeeds at KSeF.
type Activity struct {
	Kind     string
	Taxpayer client.ContextIdentifier
	// Object is the role of an issue and the reference number of a revocation.
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

// failures is the last failure of each activity, the newest last.
type failures []Failure

func (f *failures) failed(failed Activity, err error) {
	kept := slices.DeleteFunc(*f, func(one Failure) bool { return one.Activity == failed })
	kept = append(kept, Failure{Activity: failed, At: time.Now(), Err: err})
	*f = kept[max(0, len(kept)-maxFailures):]
}

func (f failures) succeeded(success Activity) {
	f.resolve(func(one *Failure) bool { return one.resolvedBy(success) })
}

// roleDeleted resolves what only an issue under the role could resolve.
func (f failures) roleDeleted(name string) {
	f.resolve(func(one *Failure) bool { return one.Activity.Kind == Issue && one.Activity.Object == name })
}

func (f failures) resolve(over func(*Failure) bool) {
	for i := range f {
		if f[i].ResolvedAt.IsZero() && over(&f[i]) {
			f[i].ResolvedAt = time.Now()
		}
	}
}

// last returns the newest unresolved failure, otherwise the newest, or nil.
func (f failures) last() *Failure {
	for _, one := range slices.Backward(f) {
		if one.ResolvedAt.IsZero() {
			return &one
		}
	}
	if len(f) == 0 {
		return nil
	}
	newest := f[len(f)-1]
	return &newest
}
