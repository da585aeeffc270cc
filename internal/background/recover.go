// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package background

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
)

// panicPause is the first pause after a panic; it doubles with each further one.
const panicPause = 10 * time.Second

// PanicError says that code has panicked. It has the type of the panic's value and not the value,
// which may hold a secret.
type PanicError struct {
	// What has panicked, such as "the reconciler".
	What string
	// Type is that of the panic's value.
	Type string
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("%s failed (%s); the engine's log has the stack", e.What, e.Type)
}

// Recover turns a panic into a *PanicError and logs its stack: the process serves other mounts too.
// It must be deferred itself, not called by a deferred function.
func Recover(logger hclog.Logger, what string, err *error) {
	if cause := recover(); cause != nil {
		panicked := &PanicError{What: what, Type: fmt.Sprintf("%T", cause)}
		logger.Error("the engine panicked", "in", what, "panic", panicked.Type, "stack", string(debug.Stack()))
		*err = panicked
	}
}

// Contain runs f and returns a *PanicError where it panics.
func Contain(logger hclog.Logger, what string, f func()) (err error) {
	defer Recover(logger, what, &err)
	f()
	return nil
}

// KeepRunning runs f until it returns, again after a pause where it panics. It ends with ctx.
func KeepRunning(ctx context.Context, logger hclog.Logger, what string, f func()) {
	for Contain(logger, what, f) != nil && Sleep(ctx, panicPause) {
	}
}
