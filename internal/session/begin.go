// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// signingTimeLead is how far before its challenge a signature is dated, as by KSeF's official
// client: KSeF refuses one from its future.
const signingTimeLead = time.Minute

// Begin submits a login in the context of the taxpayer: auth is the client for its requests. The
// manager completes the login. seenFrom is the address from which KSeF sees this node, "" for
// unknown.
type Begin func(ctx context.Context, auth *client.Client, taxpayer client.ContextIdentifier) (operation *client.Operation, seenFrom string, err error)

// BySignature returns how a login begins that the signer signs, nil for no signer.
func BySignature(signer Signer) Begin {
	if signer == nil {
		return nil
	}
	return func(ctx context.Context, auth *client.Client, taxpayer client.ContextIdentifier) (*client.Operation, string, error) {
		challenge, err := auth.Challenge(ctx)
		if err != nil {
			return nil, "", err
		}
		signed, err := signer.SignLogin(challenge, taxpayer, challenge.Timestamp.Add(-signingTimeLead))
		if err != nil {
			return nil, "", fmt.Errorf("signing the login: %w", err)
		}
		operation, err := auth.SubmitXAdES(ctx, signed)
		return operation, challenge.ClientIP, err
	}
}
