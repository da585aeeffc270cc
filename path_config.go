// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathConfig() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "config",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "configuration"},
		Fields: withContextFields(map[string]*framework.FieldSchema{
			"environment": {
				Type:          framework.TypeString,
				AllowedValues: []any{"test", "demo", "production"},
				Description:   "KSeF's environment: test, demo or production. Give this or url.",
			},
			"url": {
				Type:        framework.TypeString,
				Description: "Base address of the API with its version, such as https://api-test.ksef.mf.gov.pl/v2. Plain http is accepted for loopback hosts only. Give this or environment.",
			},
			"ca_certificate": {
				Type:        framework.TypeString,
				Description: "PEM certificates that are trusted besides the system's own, for an API behind a private authority.",
			},
			"certificate": {
				Type:        framework.TypeString,
				Description: "PEM certificate, or chain, of the signing credential: a seal, a person's certificate, or a KSeF certificate of type Authentication.",
			},
			"private_key": {
				Type:         framework.TypeString,
				Description:  "PEM private key of the certificate: PKCS#8, encrypted PKCS#8, PKCS#1 or SEC1; RSA of 2048 bits or more, or ECDSA on P-256. Never read back.",
				DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
			},
			"private_key_password": {
				Type:         framework.TypeString,
				Description:  "Password of an encrypted private_key. Not stored.",
				DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
			},
			"pkcs12": {
				Type:         framework.TypeString,
				Description:  "Certificate and key together as PKCS#12 (.p12, .pfx), in base64. Give this or certificate and private_key.",
				DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
			},
			"pkcs12_password": {
				Type:         framework.TypeString,
				Description:  "Password of pkcs12. Not stored.",
				DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
			},
			"subject_identifier_type": {
				Type:          framework.TypeString,
				AllowedValues: []any{"certificateSubject", "certificateFingerprint"},
				Description:   "How KSeF identifies the signer. Found out from the certificate unless given.",
			},
			"verify": {
				Type:        framework.TypeBool,
				Default:     true,
				Description: "Log in to KSeF before the configuration is stored, to prove that it works.",
			},
			"request_timeout": {
				Type:        framework.TypeDurationSecond,
				Default:     30,
				Description: "Bound of one request to KSeF, 1s to 60s.",
			},
			"activation_timeout": {
				Type:        framework.TypeDurationSecond,
				Default:     int(defaultActivationTimeout / time.Second),
				Description: "How long an answer waits for a new token to become Active, up to 60s; 0 does not wait.",
			},
			"force": {
				Type:        framework.TypeBool,
				Default:     false,
				Description: "Change the API or delete the configuration although tokens are open; they can then no longer be revoked.",
			},
		}),
		ExistenceCheck: b.configExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: writeOperation(b.pathConfigWrite, "configure", configAnswer()),
			logical.UpdateOperation: writeOperation(b.pathConfigWrite, "configure", configAnswer()),
			logical.ReadOperation:   readOperation(b.pathConfigRead, "read", configAnswer()),
			logical.DeleteOperation: writeOperation(b.pathConfigDelete, "delete", noContentOrWarnings()),
		},
		HelpSynopsis:    "The KSeF environment, and the credential that signs logins.",
		HelpDescription: strings.TrimSpace(helpConfig),
	}}
}

func (b *backend) configExists(ctx context.Context, req *logical.Request, _ *framework.FieldData) (bool, error) {
	entry, err := req.Storage.Get(ctx, configKey)
	return entry != nil, err
}

func (b *backend) pathConfigWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	if err := b.connection.take(ctx); err != nil {
		return nil, err
	}
	defer b.connection.release()
	// One that cannot be read is replaced as a whole; its sessions are lost.
	current, readErr := readConfig(ctx, req.Storage)
	next, err := applyConfig(current, data)
	if err != nil {
		return answerError(errors.Join(err, readErr))
	}
	release, warning, err := b.guardConfig(ctx, current, next, data.Get("force").(bool))
	if err != nil {
		return answerError(err)
	}
	defer release()
	built, err := b.build(next)
	if err != nil {
		return answerError(err)
	}
	verify := data.Get("verify").(bool)
	if verify {
		if err := built.prove(ctx, current); err != nil {
			return answerError(fmt.Errorf("the configuration was not stored, because it does not work: %w", err))
		}
	}
	response, err := b.adopt(ctx, current, built)
	if err != nil {
		return nil, err
	}
	addWarnings(response, warning, b.notices.freshWarning())
	if !verify {
		response.AddWarning("The configuration was stored without logging in to KSeF; the first token will show whether it works.")
	}
	b.sendEvent(ctx, "config-write", "config", logical.EventMetadataModified, "true", logical.EventMetadataOperation, string(req.Operation))
	return response, nil
}

// prove logs in. Where only other settings change, the session that there is
// proves it by a refresh.
func (c *connection) prove(ctx context.Context, before *config) error {
	if before != nil && before.identity() == c.config.identity() {
		return c.sessions.Verify(ctx, c.config.Context)
	}
	return c.sessions.Login(ctx, c.config.Context)
}

// adopt stores a configuration, ends the sessions of another signer or API, and
// puts the new one in force.
func (b *backend) adopt(ctx context.Context, current *config, built *connection) (*logical.Response, error) {
	replaces := current != nil && current.identity() != built.config.identity()
	if err := built.config.store(ctx, b.storage); err != nil {
		if current == nil || replaces {
			err = errors.Join(err, built.sessions.End(ctx, false))
		}
		return nil, err
	}
	response := &logical.Response{}
	if replaces {
		if err := b.endSessions(ctx, current); err != nil {
			addWarnings(response, fmt.Sprintf("A session of the configuration before may still be open in KSeF until it ends by itself, after 7 days at most: %v", err))
		}
	}
	if err := built.sessions.Save(ctx, built.config.Context); err != nil {
		addWarnings(response, fmt.Sprintf("The login works, but could not be stored; the next start logs in anew: %v", err))
	}
	b.connection.replace(built)
	b.ledger.Wake()
	response.Data = built.config.answer()
	return response, nil
}

// endSessions ends what was logged in under a configuration, also where it is
// not the one in memory.
func (b *backend) endSessions(ctx context.Context, current *config) error {
	connected := b.connection.get()
	if connected == nil || connected.config.identity() != current.identity() {
		built, err := b.build(current)
		if err != nil {
			return err
		}
		connected = built
	}
	return connected.sessions.End(ctx, true)
}

func (b *backend) pathConfigRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	stored, err := readConfig(ctx, req.Storage)
	if err != nil || stored == nil {
		return nil, err
	}
	response := &logical.Response{Data: stored.answer()}
	if warning := stored.expiryWarning(time.Now()); warning != "" {
		response.AddWarning(warning)
	}
	return response, nil
}

func (b *backend) pathConfigDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	if err := b.connection.take(ctx); err != nil {
		return nil, err
	}
	defer b.connection.release()
	current, err := readConfig(ctx, req.Storage)
	if err != nil || current == nil {
		return nil, err
	}
	release, warning, err := b.guardConfig(ctx, current, nil, data.Get("force").(bool))
	if err != nil {
		return answerError(err)
	}
	defer release()
	if err := req.Storage.Delete(ctx, configKey); err != nil {
		return nil, fmt.Errorf("deleting the configuration: %w", err)
	}
	ended := b.endSessions(ctx, current)
	b.connection.replace(nil)
	b.sendEvent(ctx, "config-delete", "config", logical.EventMetadataModified, "true", logical.EventMetadataOperation, string(req.Operation))
	response := &logical.Response{}
	addWarnings(response, warning)
	if ended != nil {
		addWarnings(response, fmt.Sprintf("A session may still be open in KSeF until it ends by itself, after 7 days at most: %v", ended))
	}
	if len(response.Warnings) == 0 {
		return nil, nil
	}
	return response, nil
}

// answer is what a read shows: everything but secrets.
func (c *config) answer() map[string]any {
	answer := map[string]any{
		"environment":             c.Environment,
		"url":                     c.URL,
		"ca_certificate":          c.CACertificate,
		"certificate":             c.Certificate,
		"subject_identifier_type": c.SubjectIdentifierType,
		"request_timeout":         int64(c.RequestTimeout / time.Second),
		"activation_timeout":      int64(c.ActivationTimeout / time.Second),
	}
	addContext(answer, c.Context)
	if held, err := c.credential(); err == nil {
		answer["signer_kind"] = string(held.Identity.Kind)
		answer["signer_identifier_type"] = held.Identity.IdentifierType
		answer["signer_identifier"] = held.Identity.Identifier
		answer["signer_name"] = held.Identity.Name
		answer["certificate_serial_number"] = fmt.Sprintf("%X", held.Certificate.SerialNumber)
		answer["certificate_not_after"] = held.Certificate.NotAfter.UTC().Format(time.RFC3339)
		answer["certificate_days_left"] = daysLeft(held.Certificate.NotAfter, time.Now())
	}
	return answer
}

// summary is what status shows of the configuration: no long texts.
func (c *config) summary() map[string]any {
	summary := c.answer()
	delete(summary, "certificate")
	delete(summary, "ca_certificate")
	return summary
}

// expiryNotice is how long before the certificate's end a read of config warns.
const expiryNotice = 30 * 24 * time.Hour

func (c *config) expiryWarning(now time.Time) string {
	held, err := c.credential()
	if err != nil {
		return "The stored credential cannot be read: " + err.Error()
	}
	end := held.Certificate.NotAfter
	switch {
	case end.Sub(now) > expiryNotice:
		return ""
	case now.After(end):
		return "The certificate has expired: no token can be made or revoked once the session ends. Write a new one to config."
	}
	return fmt.Sprintf("The certificate expires in %d days. Write a new one to config before that.", daysLeft(end, now))
}

func daysLeft(end, now time.Time) int64 {
	return int64(math.Floor(end.Sub(now).Hours() / 24))
}

func configAnswer() map[int][]framework.Response {
	fields := withContextFields(map[string]*framework.FieldSchema{
		"environment":               {Type: framework.TypeString, Description: "test, demo or production; empty for another url."},
		"url":                       {Type: framework.TypeString, Description: "Base address of the API."},
		"ca_certificate":            {Type: framework.TypeString, Description: "PEM certificates trusted besides the system's own."},
		"certificate":               {Type: framework.TypeString, Description: "PEM certificate of the signing credential, with its chain."},
		"subject_identifier_type":   {Type: framework.TypeString, Description: "How KSeF identifies the signer."},
		"request_timeout":           {Type: framework.TypeInt64, Description: "Bound of one request to KSeF, in seconds."},
		"activation_timeout":        {Type: framework.TypeInt64, Description: "Wait for a new token to become Active, in seconds."},
		"signer_kind":               {Type: framework.TypeString, Description: "seal, person or fingerprint."},
		"signer_identifier_type":    {Type: framework.TypeString, Description: "Nip, Pesel or Fingerprint."},
		"signer_identifier":         {Type: framework.TypeString, Description: "The signer's identifier, as KSeF knows it."},
		"signer_name":               {Type: framework.TypeString, Description: "Common name in the certificate."},
		"certificate_serial_number": {Type: framework.TypeString, Description: "Serial number, in hexadecimal."},
		"certificate_not_after":     {Type: framework.TypeTime, Description: "When the certificate expires."},
		"certificate_days_left":     {Type: framework.TypeInt64, Description: "Whole days until then; negative once it has expired."},
	})
	return map[int][]framework.Response{http.StatusOK: {{Description: "OK", Fields: fields}}}
}

const helpConfig = `
The configuration says which KSeF the mount talks to, in whose context tokens
are made unless a role or request names another, and with which credential
logins are signed.

  vault write ksef/config environment=test nip=5265877635 \
      certificate=@cert.pem private_key=@key.pem

A write logs in to KSeF first, and stores nothing if that fails; verify=false
stores without asking. Fields that are not given stay as they are. certificate
and private_key, or pkcs12, replace the credential as a whole.

The private key is stored seal-wrapped and never read back. Passwords are used
once and not stored.

The signing subject must be able to log in to the context, hold every permission
that tokens are to carry (KSeF answers 26001 otherwise), and should hold
CredentialsManage: without it, it can revoke only tokens that it made itself.
`
