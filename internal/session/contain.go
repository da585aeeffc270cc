// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"fmt"
	"runtime/debug"
)

// endUpstreamContained is tell for a goroutine: a panic becomes an error, since the process serves
// other mounts too. The value of the panic stays out of it, since it may hold anything.
func (m *Manager) endUpstreamContained(ctx context.Context, session *Session) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			m.Logger.Error("ending a session panicked", "panic", fmt.Sprintf("%T", cause), "stack", string(debug.Stack()))
			err = fmt.Errorf("ending the KSeF session of %s failed (%T); the log has the stack", session.Context, cause)
		}
	}()
	return m.endUpstream(ctx, session)
}
