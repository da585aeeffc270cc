// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"
)

// guardConfig refuses to strand tokens: while some are open, the API and the owner of the default
// context may not change and the configuration may not go, unless that is agreed to. next is nil
// for a deletion. Until release is called no token is issued, so that none slips in. The text is a
// warning of what is left behind.
func (b *backend) guardConfig(ctx context.Context, current, next *config, agreed bool) (release func(), warning string, err error) {
	changed, err := b.whatChanges(ctx, current, next)
	if err != nil || changed == "" {
		return func() {}, "", err
	}
	release, err = b.ledger.PauseIssuing(ctx)
	if err != nil {
		return nil, "", err
	}
	open, lost, err := b.openTokens(ctx, current.URL, changed != fieldSubject && !agreed)
	if err == nil && open.Any() {
		warning, err = decideChange(changed, open, lost, current, agreed)
	}
	if err != nil {
		release()
		return nil, "", err
	}
	return release, warning, nil
}

// openTokens counts what a change would leave behind: the tokens at the API that config leads to
// now, since it strands no other. settle searches KSeF first for the tokens of the requests whose
// replies were lost, so that they hold up nothing that they need not.
func (b *backend) openTokens(ctx context.Context, api string, settle bool) (open ledger.Open, lost ledger.Lost, err error) {
	open, err = b.ledger.CountOpenAt(ctx, api)
	if err != nil || open.Issuing == 0 || !settle {
		return open, lost, err
	}
	if _, err := b.connectLocked(ctx); err != nil {
		return open, lost, nil //nolint:nilerr // what cannot be used cannot search either
	}
	if lost, err = b.ledger.SettleLost(ctx); err != nil {
		return open, lost, err
	}
	open, err = b.ledger.CountOpenAt(ctx, api)
	return open, lost, err
}

// whatChanges names the field that would strand tokens, or "". configKey stands for the deletion of
// the configuration, and fieldSubject for a signer whom KSeF may not let revoke what another has
// made. The caller has the connection's turn.
func (b *backend) whatChanges(ctx context.Context, current, next *config) (string, error) {
	switch {
	case current == nil:
		return "", nil
	case next == nil:
		return configKey, nil
	case next.URL != current.URL:
		return "url", nil
	case next.Context.NIP() != current.Context.NIP():
		return "nip", nil
	case next.Certificate == current.Certificate:
		return "", nil
	}
	connected, err := b.connectLocked(ctx)
	if err != nil {
		return "", nil //nolint:nilerr // what cannot be used strands nothing that it could end
	}
	before, err := connected.subject(ctx, current.Context)
	if err != nil {
		return "", err
	}
	after, err := next.credential()
	if err != nil {
		return "", err
	}
	other := before != "" && before != after.Identity.Subject()
	if !other {
		if other, err = b.hasOtherSubject(ctx, current.URL, after.Identity.Subject()); err != nil {
			return "", err
		}
	}
	if !other {
		return "", nil
	}
	return fieldSubject, nil
}

const fieldSubject = "certificate"

func decideChange(changed string, open ledger.Open, lost ledger.Lost, current *config, agreed bool) (warning string, err error) {
	left := leftBehind(open)
	switch {
	case changed == fieldSubject:
		return otherSigner(left), nil
	case agreed:
		return "Left behind: " + left + ". The engine cannot revoke them unless config leads back to " + current.URL + ".", nil
	}
	would := "would leave behind "
	if changed == configKey {
		would = "cannot be deleted without leaving behind "
	}
	return "", &client.InputError{
		Field: changed, Fault: would + left + ", which could then no longer be revoked",
		Remedy: strings.Join(append(remedies(open, lost), "or "+consentTokens.remedy()), ", "),
	}
}

// remedies says of each kind of what is open how it comes to its end.
func remedies(open ledger.Open, lost ledger.Lost) []string {
	var all []string
	if open.Live > 0 {
		all = append(all, "end their leases first (vault lease revoke -prefix <mount>/)")
	}
	if open.Revoking+open.Unreadable > 0 {
		all = append(all, "wait until status shows that nothing is being revoked")
	}
	if open.Issuing > 0 {
		wait := "ask again when status shows no request with an unknown outcome: KSeF may have made their tokens, and the engine looks for them"
		if !lost.Until.IsZero() {
			wait += " until " + lost.Until.UTC().Format(time.RFC3339)
		}
		if lost.Err != nil {
			wait += fmt.Sprintf(" (at this moment it could not: %v)", lost.Err)
		}
		all = append(all, wait)
	}
	return all
}

func otherSigner(left string) string {
	return "The signer is another than before. It can revoke " + left + " only if it holds CredentialsManage in their context."
}

func leftBehind(open ledger.Open) string {
	var parts []string
	for _, part := range []struct {
		count     int
		one, many string
	}{
		{open.Live, "live token", "live tokens"},
		{open.Revoking + open.Unreadable, "token being revoked", "tokens being revoked"},
		{open.Issuing, "request for a token with an unknown outcome", "requests for tokens with an unknown outcome"},
	} {
		switch part.count {
		case 0:
		case 1:
			parts = append(parts, "1 "+part.one)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", part.count, part.many))
		}
	}
	return strings.Join(parts, " and ")
}

// guardRotation refuses to pull the ground from under a rotation that is under way, unless that is
// agreed to. abandon says that the rotation must be given up before the configuration is stored,
// which the consent asks for. next is nil for a deletion. The caller holds the rotation.
func (b *backend) guardRotation(ctx context.Context, current, next *config, agreed bool) (abandon bool, err error) {
	state, err := b.rotation.State(ctx)
	switch {
	case err != nil:
		return false, err
	case state.Unreadable != nil && !agreed:
		return false, state.Unreadable
	case state.Unreadable != nil:
		return true, nil //nolint:nilerr // it is given up unread
	case state.Step == "":
		return false, nil
	}
	if agreed || standsOn(state.Subject, current, next) {
		return agreed, nil
	}
	cannot := "cannot be changed so"
	if next == nil {
		cannot = "cannot be deleted"
	}
	return false, &client.InputError{
		Field: configKey, Fault: cannot + " while the rotation to the certificate " + state.Name + " is in progress",
		Remedy: "wait until status shows its end, or " + consentRotation.remedy() + ", which gives it up and leaves what KSeF has issued for it without use",
	}
}

// standsOn says that a rotation for the subject can go on under the next configuration.
func standsOn(subject string, current, next *config) bool {
	if current == nil || next == nil || next.api() != current.api() || next.Context != current.Context {
		return false
	}
	cred, err := next.credential()
	return err == nil && (cred == nil || cred.Identity.Subject() == subject)
}
