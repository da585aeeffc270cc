// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"context"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// open is a limiter that admits everything.
type open struct{}

func (open) Admit(context.Context, string) (client.Permit, error) { return open{}, nil }

func (open) Begin(context.Context) error { return nil }

func (open) Done(time.Duration) {}

func (open) GiveUp(time.Time) {}

func (open) Cancel() {}
