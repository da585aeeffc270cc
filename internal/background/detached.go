// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package background

import (
	"context"
	"time"
)

// detachedTimeout bounds a step that outlives its caller.
const detachedTimeout = 30 * time.Second

// Detached returns a context with the values of ctx that does not end with ctx but after 30
// seconds: a step that has begun is completed although its caller is gone.
func Detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), detachedTimeout)
}
