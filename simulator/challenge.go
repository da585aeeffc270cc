// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"time"
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
	challenge := newReference(challengeKind, req.now)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.challenges[challenge] = req.now
	return ok(challengeResponse{challenge, timestamp(req.now), req.now.UnixMilli(), req.clientIP()})
}

// useChallenge spends a challenge and returns when it was made. It has to be known, not yet used,
// and not too old.
func (s *store) useChallenge(challenge string, now time.Time) (time.Time, *apiError) {
	made, known := s.challenges[challenge]
	delete(s.challenges, challenge)
	if !known || !now.Before(made.Add(challengeLifetime)) {
		return time.Time{}, &apiError{Code: 21111, Description: "Nieprawidłowe wyzwanie autoryzacyjne."}
	}
	return made, nil
}
