// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/description"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/jsonentry"
	"vault-plugin-secrets-ksef/internal/rotation"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/automatedrotationutil"
	"github.com/hashicorp/vault/sdk/logical"
)

// configKey is where the configuration is stored. It holds a private key and is seal-wrapped.
const configKey = "config"

const configVersion = 1

// defaultActivationTimeout is how long a response waits for a token to become Active; KSeF takes
// seconds.
const defaultActivationTimeout = 30 * time.Second

// defaultRenewBefore is how long before its end a KSeF certificate is renewed.
const defaultRenewBefore = 30 * 24 * time.Hour

// config is the configuration as stored. It is never printed: a read is built from it field by
// field.
type config struct {
	Version       int                      `json:"version"`
	Environment   string                   `json:"environment,omitempty"`
	URL           string                   `json:"url"`
	CACertificate string                   `json:"ca_certificate,omitempty"`
	Context       client.ContextIdentifier `json:"context"`
	// AllowedContexts are values of contexts, or everyContext.
	AllowedContexts []string `json:"allowed_contexts,omitempty"`
	// AllowedIPs are as given; empty allows all.
	AllowedIPs []string `json:"allowed_ips,omitempty"`
	// Certificate and PrivateKey are empty where logins are signed externally.
	Certificate           string `json:"certificate"`
	PrivateKey            string `json:"private_key"`
	SubjectIdentifierType string `json:"subject_identifier_type"`
	// CertificateMade says that a rotation has put Certificate in force: its key was made here.
	CertificateMade   bool          `json:"certificate_made,omitempty"`
	RequestTimeout    time.Duration `json:"request_timeout"`
	ActivationTimeout time.Duration `json:"activation_timeout"`
	// TokensAcceptedUntil is the end of KSeF tokens; zero for none.
	TokensAcceptedUntil time.Time `json:"tokens_accepted_until,omitzero"`

	// The fields below are for KSeF certificates that the engine obtains.
	RenewBefore     time.Duration      `json:"certificate_renew_before"`
	KeyType         enrollment.KeyType `json:"certificate_key_type"`
	CertificateName string             `json:"certificate_name"`
	automatedrotationutil.AutomatedRotationParams
}

// The ways in which logins are signed.
const (
	signingCertificate = "certificate"
	signingExternal    = "external"
)

// signing returns how logins are signed.
func (c *config) signing() string {
	if c.Certificate == "" {
		return signingExternal
	}
	return signingCertificate
}

// readConfig returns nil where nothing is configured.
func readConfig(ctx context.Context, storage logical.Storage) (*config, error) {
	entry, err := storage.Get(ctx, configKey)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if entry == nil {
		return nil, nil
	}
	var stored config
	if err = entry.DecodeJSON(&stored); err == nil && stored.Version != configVersion {
		err = fmt.Errorf("its version is %d, known is %d", stored.Version, configVersion)
	}
	if err != nil {
		return nil, &unreadableConfigError{entry, err}
	}
	return &stored, nil
}

// unreadableConfigError says that the stored configuration cannot be read.
type unreadableConfigError struct {
	entry *logical.StorageEntry
	err   error
}

func (e *unreadableConfigError) Error() string {
	return fmt.Sprintf("the stored configuration cannot be read; write it anew, with all its fields, or delete it with force=tokens: %v", e.err)
}

func (e *unreadableConfigError) Unwrap() error { return e.err }

func (c *config) store(ctx context.Context, storage logical.Storage) error {
	return jsonentry.Put(ctx, storage, configKey, c, "the configuration")
}

// credential reads the signing credential, also one that has expired: a session that is still open
// can revoke tokens. It is nil where logins are signed externally.
func (c *config) credential() (*credential.Credential, error) {
	if c.signing() == signingExternal {
		return nil, nil
	}
	return credential.Read(credential.Source{Certificate: c.Certificate, PrivateKey: c.PrivateKey})
}

// withMade returns the configuration with a certificate that the engine has made.
func (c *config) withMade(certificate, privateKey string) (*config, error) {
	next := *c
	next.Certificate, next.PrivateKey, next.CertificateMade = certificate, privateKey, true
	cred, err := next.credential()
	if err != nil {
		return nil, err
	}
	next.SubjectIdentifierType = cred.Identity.SubjectIdentifierType()
	return &next, nil
}

// environments maps the names that config takes to KSeF's addresses.
func environments() map[string]string {
	return map[string]string{
		"test":       client.TestURL,
		"demo":       client.DemoURL,
		"production": client.ProductionURL,
	}
}

func environmentOf(url string) string {
	for name, address := range environments() {
		if address == url {
			return name
		}
	}
	return ""
}

// api identifies the KSeF that config leads to: its address, and the authorities that config trusts
// besides the system's own. A change of either could lead requests elsewhere.
func (c *config) api() string {
	if c.CACertificate == "" {
		return c.URL
	}
	return c.URL + " with " + fieldCACertificate + " " + authoritiesDigest(c.CACertificate)
}

// authoritiesDigest depends on the certificates alone, not on the layout of their PEM.
func authoritiesDigest(text string) string {
	digest := sha256.New()
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		sum := sha256.Sum256(block.Bytes)
		digest.Write(sum[:])
	}
	return hex.EncodeToString(digest.Sum(nil)[:16])
}

// applyRequest sets the fields of the certificate that the engine obtains, and returns the request
// for it.
func (c *config) applyRequest(data *framework.FieldData) (rotation.Request, error) {
	if raw, given := data.GetOk(fieldKeyType); given {
		c.KeyType = enrollment.KeyType(raw.(string))
	}
	if raw, given := data.GetOk(fieldCertificateName); given {
		c.CertificateName = raw.(string)
	}
	return c.certificateRequest()
}

// certificateRequest is the certificate that the engine obtains from KSeF.
func (c *config) certificateRequest() (rotation.Request, error) {
	kind, err := enrollment.ParseKeyType(fieldKeyType, string(c.KeyType))
	if err != nil {
		return rotation.Request{}, err
	}
	name, err := description.FillTemplate(fieldCertificateName, c.CertificateName, map[string]string{"NIP": c.Context.NIP()})
	if err != nil {
		return rotation.Request{}, err
	}
	name = strings.TrimSpace(name)
	return rotation.Request{Request: enrollment.Request{KeyType: kind, Name: name}}, enrollment.CheckName(fieldCertificateName, name)
}
