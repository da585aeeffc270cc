// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathConfig() []*framework.Path {
	path := &framework.Path{
		Pattern:      "config",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "configuration"},
		Fields: withRenewalFields(fields.WithTaxpayerDefault("that of the certificate", map[string]*framework.FieldSchema{
			"environment": {
				Type:          framework.TypeString,
				AllowedValues: []any{"test", "demo", "production"},
				Description:   "KSeF's environment: test, demo or production. Give this or url. Default: none.",
			},
			"url": {
				Type:        framework.TypeString,
				Description: "Base address of the API with its version, such as https://api-test.ksef.mf.gov.pl/v2. Plain http is accepted for loopback hosts only. Give this or environment. Default: that of environment.",
			},
			"ca_certificate": {
				Type:        framework.TypeString,
				Description: "PEM certificates to trust besides the system's own, for an API behind a private authority. Default: none.",
			},
			"certificate": {
				Type:        framework.TypeString,
				Description: "PEM certificate, or chain, of the signing credential: a seal, a person's certificate, or a KSeF certificate of type Authentication. Default: none; a person then signs logins: see login/begin.",
			},
			"private_key": {
				Type:         framework.TypeString,
				Description:  "PEM private key of the certificate: PKCS#8, encrypted PKCS#8, PKCS#1 or SEC1; RSA of 2048 bits or more, or ECDSA on P-256. Never read back. Default: none.",
				DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
			},
			"private_key_password": {
				Type:         framework.TypeString,
				Description:  "Password of an encrypted private_key. Not stored. Default: none.",
				DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
			},
			"pkcs12": {
				Type:         framework.TypeString,
				Description:  "Certificate and key together as PKCS#12 (.p12, .pfx), in base64. Give this or certificate and private_key. Default: none.",
				DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
			},
			"pkcs12_password": {
				Type:         framework.TypeString,
				Description:  "Password of pkcs12. Not stored. Default: none.",
				DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
			},
			"subject_identifier_type": {
				Type:          framework.TypeString,
				AllowedValues: []any{"certificateSubject", "certificateFingerprint"},
				Description:   "How KSeF identifies the signer. Default: certificateSubject where the certificate names a NIP or PESEL, or where there is none; otherwise certificateFingerprint.",
			},
			fieldAllowedContexts: allowedContextsField(),
			fieldAllowedIPs:      allowedIPsField(),
			"verify": {
				Type:        framework.TypeBool,
				Default:     true,
				Description: "Log in to KSeF before the configuration is stored, to prove that it works. Default: true.",
			},
			"request_timeout": {
				Type:        framework.TypeDurationSecond,
				Default:     "30s",
				Description: "Bound of one request to KSeF, 1s to 60s. Default: 30s.",
			},
			"activation_timeout": {
				Type:        framework.TypeDurationSecond,
				Default:     defaultActivationTimeout.String(),
				Description: "How long an answer waits for a new token to become Active, up to 60s; 0 does not wait. Default: 30s.",
			},
			fieldTokensUntil: tokensUntilField(),
			fieldForce:       forceField(),
		})),
		ExistenceCheck: b.configExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: fields.Forwarded(b.pathConfigWriteChecked, "configure", configSchema()),
			logical.UpdateOperation: fields.Forwarded(b.pathConfigWriteChecked, "configure", configSchema()),
			logical.ReadOperation:   fields.ReadOperation(fields.WarnOfUnused(b.pathConfigRead), "read", configSchema()),
			logical.DeleteOperation: fields.Forwarded(b.pathConfigDelete, "delete", fields.NoContentOrWarnings()),
		},
		HelpSynopsis:    "Configure the KSeF environment and the credential that signs logins.",
		HelpDescription: strings.TrimSpace(helpConfig),
	}
	maps.Copy(path.Fields, fields.ReadOnly(configComputed()))
	return []*framework.Path{path}
}

func (b *backend) configExists(ctx context.Context, req *logical.Request, _ *framework.FieldData) (bool, error) {
	entry, err := req.Storage.Get(ctx, configKey)
	return entry != nil, err
}

func (b *backend) pathConfigWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	data, unset := fields.WithoutUnset(data)
	forced, err := consentsFrom(data)
	if err != nil {
		return errorResponse(err)
	}
	given, err := b.readCredential(ctx, data)
	if err != nil {
		return errorResponse(err)
	}
	resume, err := b.rotation.Pause(ctx)
	if err != nil {
		return nil, err
	}
	defer resume()
	if err := b.connection.lock.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for the configuration: %w", err)
	}
	defer b.connection.lock.Release(1)
	// One that cannot be read is replaced as a whole; its sessions are lost.
	current, readErr := readConfig(ctx, req.Storage)
	next, err := applyConfig(current, data, unset, given)
	if err != nil {
		return errorResponse(errors.Join(err, readErr))
	}
	replaced, err := b.guardCertificate(ctx, current, next, forced.to(consentCertificate))
	if err != nil {
		return errorResponse(err)
	}
	abandon, err := b.guardRotation(ctx, current, next, forced.to(consentRotation))
	if err != nil {
		return errorResponse(err)
	}
	release, warning, err := b.guardConfig(ctx, current, next, forced.to(consentTokens))
	if err != nil {
		return errorResponse(err)
	}
	defer release()
	previous := b.connection.get()
	if previous != nil {
		previous.sessions.SaveUnstored(ctx)
	}
	built, err := b.build(next)
	if err != nil {
		return errorResponse(err)
	}
	defer func() {
		// What a login has left that was to prove this configuration is the other's to end.
		if previous != nil && b.connection.get() == previous {
			previous.sessions.TakeUnstored(context.WithoutCancel(ctx), built.sessions)
		}
	}()
	// Whoever only gives a rotation up changes nothing that could be proven.
	givesUpOnly := abandon && current != nil && !replaces(current, next)
	unproven, err := built.prove(ctx, current, data.Get("verify").(bool) && !givesUpOnly)
	if err != nil {
		return errorResponse(notStored(err))
	}
	if err := b.schedule(ctx, current, next, req.MountPoint); err != nil {
		return errorResponse(errors.Join(err, discard(ctx, current, built)))
	}
	left := ""
	if abandon {
		if left, err = b.rotation.Abandon(ctx); err != nil {
			return nil, errors.Join(err, discard(ctx, current, built))
		}
	}
	response, err := b.commitConfig(ctx, current, built)
	if err != nil {
		return nil, err
	}
	b.logConfigured(current, next, unproven)
	if next.signing() == signingCertificate && unproven == "" {
		// What a person has signed for the same subject is no longer needed.
		fields.AddWarnings(response, maybeOpen(built.sessions.Supersede(ctx)))
	}
	fields.AddWarnings(response, warning, replaced, left, unproven, b.notices.FreshWarning())
	b.sendEvent(ctx, "config-write", "config", logical.EventMetadataModified, "true", logical.EventMetadataOperation, string(req.Operation))
	return response, nil
}

// notStored tells what does not work from what could not be found out.
func notStored(err error) error {
	if saysNothing(err) {
		return fmt.Errorf("the configuration was not stored, because KSeF could not be asked whether it works (verify=false stores it unasked): %w", err)
	}
	return fmt.Errorf("the configuration was not stored, because it does not work: %w", err)
}

// prove logs in. Where only other settings change, the session that there is proves it by a
// refresh. unproven says why nothing was proven; "" for a proof.
func (c *connection) prove(ctx context.Context, before *config, verify bool) (unproven string, err error) {
	if !verify {
		return "The configuration was stored without logging in to KSeF; the first token will show whether it works.", nil
	}
	if err := c.proveAddress(ctx); err != nil {
		return "", err
	}
	known, err := c.sessions.Known(ctx, c.config.Context)
	switch external := c.config.signing() == signingExternal; {
	case err != nil:
		return "", err
	case external && known == nil:
		return nobodyLoggedIn, nil
	case !external && known != nil && known.External:
		// The certificate is proven by its own login, which a person's does not.
		return "", c.sessions.Login(ctx, c.config.Context)
	}
	if c.config.signing() == signingExternal || (before != nil && !replaces(before, c.config)) {
		return verified(before, c.config, c.sessions.Verify(ctx, c.config.Context))
	}
	return "", c.sessions.Login(ctx, c.config.Context)
}

// verified lets addresses be written from which a login that a person has signed cannot be used:
// only then can another be signed for them.
func verified(before, next *config, err error) (unproven string, failed error) {
	var refused *session.AddressError
	if !errors.As(err, &refused) || !refused.External || before == nil || slices.Equal(before.AllowedIPs, next.AllowedIPs) {
		return "", err
	}
	return "The configuration was stored unproven: " + err.Error(), nil
}

// discard ends what was logged in to prove a configuration that is not stored after all.
func discard(ctx context.Context, current *config, built *connection) error {
	if current != nil && !replaces(current, built.config) {
		return nil
	}
	return built.sessions.End(ctx, false)
}

// replaces says that sessions of the configuration before are of no use to next.
func replaces(before, next *config) bool {
	return before != nil && before.fingerprint() != next.fingerprint()
}

// commitConfig stores a configuration, ends the sessions of another signer or API, and puts the new
// one in force.
func (b *backend) commitConfig(ctx context.Context, current *config, built *connection) (*logical.Response, error) {
	if err := built.config.store(ctx, b.storage); err != nil {
		return nil, errors.Join(err, discard(ctx, current, built))
	}
	response := &logical.Response{}
	if replaces(current, built.config) {
		fields.AddWarnings(response, maybeOpen(b.endSessions(ctx, current, current.api() != built.config.api())))
	}
	if err := built.sessions.Save(ctx, built.config.Context); err != nil {
		fields.AddWarnings(response, fmt.Sprintf("The login works, but could not be stored; the next start logs in anew: %v", err))
	}
	b.connection.replace(built)
	if err := b.limiters.OpenOwn(ctx, built.config.URL, built.config.Context); err != nil {
		b.Logger().Warn("the state of KSeF's request limits is read with the first request", "error", err)
	}
	b.ledger.Retry()
	b.maintenance.Wake()
	response.Data = built.config.toResponse()
	return response, nil
}

// maybeOpen warns of sessions that could not be ended.
func maybeOpen(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("A session that the engine no longer uses may still be open in KSeF until it ends by itself, after 7 days at most: %v", err)
}

// endSessions ends what was logged in under a configuration, also where it is not the one in
// memory; all that is open in its KSeF if told.
func (b *backend) endSessions(ctx context.Context, current *config, all bool) error {
	connected := b.connection.get()
	if connected == nil || connected.config.fingerprint() != current.fingerprint() {
		built, err := b.build(current)
		if err != nil {
			return err
		}
		connected = built
	}
	return connected.sessions.End(ctx, all)
}

func (b *backend) pathConfigDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	data, _ = fields.WithoutUnset(data)
	forced, err := consentsFrom(data)
	if err != nil {
		return errorResponse(err)
	}
	response, err := b.deleteConfig(ctx, req, forced)
	if err != nil {
		return errorResponse(err)
	}
	if err := b.logins.Abandon(ctx); err != nil {
		return nil, err
	}
	if len(response.Warnings) == 0 {
		return nil, nil
	}
	return response, nil
}

func (b *backend) deleteConfig(ctx context.Context, req *logical.Request, forced consents) (*logical.Response, error) {
	resume, err := b.rotation.Pause(ctx)
	if err != nil {
		return nil, err
	}
	defer resume()
	if err := b.connection.lock.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for the configuration: %w", err)
	}
	defer b.connection.lock.Release(1)
	response := &logical.Response{}
	current, err := readConfig(ctx, req.Storage)
	var unreadable *unreadableConfigError
	if errors.As(err, &unreadable) {
		left, err := b.deleteUnreadableConfig(ctx, req.Storage, unreadable, forced)
		fields.AddWarnings(response, left)
		return response, err
	}
	if err != nil || current == nil {
		return response, err
	}
	abandon, err := b.guardRotation(ctx, current, nil, forced.to(consentRotation))
	if err != nil {
		return nil, err
	}
	replaced, err := b.guardCertificate(ctx, current, nil, false)
	if err != nil {
		return nil, err
	}
	release, warning, err := b.guardConfig(ctx, current, nil, forced.to(consentTokens))
	if err != nil {
		return nil, err
	}
	defer release()
	if err := b.schedule(ctx, current, nil, req.MountPoint); err != nil {
		return nil, err
	}
	left := ""
	if abandon {
		if left, err = b.rotation.Abandon(ctx); err != nil {
			return nil, err
		}
	}
	if err := req.Storage.Delete(ctx, configKey); err != nil {
		return nil, fmt.Errorf("deleting the configuration: %w", err)
	}
	ended := b.endSessions(ctx, current, true)
	b.connection.replace(nil)
	b.sendEvent(ctx, "config-delete", "config", logical.EventMetadataModified, "true", logical.EventMetadataOperation, string(req.Operation))
	fields.AddWarnings(response, warning, replaced, left, maybeOpen(ended))
	return response, nil
}

const helpConfig = `
Say which KSeF the mount talks to, in whose context tokens are made unless a role or
request names another, and with which credential logins are signed:

  vault write ksef/config environment=test nip=5265877635 \
      certificate=@cert.pem private_key=@key.pem

A write logs in to KSeF first, and stores nothing if that fails; verify=false
stores without asking. Fields that are left out stay as they are; null and an empty
text make a field what it is if nobody gives it. certificate and private_key, or
pkcs12, replace the credential as a whole, and only a delete of config removes it.
Without one logins are signed by a person outside of Vault: see login/begin. What a
read has answered can be written back and changes nothing.

What would strand open tokens, give up a rotation or replace a certificate that the
engine has made is refused unless force names it: tokens, rotation, certificate.

Requests that name a context get the one of config, and those in allowed_contexts; a
role's tokens live in the role's, and open tokens are read and revoked in theirs.
Nothing else makes the engine log in.

The stored credential signs for the KSeF that it was given for: a write that changes
url, environment or ca_certificate must bring the credential too.

A certificate that KSeF has issued is renewed by the engine ahead of its end
(certificate_renew_before); config/rotate-root replaces any credential by one.

The private key is stored seal-wrapped and never read back. Passwords are used
once and not stored.

The signing subject must be able to log in to the context, hold every permission
that tokens are to carry (KSeF answers 26001 otherwise), and should hold
CredentialsManage: without it, it can revoke only tokens that it made itself.
`
