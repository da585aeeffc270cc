// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"errors"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// The kinds of what fails and succeeds without a request that an operator watches.
const (
	kindLogin    = "login"
	kindIssue    = "issue"
	kindRevoke   = "revoke"
	kindRotation = "rotation"
)

// activity is something that fails or succeeds at KSeF.
type activity struct {
	kind     string
	taxpayer client.ContextIdentifier
	// object is the role of an issue and the reference number of a revocation.
	object string
}

// failure is an error with what failed.
type failure struct {
	activity activity
	at       time.Time
	err      error
	// resolvedAt is when a success, or the end of the role, showed that the failure is over; zero
	// until then.
	resolvedAt time.Time
}

// resolvedBy is true where a success shows that the cause of the failure is gone.
func (f *failure) resolvedBy(success activity) bool {
	failed := f.activity
	switch {
	case failed == success:
		return true
	case failed.taxpayer != success.taxpayer || failed.kind == kindRotation || success.kind == kindRotation:
		return false
	case failed.kind == kindLogin || isOutage(f.err):
		return true // without a login and an answer of KSeF nothing succeeds
	case failed.kind != success.kind:
		return false
	}
	// A refusal may be about the role or the token alone. Limits are the endpoint's.
	return client.IsRateLimited(f.err) || !client.IsRefusal(f.err)
}

// isOutage says that KSeF gave no answer, no usable one, or did not accept the session.
func isOutage(err error) bool {
	var lost *client.TransportError
	var refused *client.APIError
	return errors.As(err, &lost) || client.IsUnauthorized(err) || (errors.As(err, &refused) && !client.IsRefusal(err))
}

// maxFailures bounds the failures that are kept.
const maxFailures = 50

// failures keeps the last failure of each activity, the newest last. The zero value is ready for
// use. It is not safe for concurrent use.
type failures []failure

func (f *failures) failed(failed activity, err error) {
	kept := slices.DeleteFunc(*f, func(one failure) bool { return one.activity == failed })
	kept = append(kept, failure{activity: failed, at: time.Now(), err: err})
	*f = kept[max(0, len(kept)-maxFailures):]
}

func (f failures) succeeded(success activity) {
	f.resolve(func(one *failure) bool { return one.resolvedBy(success) })
}

// roleDeleted resolves what only an issue under the role could resolve.
func (f failures) roleDeleted(name string) {
	f.resolve(func(one *failure) bool { return one.activity.kind == kindIssue && one.activity.object == name })
}

func (f failures) resolve(over func(*failure) bool) {
	for i := range f {
		if f[i].resolvedAt.IsZero() && over(&f[i]) {
			f[i].resolvedAt = time.Now()
		}
	}
}

// last returns the newest failure that is not resolved, otherwise the newest; nil for none.
func (f failures) last() *failure {
	for _, one := range slices.Backward(f) {
		if one.resolvedAt.IsZero() {
			return &one
		}
	}
	if len(f) == 0 {
		return nil
	}
	newest := f[len(f)-1]
	return &newest
}
