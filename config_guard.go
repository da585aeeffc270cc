// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/consent"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/ledger"
)

// guard refuses a change that needs a consent which the request does not give.
func (c *configChange) guard(ctx context.Context) error {
	if err := c.guardCertificate(ctx, c.force.Has(consent.Certificate)); err != nil {
		return err
	}
	if err := c.guardRotation(ctx, c.force.Has(consent.Rotation)); err != nil {
		return err
	}
	return c.guardTokens(ctx, c.force.Has(consent.Tokens))
}

// guardUnreadable refuses to delete a configuration that cannot be read without consent: which
// tokens would be stranded is unknown.
func guardUnreadable(unreadable *unreadableConfigError, force consent.Set) error {
	if force.Has(consent.Tokens) {
		return nil
	}
	return &client.InputError{
		Field: configKey, Fault: fmt.Sprintf("cannot be read (%v): which tokens its deletion would leave behind is not known", unreadable.err),
		Remedy: "write it anew with all its fields, or " + consent.Tokens.Remedy(),
	}
}

// stranding is how a change keeps the engine from revoking open tokens.
type stranding int

const (
	strandsNothing stranding = iota
	// strandsByDelete removes the configuration.
	strandsByDelete
	// strandsByURL leads to another KSeF.
	strandsByURL
	// strandsByNIP makes another taxpayer the owner of the default context.
	strandsByNIP
	// strandsBySigner has a signer that KSeF may not let revoke another's tokens: a warning, no
	// refusal.
	strandsBySigner
)

// field is the field of config that strands tokens.
func (s stranding) field() string {
	switch s {
	case strandsByURL:
		return "url"
	case strandsByNIP:
		return "nip"
	default:
		return configKey
	}
}

// guardTokens refuses to strand tokens unless that is agreed to. Until Close no token is issued, so
// that none slips in.
func (c *configChange) guardTokens(ctx context.Context, agreed bool) error {
	how, err := c.stranding(ctx)
	if err != nil || how == strandsNothing {
		return err
	}
	release, err := c.backend.ledger.PauseIssuing(ctx)
	if err != nil {
		return err
	}
	c.onClose(release)
	open, lost, err := c.backend.openTokens(ctx, c.current.URL, how != strandsBySigner && !agreed)
	if err != nil || !open.Any() {
		return err
	}
	left := leftBehind(open)
	switch {
	case how == strandsBySigner:
		c.warn(otherSigner(left))
		return nil
	case agreed:
		c.warn("Left behind: " + left + ". The engine cannot revoke them unless config leads back to " + c.current.URL + ".")
		return nil
	}
	would := "would leave behind "
	if how == strandsByDelete {
		would = "cannot be deleted without leaving behind "
	}
	return &client.InputError{
		Field: how.field(), Fault: would + left + ", which could then no longer be revoked",
		Remedy: strings.Join(append(remedies(open, lost), "or "+consent.Tokens.Remedy()), ", "),
	}
}

// openTokens counts the tokens at the API that config leads to now: a change strands no other. With
// settle set it first searches KSeF for the tokens of requests whose replies were lost, so that
// they block no change without need.
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

// stranding compares next with current.
func (c *configChange) stranding(ctx context.Context) (stranding, error) {
	switch {
	case c.current == nil:
		return strandsNothing, nil
	case c.next == nil:
		return strandsByDelete, nil
	case c.next.URL != c.current.URL:
		return strandsByURL, nil
	case c.next.Context.NIP() != c.current.Context.NIP():
		return strandsByNIP, nil
	case c.next.Certificate == c.current.Certificate:
		return strandsNothing, nil
	}
	connected, err := c.backend.connectLocked(ctx)
	if err != nil {
		return strandsNothing, nil //nolint:nilerr // a configuration that cannot be used revokes nothing
	}
	before, err := connected.subject(ctx, c.current.Context)
	if err != nil {
		return strandsNothing, err
	}
	cred, err := c.next.credential()
	if err != nil {
		return strandsNothing, err
	}
	after := cred.Identity.Subject()
	if before != "" && before != after {
		return strandsBySigner, nil
	}
	other, err := c.backend.hasOtherSubject(ctx, c.current.URL, after)
	if err != nil || !other {
		return strandsNothing, err
	}
	return strandsBySigner, nil
}

// remedies says how each kind of open token comes to its end.
func remedies(open ledger.Open, lost ledger.Lost) []string {
	var all []string
	if open.Live > 0 {
		all = append(all, "end their leases first (vault lease revoke -prefix <mount>/)")
	}
	all = append(all, roleRemedies(open)...)
	if open.Revoking+open.Unreadable > 0 {
		all = append(all, "wait until status shows that nothing is being revoked")
	}
	if open.Issuing > 0 {
		wait := "ask again when status shows no request with an unknown outcome: KSeF may have made their tokens, and the engine searches for them"
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

// roleRemedies says how the tokens without a lease come to their end.
func roleRemedies(open ledger.Open) []string {
	var all []string
	if open.Static > 0 {
		all = append(all, "delete the static roles first (vault delete <mount>/static-roles/<name>)")
	}
	if open.Access > 0 {
		all = append(all, "delete the access-token roles first (vault delete <mount>/roles/<name>)")
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
		{open.Static, "token of a static role", "tokens of static roles"},
		{open.Access, "token of an access-token role", "tokens of access-token roles"},
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

// guardRotation refuses a change under which the rotation in progress cannot continue. With consent
// the rotation is given up before the change is stored.
func (c *configChange) guardRotation(ctx context.Context, agreed bool) error {
	state, err := c.backend.rotation.State(ctx)
	switch {
	case err != nil:
		return err
	case state.Unreadable != nil && !agreed:
		return state.Unreadable
	case state.Unreadable == nil && state.Step == "":
		return nil
	}
	c.abandon = agreed
	if agreed || canContinue(state.Subject, c.current, c.next) {
		return nil
	}
	cannot := "cannot be changed so"
	if c.next == nil {
		cannot = "cannot be deleted"
	}
	return &client.InputError{
		Field: configKey, Fault: cannot + " while the rotation to the certificate " + state.Name + " is in progress",
		Remedy: "wait until status shows its end, or " + consent.Rotation.Remedy() + ", which gives it up and leaves what KSeF has issued for it without use",
	}
}

// canContinue says whether a rotation for the subject can continue under next.
func canContinue(subject string, current, next *config) bool {
	if current == nil || next == nil || next.api() != current.api() || next.Context != current.Context {
		return false
	}
	cred, err := next.credential()
	return err == nil && (cred == nil || cred.Identity.Subject() == subject)
}

// guardCertificate refuses to replace a certificate that the engine has made, unless that is agreed
// to: a document that is written again after each rotation would undo it. A delete needs no
// consent.
func (c *configChange) guardCertificate(ctx context.Context, agreed bool) error {
	if c.current == nil || (c.next != nil && c.next.Certificate == c.current.Certificate) {
		return nil
	}
	serial, err := c.backend.madeCertificate(ctx, c.current)
	switch {
	case err != nil || serial == "":
		return err
	case agreed, c.next == nil:
		c.warn("The certificate " + serial + ", which the engine had made, is no longer used and stays active in KSeF: revoke it there.")
		return nil
	}
	return &client.InputError{
		Field: credential.FieldCertificate, Fault: "is not the one in force, " + serial + ", which the engine has made: to write another puts that out of use, and leaves it active in KSeF",
		Remedy: "leave certificate, private_key and pkcs12 out, or " + consent.Certificate.Remedy(),
	}
}

// madeCertificate returns the serial number of the certificate in force if the engine has made it,
// "" otherwise. A configuration that an older version has stored does not say so: the rotation's
// record does.
func (b *backend) madeCertificate(ctx context.Context, current *config) (serial string, err error) {
	cred, err := current.credential()
	if err != nil || cred == nil {
		return "", nil //nolint:nilerr // an unreadable credential needs no guard
	}
	serial = enrollment.SerialNumber(cred.Certificate)
	if current.CertificateMade {
		return serial, nil
	}
	state, err := b.rotation.State(ctx)
	if err != nil || state.Made != serial {
		return "", err
	}
	return serial, nil
}
