// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

func (s *Simulator) challengeEndpoints() []endpoint {
	return []endpoint{{name: "POST /auth/challenge", scope: perClient, serve: s.newChallenge}}
}

// challengeResponse is AuthenticationChallengeResponse.
type challengeResponse struct {
	Challenge   string    `json:"challenge"`
	Timestamp   timestamp `json:"timestamp"`
	TimestampMs int64     `json:"timestampMs"`
	ClientIP    string    `json:"clientIp"`
}

func (s *Simulator) newChallenge(req *request) response {
	challenge := ksef.NewReference(ksef.ChallengeKind, req.now)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.AddChallenge(challenge, req.now)
	return ok(challengeResponse{challenge, timestamp(req.now), req.now.UnixMilli(), req.clientIP()})
}

func invalidChallenge() *apiError {
	return &apiError{Code: 21111, Description: "Nieprawidłowe wyzwanie autoryzacyjne."}
}
