// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"slices"

	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// revokeToken is DELETE /tokens/{referenceNumber}.
func (s *Simulator) revokeToken(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	reference, refused := req.reference()
	if refused != nil {
		return req.failed(refused)
	}
	found, refused := s.findToken(req, reference)
	if refused != nil {
		return req.deleteResponse(s.options.DeleteUnknownToken, refused)
	}
	if !req.maySee(found, "CredentialsManage") {
		return req.missingPermissions("CredentialsManage")
	}
	status := found.Status(req.now)
	notNow := badInput("Token o statusie %s nie może zostać unieważniony.", status)
	if slices.Contains([]string{store.StatusRevoking, store.StatusRevoked, store.StatusFailed}, status) {
		return req.deleteResponse(s.options.DeleteDeadToken, notNow)
	}
	if status == store.StatusPending && s.options.DeletePendingToken != AnswerNoContent {
		return req.deleteResponse(s.options.DeletePendingToken, notNow)
	}
	found.Revoked, found.RevocationEnds = req.now, req.now.Add(s.options.RevocationDelay)
	s.store.ScheduleDecision(req.now) // of logins with it
	return noContent()
}

func (req *request) deleteResponse(answer DeleteAnswer, refused *apiError) response {
	switch answer {
	case AnswerNoContent:
		return noContent()
	case AnswerForbidden:
		return req.insufficientAccess()
	}
	return req.failed(refused)
}
