// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/go-hclog"
)

// logInOnce logs in with a KSeF token and returns the access token. It ends the session at once:
// the access token lives on for its 15 minutes.
func (c *connection) logInOnce(ctx context.Context, logger hclog.Logger, taxpayer client.ContextIdentifier, token client.Secret) (client.Secret, error) {
	auth := c.sessions.Auth()
	operation, _, err := auth.BeginTokenLogin(ctx, client.TokenLogin{Taxpayer: taxpayer, Token: token, AllowedIPs: session.ToConfig(c.config.AllowedIPs)})
	if err != nil {
		return "", fmt.Errorf("logging in with the KSeF token in %s: %w", taxpayer, err)
	}
	tokens, err := session.Complete(ctx, auth, operation)
	if err != nil {
		return "", fmt.Errorf("logging in with the KSeF token in %s: %w", taxpayer, err)
	}
	ending, cancel := background.Detached(ctx)
	defer cancel()
	if err := auth.EndSession(ending, tokens.Refresh.Token); err != nil {
		logger.Warn("a session that was opened with a KSeF token ends by itself within 7 days", "context", taxpayer, "session", operation.ReferenceNumber, "error", err)
	}
	return tokens.Access.Token, nil
}
