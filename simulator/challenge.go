// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// challengeLifetime is how long a challenge can be used.
const challengeLifetime = 10 * time.Minute

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

func (s *Store) AddChallenge(challenge string, now time.Time) { s.challenges[challenge] = now }

// UseChallenge spends a challenge and returns when it was made. It has to be known, not yet used,
// and not too old.
func (s *Store) UseChallenge(challenge string, now time.Time) (made time.Time, valid bool) {
	made, valid = s.challenges[challenge]
	delete(s.challenges, challenge)
	return made, valid && now.Before(made.Add(challengeLifetime))
}

func invalidChallenge() *apiError {
	return &apiError{Code: 21111, Description: "Nieprawidłowe wyzwanie autoryzacyjne."}
}
