// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"syscall"
)

// kill kills Vault. Its plugin processes remain.
func (s *server) kill() error {
	if err := s.process.Process.Signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("killing vault: %w", err)
	}
	_ = s.process.Wait() // reports the kill
	return nil
}

// restart starts Vault on the same storage after kill.
func (s *server) restart(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	return s.unseal(ctx)
}
