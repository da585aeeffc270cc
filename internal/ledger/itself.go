// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// KSeF lets a token read and revoke itself, whatever its permissions are. So the end of a token
// without a lease does not depend on what KSeF lets the mount's subject do, as with a token that
// others have made.

// errNotItself says that there is no login with the token itself.
var errNotItself = errors.New("there is no text to log in with")

// mayAskItself says of an error that another login may succeed: KSeF refuses the mount's subject
// this token, or the login in its context.
func mayAskItself(err error) bool {
	return err != nil && (scopeOf(err) == ofTask || errors.As(err, new(*client.LoginError)))
}

// openItself returns KSeF by a login with the token itself. It fails with errNotItself where its
// text is not stored. IsTokenRevoked says of the error that the token is dead.
func (l *Ledger) openItself(ctx context.Context, target Target, referenceNumber string, wait ratelimit.Wait) (Upstream, error) {
	if l.SelfUpstream == nil {
		return nil, errNotItself
	}
	text, err := l.store.text(ctx, referenceNumber)
	switch {
	case err != nil:
		return nil, err
	case text == "":
		return nil, errNotItself
	}
	api, err := l.SelfUpstream(ctx, target, text, wait)
	if err != nil {
		return nil, err
	}
	return api, api.Ready(ctx)
}

// askItself asks for a token as the token itself, where the mount has failed with cause. Its error
// is one that isUnknown recognizes only where nothing contradicts that: KSeF may hide a token of
// others from the mount.
func (l *Ledger) askItself(ctx context.Context, target Target, referenceNumber string, wait ratelimit.Wait, cause error) (*client.Token, error) {
	api, err := l.openItself(ctx, target, referenceNumber, wait)
	var token *client.Token
	if err == nil {
		token, err = api.Token(ctx, referenceNumber)
	}
	switch {
	case client.IsTokenRevoked(err):
		return &client.Token{ReferenceNumber: referenceNumber, Status: client.StatusRevoked}, nil
	case errors.Is(err, errNotItself):
		return nil, cause
	case isUnknown(cause) && errors.As(err, new(*client.LoginError)):
		return nil, fmt.Errorf("%w; and by a login with the token itself: %s", cause, err.Error())
	case err != nil:
		return nil, fmt.Errorf("%s; and by a login with the token itself: %w", cause.Error(), err)
	}
	return token, nil
}

// revokeItself has a token without a lease revoke itself, where the mount has failed with cause. It
// returns cause where there is no other way, and nil where KSeF has confirmed the end.
func (r *reconciler) revokeItself(ctx context.Context, record *Record, cause error) error {
	if !record.Unleased() {
		return cause
	}
	api, err := r.ledger.openItself(ctx, record.Target, record.ReferenceNumber, ratelimit.Wait{AtMost: reconcilerMaxWait})
	if err == nil {
		err = r.revokeUpstream(ctx, api, record)
	}
	switch {
	case err == nil, client.IsTokenRevoked(err):
		return nil
	case errors.Is(err, errNotItself):
		return cause
	case scopeOf(cause) == ofTask:
		return &taskError{unknown: IsUnknownToken(cause), err: fmt.Errorf("%w; and by a login with the token itself: %w", cause, err)}
	}
	// cause alone says what becomes of the queue.
	return fmt.Errorf("%w; and by a login with the token itself: %s", cause, err.Error())
}
