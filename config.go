// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
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

// writtenCredential is the part of the signing credential that a write gives.
type writtenCredential struct {
	// whole is a certificate with its key; nil where there is none.
	whole *credential.Credential
	// certificates are given without a key: they must be those in force.
	certificates []*x509.Certificate
}

// readCredential reads the credential from the fields. That can take a second, so it is done before
// anything is locked, and for one request at a time.
func (b *backend) readCredential(ctx context.Context, data *framework.FieldData) (writtenCredential, error) {
	given := func(field string) bool { _, is := data.Raw[field]; return is }
	if !slices.ContainsFunc(credentialFields(), given) {
		return writtenCredential{}, nil
	}
	if err := b.parsing.Acquire(ctx, 1); err != nil {
		return writtenCredential{}, fmt.Errorf("waiting for another credential that is being read: %w", err)
	}
	defer b.parsing.Release(1)
	if given(credential.FieldCertificate) && !slices.ContainsFunc(credentialFields()[1:], given) {
		certificates, err := credential.ReadCertificates(data.Get(credential.FieldCertificate).(string))
		return writtenCredential{certificates: certificates}, err
	}
	source := credential.Source{
		Certificate:        data.Get(credential.FieldCertificate).(string),
		PrivateKey:         data.Get(credential.FieldPrivateKey).(string),
		PrivateKeyPassword: password(data, credential.FieldPrivateKeyPassword),
		PKCS12Password:     password(data, credential.FieldPKCS12Password),
	}
	if raw := data.Get(credential.FieldPKCS12).(string); raw != "" {
		decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(raw), ""))
		if err != nil {
			return writtenCredential{}, &client.InputError{Field: "pkcs12", Fault: "is not base64", Remedy: "give the output of: base64 -w0 file.p12"}
		}
		source.PKCS12 = decoded
	}
	whole, err := credential.Read(source)
	return writtenCredential{whole: whole}, err
}

// credentialFields replace the credential as a whole.
func credentialFields() []string {
	return []string{
		credential.FieldCertificate, credential.FieldPrivateKey, credential.FieldPrivateKeyPassword,
		credential.FieldPKCS12, credential.FieldPKCS12Password,
	}
}

// password removes the end of the line that an editor adds to a file.
func password(data *framework.FieldData, field string) string {
	return strings.TrimSuffix(strings.TrimSuffix(data.Get(field).(string), "\n"), "\r")
}

// applyCredential leaves a configuration without a credential to externally signed logins. The
// credential in force, given again, changes nothing.
func applyCredential(next *config, given writtenCredential) error {
	if given.whole == nil {
		cred, err := next.credential()
		if err == nil && len(given.certificates) > 0 && !cred.Consists(given.certificates) {
			err = &client.InputError{
				Field: credential.FieldPrivateKey, Fault: "is missing, and certificate is not the one in force",
				Remedy: "give the key that certificate was issued for, or leave certificate out",
			}
		}
		return err
	}
	certificate, key, err := given.whole.PEM()
	if err != nil {
		return err
	}
	if certificate != next.Certificate {
		if err := given.whole.CheckValidity(time.Now()); err != nil {
			return err
		}
		next.SubjectIdentifierType, next.CertificateMade = given.whole.Identity.SubjectIdentifierType(), false
	}
	next.Certificate, next.PrivateKey = certificate, key
	return nil
}
