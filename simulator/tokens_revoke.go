// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import "slices"

// revokeToken is DELETE /tokens/{referenceNumber}.
func (s *Simulator) revokeToken(c *call) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	reference, refused := c.reference()
	if refused != nil {
		return c.failed(refused)
	}
	found, refused := s.findToken(c, reference)
	if refused != nil {
		return c.deleteAnswer(s.options.DeleteUnknownToken, refused)
	}
	if !c.sees(found, "CredentialsManage") {
		return c.missingPermissions("CredentialsManage")
	}
	status := found.status(c.now)
	notNow := badInput("Token o statusie %s nie może zostać unieważniony.", status)
	if slices.Contains([]string{statusRevoking, statusRevoked, statusFailed}, status) {
		return c.deleteAnswer(s.options.DeleteDeadToken, notNow)
	}
	if status == statusPending && s.options.DeletePendingToken != AnswerNoContent {
		return c.deleteAnswer(s.options.DeletePendingToken, notNow)
	}
	found.revoked, found.dead = c.now, c.now.Add(s.options.RevocationDelay)
	s.store.expectDecision(c.now) // of logins with it
	return noContent()
}

func (c *call) deleteAnswer(answer DeleteAnswer, refused *apiError) reply {
	switch answer {
	case AnswerNoContent:
		return noContent()
	case AnswerForbidden:
		return c.insufficientAccess()
	}
	return c.failed(refused)
}
