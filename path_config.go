// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"maps"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/internal/consent"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/internal/rights"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/automatedrotationutil"
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
				Description: "How long a response waits for a new token to become Active, up to 60s; 0 does not wait. Default: 30s.",
			},
			leases.FieldUntil:  leases.UntilSchema(),
			consent.FieldForce: consent.Field(),
		})),
		ExistenceCheck: b.configExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: fields.Forwarded(b.pathConfigWrite, "configure", configSchema()),
			logical.UpdateOperation: fields.Forwarded(b.pathConfigWrite, "configure", configSchema()),
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
	force, err := consent.Parse(data)
	if err != nil {
		return failure.Response(err)
	}
	given, err := b.readCredential(ctx, data)
	if err != nil {
		return failure.Response(err)
	}
	verify := data.Get("verify").(bool)
	change, err := b.changeConfig(ctx, configRequest{
		apply: func(current *config) (*config, error) { return applyConfig(current, data, unset, given) },
		force: force, verify: verify, mountPoint: req.MountPoint,
	})
	if err != nil {
		return failure.Response(err)
	}
	b.events.Publish("config-write", "config", logical.EventMetadataModified, "true", logical.EventMetadataOperation, string(req.Operation))
	response := &logical.Response{Data: change.next.toResponse()}
	fields.AddWarnings(response, change.warnings...)
	fields.AddWarnings(response, b.signerWarnings(ctx, verify)...)
	return response, nil
}

// signerWarnings says what KSeF will refuse under the configuration in force. It is called when no
// other request waits for the write any more. It asks KSeF only with ask set.
func (b *backend) signerWarnings(ctx context.Context, ask bool) []string {
	current := b.connection.get()
	if current == nil {
		return nil
	}
	bound, err := current.boundBeforeWarning(ctx)
	if err != nil {
		b.Logger().Warn("the session in force could not be read", "error", err)
	}
	if !ask {
		return []string{bound}
	}
	taxpayer := current.config.Context
	named := func() []rights.Role { return b.rolesIn(ctx, current.config, taxpayer) }
	return append([]string{bound}, b.rightsWarnings(ctx, current, taxpayer, named)...)
}

func (b *backend) pathConfigDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	data, _ = fields.WithoutUnset(data)
	force, err := consent.Parse(data)
	if err != nil {
		return failure.Response(err)
	}
	change, err := b.changeConfig(ctx, configRequest{force: force, mountPoint: req.MountPoint})
	if err != nil {
		return failure.Response(err)
	}
	if change.current != nil {
		b.events.Publish("config-delete", "config", logical.EventMetadataModified, "true", logical.EventMetadataOperation, string(req.Operation))
	}
	if err := b.logins.Abandon(ctx); err != nil {
		return nil, err
	}
	if len(change.warnings) == 0 {
		return nil, nil
	}
	response := &logical.Response{}
	fields.AddWarnings(response, change.warnings...)
	return response, nil
}

func (b *backend) pathConfigRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	stored, err := readConfig(ctx, req.Storage)
	if err != nil || stored == nil {
		return nil, err
	}
	response := &logical.Response{Data: stored.toResponse()}
	leases.AddNotice(response.Data, stored.TokensAcceptedUntil, time.Now())
	if err := b.warnOfUnmount(ctx, response); err != nil {
		return nil, err
	}
	state, err := b.rotation.State(ctx)
	if err != nil {
		return response, err
	}
	return response, b.addSigning(ctx, stored, state, response)
}

func configSchema() map[int][]framework.Response {
	schema := withRenewalFields(fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"environment":             {Type: framework.TypeString, Description: "test, demo or production; empty for another url."},
		"url":                     {Type: framework.TypeString, Description: "Base address of the API."},
		"ca_certificate":          {Type: framework.TypeString, Description: "PEM certificates trusted besides the system's own."},
		"certificate":             {Type: framework.TypeString, Description: "PEM certificate of the signing credential, followed by its chain, without text between them."},
		"subject_identifier_type": {Type: framework.TypeString, Description: "How KSeF identifies the signer."},
		"request_timeout":         {Type: framework.TypeInt64, Description: "Bound of one request to KSeF, in seconds."},
		"activation_timeout":      {Type: framework.TypeInt64, Description: "Wait for a new token to become Active, in seconds."},
		fieldAllowedContexts:      {Type: framework.TypeStringSlice, Description: "Contexts that requests may name besides the default one; * for all."},
		fieldAllowedIPs:           {Type: framework.TypeStringSlice, Description: "IPv4 addresses from which KSeF accepts the engine's sessions, as given; empty for all."},
		leases.FieldUntil:         {Type: framework.TypeString, Description: "When KSeF tokens end, in RFC 3339; empty for no end."},
	}))
	maps.Copy(schema, configComputed())
	return fields.ResponseSchema(schema)
}

// configComputed are the fields that only a read of config returns.
func configComputed() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"signer_kind":               {Type: framework.TypeString, Description: "seal, person or fingerprint."},
		"signer_identifier_type":    {Type: framework.TypeString, Description: "Nip, Pesel or Fingerprint."},
		"signer_identifier":         {Type: framework.TypeString, Description: "The signer's identifier, as KSeF knows it."},
		"signer_name":               {Type: framework.TypeString, Description: "Common name in the certificate."},
		"certificate_serial_number": {Type: framework.TypeString, Description: "Serial number in hexadecimal, as KSeF writes it."},
		"certificate_not_after":     {Type: framework.TypeTime, Description: "When the certificate expires."},
		"certificate_days_left":     {Type: framework.TypeInt64, Description: "Whole days until the certificate expires; negative once it has."},
		"certificate_issuer":        {Type: framework.TypeString, Description: "Who has issued the certificate."},
		"signing":                   {Type: framework.TypeString, Description: "certificate, or external where a person signs logins."},
		leases.FieldNotice:          leases.NoticeSchema(),
		"session_until":             {Type: framework.TypeTime, Description: "With external signing, when the login in the default context ends."},
	}
}

// The fields that say which KSeF certificate to obtain. config stores them; config/rotate-root may
// deviate once.
const (
	fieldKeyType         = "certificate_key_type"
	fieldCertificateName = "certificate_name"
	fieldRenewBefore     = "certificate_renew_before"
)

func withRenewalFields(fields map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	fields[fieldRenewBefore] = &framework.FieldSchema{
		Type:        framework.TypeDurationSecond,
		Default:     defaultRenewBefore.String(),
		Description: "How long before its end a certificate that KSeF has issued is renewed by the engine itself: 1 to 365 days, spread by a tenth; 0 never renews. Default: 720h.",
	}
	automatedrotationutil.AddAutomatedRotationFieldsWithGroup(fields, "Vault Enterprise")
	// Those of the SDK speak of a database's user.
	for field, description := range map[string]string{
		"rotation_period":            "How often Vault's rotation manager rotates the certificate, as config/rotate-root does. Give this or rotation_schedule. Needs Vault Enterprise. Default: 0, never.",
		"rotation_schedule":          "When Vault's rotation manager rotates the certificate: minute, hour, day, month and weekday in cron's form, in UTC, such as 0 3 1 * *. Give this or rotation_period. Needs Vault Enterprise. Default: none.",
		"rotation_window":            "How long after a moment of rotation_schedule the rotation may begin. Give it with rotation_schedule. Default: 0, without a bound.",
		"rotation_policy":            "Name of the policy by which Vault's rotation manager repeats rotations that fail. Default: Vault's own.",
		"disable_automated_rotation": "Take the rotation back from Vault's rotation manager; rotation_period and rotation_schedule are kept. Default: false.",
	} {
		fields[field].Description = description
	}
	return withRequestFields(fields, string(enrollment.KeyP256), defaultCertificateName)
}

// withRequestFields adds those that config/rotate-root takes too.
func withRequestFields(fields map[string]*framework.FieldSchema, defaultKeyType, defaultName string) map[string]*framework.FieldSchema {
	fields[fieldKeyType] = &framework.FieldSchema{
		Type:          framework.TypeString,
		AllowedValues: []any{string(enrollment.KeyP256), string(enrollment.KeyRSA2048)},
		Description:   "Kind of key that the engine makes for a KSeF certificate: ec-p256 or rsa-2048. Default: " + defaultKeyType + ".",
	}
	fields[fieldCertificateName] = &framework.FieldSchema{
		Type: framework.TypeString,
		Description: "Template of the certificate's name in KSeF: text, and {{.NIP}}, that of the default context, with the functions of a role's description. " +
			"The engine adds a mark of its own. Default: " + defaultName + ".",
	}
	return fields
}

const helpConfig = `
Say which KSeF the mount talks to, in whose context tokens are made unless a role or
request names another, and with which credential logins are signed:

  vault write ksef/config environment=test nip=5265877635 \
      certificate=@cert.pem private_key=@key.pem

A write logs in to KSeF first, and stores nothing if that fails; verify=false
stores without asking. Fields that are left out stay as they are; null and an empty
text make a field what it is where it is not given. certificate and private_key, or
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
