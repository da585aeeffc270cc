// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package detach lets a step outlive whoever has asked for it: what is half done
// must not stay so because a caller has gone.
package detach

import (
	"context"
	"time"
)

// bound is how long a step may go on without its caller.
const bound = 30 * time.Second

// From returns a context with the values of ctx and a bound of its own, 30
// seconds, that does not end with ctx.
func From(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), bound)
}
