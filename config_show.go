// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"math"
	"time"

	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/internal/rotation"

	"github.com/hashicorp/vault/sdk/logical"
)

// addSigning warns of the end of the certificate or of the external login, and adds the end of the
// latter to what is shown.
func (b *backend) addSigning(ctx context.Context, stored *config, state *rotation.State, response *logical.Response) error {
	fields.AddWarnings(response, signingWarning(stored, state, time.Now()))
	if stored.signing() == signingCertificate {
		return nil
	}
	connected, err := b.connect(ctx)
	if err != nil {
		return err
	}
	known, err := connected.sessions.Known(ctx, stored.Context)
	if err != nil {
		return err
	}
	if !known.IsAlive() {
		pending, err := b.pendingLogin(ctx, stored.Context)
		if pending == "" {
			pending = notLoggedIn
		}
		fields.AddWarnings(response, pending)
		return err
	}
	end := known.Refresh.ValidUntil
	response.Data["session_until"] = end.UTC().Format(time.RFC3339)
	if time.Until(end) < loginNotice {
		fields.AddWarnings(response, fmt.Sprintf("The external login ends in %d hours. Write to config/rotate-root before that, or have it signed again (login/begin).", int(time.Until(end).Hours())))
	}
	return nil
}

const notLoggedIn = "Nobody is logged in to KSeF: have a person sign the answer of login/begin and bring it to login/complete."

// toResponse returns what a read shows: everything but secrets.
func (c *config) toResponse() map[string]any {
	shown := map[string]any{
		"signing":                 c.signing(),
		"environment":             c.Environment,
		"url":                     c.URL,
		"ca_certificate":          c.CACertificate,
		"certificate":             c.Certificate,
		"subject_identifier_type": c.SubjectIdentifierType,
		"request_timeout":         int64(c.RequestTimeout / time.Second),
		"activation_timeout":      int64(c.ActivationTimeout / time.Second),
		leases.FieldUntil:         leases.ShowUntil(c.TokensAcceptedUntil),
		fieldAllowedContexts:      orEmpty(c.AllowedContexts),
		fieldAllowedIPs:           orEmpty(c.AllowedIPs),
		fieldRenewBefore:          int64(c.RenewBefore / time.Second),
		fieldKeyType:              string(c.KeyType),
		fieldCertificateName:      c.CertificateName,
	}
	c.PopulateSetAutomatedRotationData(shown)
	fields.AddTaxpayer(shown, c.Context)
	if cred, err := c.credential(); err == nil && cred != nil {
		shown["signer_kind"] = string(cred.Identity.Kind)
		shown["signer_identifier_type"] = cred.Identity.IdentifierType
		shown["signer_identifier"] = cred.Identity.Identifier
		shown["signer_name"] = cred.Identity.Name
		shown["certificate_serial_number"] = enrollment.SerialNumber(cred.Certificate)
		shown["certificate_issuer"] = cred.Certificate.Issuer.String()
		shown["certificate_not_after"] = cred.Certificate.NotAfter.UTC().Format(time.RFC3339)
		shown["certificate_days_left"] = daysLeft(cred.Certificate.NotAfter, time.Now())
	}
	return shown
}

// summary returns what status shows of the configuration: no PEM.
func (c *config) summary() map[string]any {
	summary := c.toResponse()
	delete(summary, "certificate")
	delete(summary, "ca_certificate")
	return summary
}

// expiryNotice is how long before the certificate's end a read of config warns.
const expiryNotice = 30 * 24 * time.Hour

// signingWarning warns of a certificate that ends soon, and of a rotation that has to wait.
func signingWarning(stored *config, state *rotation.State, now time.Time) string {
	if state.Unreadable != nil {
		return "The certificate is not renewed: " + state.Unreadable.Error()
	}
	cred, err := stored.credential()
	if err != nil {
		return "The stored credential cannot be read: " + err.Error()
	}
	trouble := stored.rotationTrouble(state, cred)
	if cred == nil {
		return trouble
	}
	end := cred.Certificate.NotAfter
	expiry := fmt.Sprintf("The certificate expires in %d days. ", daysLeft(end, now))
	if now.After(end) {
		expiry = "The certificate has expired: no token can be made or revoked once the session ends. "
	}
	switch {
	case trouble != "":
		return expiry + trouble
	case end.Sub(now) > expiryNotice:
		return ""
	case state.Step != "":
		return expiry + "Its rotation is in progress."
	case stored.RenewBefore > 0:
		return expiry + "If KSeF has issued it, the engine renews it by itself; otherwise write to config/rotate-root, or write a new one to config, before that."
	default:
		return expiry + "Write to config/rotate-root, or write a new one to config, before that."
	}
}

// rotationTrouble says why the rotation in progress has to wait, or why the last renewal of the
// certificate in force failed; "" for neither. cred is nil where logins are signed externally.
func (c *config) rotationTrouble(state *rotation.State, cred *credential.Credential) string {
	last := state.Last
	switch {
	case state.Step != "" && state.Err != nil:
		return "The rotation in progress has to wait: " + state.Err.Error()
	case state.Step != "" || last == nil || last.Error == "" || !last.Automatic || c.RenewBefore == 0:
		return ""
	case cred != nil && last.Concerns(cred.Certificate):
		return "Its renewal has failed and will be tried again: " + last.Error
	default:
		return ""
	}
}

func daysLeft(end, now time.Time) int64 {
	return int64(math.Floor(end.Sub(now).Hours() / 24))
}
