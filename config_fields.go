// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/leases"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/automatedrotationutil"
	sdkrotation "github.com/hashicorp/vault/sdk/rotation"
)

const fieldCACertificate = "ca_certificate"

// Bounds of request_timeout and activation_timeout. Vault gives a request 90 seconds; the rest is
// for the login and for KSeF's limits.
const (
	minRequestTimeout    = time.Second
	maxRequestTimeout    = 60 * time.Second
	maxActivationTimeout = 60 * time.Second
)

// Bounds of certificate_renew_before besides 0: KSeF's certificates live for two years.
const (
	minRenewBefore = 24 * time.Hour
	maxRenewBefore = 365 * 24 * time.Hour
)

// defaultCertificateName is the template of a certificate's name in KSeF.
const defaultCertificateName = "Vault {{.NIP}}"

// defaultConfig holds the defaults of all fields that have one.
func defaultConfig() config {
	return config{
		Version:           configVersion,
		RequestTimeout:    client.DefaultRequestTimeout,
		ActivationTimeout: defaultActivationTimeout,
		RenewBefore:       defaultRenewBefore,
		KeyType:           enrollment.KeyP256,
		CertificateName:   defaultCertificateName,
	}
}

// applyConfig returns the configuration after a write of the fields: those that are not given stay
// as they are, and those that are unset get their defaults. Errors are the user's mistakes.
func applyConfig(current *config, data *framework.FieldData, unset []string, given writtenCredential) (*config, error) {
	next := defaultConfig()
	if current != nil {
		next = *current
	}
	for _, field := range unset {
		next.unset(field)
	}
	for _, apply := range []func(next *config, data *framework.FieldData) error{
		applyAddress,
		func(next *config, data *framework.FieldData) error { return bindCredential(current, next, data, given) },
		applyTimeouts,
		func(next *config, _ *framework.FieldData) error { return applyCredential(next, given) },
		applyContext, applyAllowedContexts, applyAllowedIPs, applySubjectType, applyTokensUntil, applyRenewal, checkSigning,
	} {
		if err := apply(&next, data); err != nil {
			return nil, err
		}
	}
	return &next, nil
}

func applyTokensUntil(next *config, data *framework.FieldData) error {
	raw, given := data.GetOk(leases.FieldUntil)
	if !given {
		return nil
	}
	until, err := leases.ParseUntil(raw.(string))
	if err != nil {
		return err
	}
	next.TokensAcceptedUntil = until
	return nil
}

// unset resets a field to its default. Of environment and url, and of nip and internal_id, it
// resets only the one in use. It keeps the credential, which only a delete of config removes.
func (c *config) unset(field string) {
	defaults := defaultConfig()
	switch field {
	case "environment":
		if c.Environment != "" {
			c.Environment, c.URL = "", ""
		}
	case "url":
		if c.Environment == "" {
			c.URL = ""
		}
	case fieldCACertificate:
		c.CACertificate = ""
	case "nip":
		c.Context = withoutType(c.Context, client.ContextNIP)
	case "internal_id":
		c.Context = withoutType(c.Context, client.ContextInternalID)
	case fieldAllowedContexts:
		c.AllowedContexts = nil
	case "subject_identifier_type":
		c.SubjectIdentifierType = ""
	case "request_timeout":
		c.RequestTimeout = defaults.RequestTimeout
	case "activation_timeout":
		c.ActivationTimeout = defaults.ActivationTimeout
	case fieldAllowedIPs:
		c.AllowedIPs = nil
	case leases.FieldUntil:
		c.TokensAcceptedUntil = time.Time{}
	case fieldRenewBefore:
		c.RenewBefore = defaults.RenewBefore
	case fieldKeyType:
		c.KeyType = defaults.KeyType
	case fieldCertificateName:
		c.CertificateName = defaults.CertificateName
	case "rotation_schedule":
		c.RotationSchedule, c.RotationWindow = "", 0
	case "rotation_window":
		c.RotationWindow = 0
	case "rotation_period":
		c.RotationPeriod = 0
	case "rotation_policy":
		c.RotationPolicy = ""
	case "disable_automated_rotation":
		c.DisableAutomatedRotation = false
	}
}

// withoutType returns the zero context for one of that type, and any other unchanged.
func withoutType(taxpayer client.ContextIdentifier, unset client.ContextType) client.ContextIdentifier {
	if taxpayer.Type == unset {
		return client.ContextIdentifier{}
	}
	return taxpayer
}

// applyAddress accepts environment and url together where they agree, as in the response to a read.
func applyAddress(next *config, data *framework.FieldData) error {
	environment, hasEnvironment := data.GetOk("environment")
	url, hasURL := data.GetOk("url")
	if hasURL {
		address, err := client.ParseURL(url.(string))
		if err != nil {
			return err
		}
		next.URL = address
	}
	if hasEnvironment {
		address, known := environments()[environment.(string)]
		switch {
		case !known:
			return &client.InputError{
				Field: "environment", Fault: "is not known",
				Remedy: "give test, demo or production, or an address in url",
			}
		case hasURL && next.URL != address:
			return &client.InputError{Field: "url", Fault: "is not the address of environment", Remedy: "give one of them"}
		}
		next.URL = address
	}
	if next.URL == "" {
		return &client.InputError{Field: "environment", Fault: "is missing", Remedy: "give test, demo or production, or an address in url"}
	}
	next.Environment = environmentOf(next.URL)
	if ca, given := data.GetOk(fieldCACertificate); given {
		next.CACertificate = ca.(string)
	}
	return nil
}

func applyTimeouts(next *config, data *framework.FieldData) error {
	if raw, given := data.GetOk("request_timeout"); given {
		next.RequestTimeout = time.Duration(raw.(int)) * time.Second
		if next.RequestTimeout < minRequestTimeout || next.RequestTimeout > maxRequestTimeout {
			return &client.InputError{Field: "request_timeout", Fault: "is out of range", Remedy: "give 1s to 60s"}
		}
	}
	if raw, given := data.GetOk("activation_timeout"); given {
		next.ActivationTimeout = time.Duration(raw.(int)) * time.Second
		if next.ActivationTimeout < 0 || next.ActivationTimeout > maxActivationTimeout {
			return &client.InputError{Field: "activation_timeout", Fault: "is out of range", Remedy: "give 0 (do not wait) to 60s"}
		}
	}
	return nil
}

// applyContext falls back on the certificate's own NIP: a company's seal logs in to the company's
// context.
func applyContext(next *config, data *framework.FieldData) error {
	given, err := contextFrom(data)
	if err != nil {
		return err
	}
	if !given.IsZero() {
		next.Context = given
	}
	if !next.Context.IsZero() {
		return nil
	}
	cred, err := next.credential()
	switch {
	case err != nil:
		return err
	case cred == nil:
		return &client.InputError{
			Field: "nip", Fault: "is missing, and there is no certificate that could name one",
			Remedy: "give nip or internal_id: the taxpayer in whose context tokens are made",
		}
	case cred.Identity.IdentifierType == credential.IdentifierNIP:
		if next.Context, err = client.ParseNIP(cred.Identity.Identifier); err != nil {
			return fmt.Errorf("the certificate's own NIP cannot be the default context: %w", err)
		}
	default:
		return &client.InputError{
			Field: "nip", Fault: "is missing, and the certificate names no NIP",
			Remedy: "give nip or internal_id: the taxpayer in whose context tokens are made",
		}
	}
	return nil
}

func applySubjectType(next *config, data *framework.FieldData) error {
	raw, given := data.GetOk("subject_identifier_type")
	if !given && next.SubjectIdentifierType != "" {
		return nil
	}
	cred, err := next.credential()
	if err != nil {
		return err
	}
	natural := xades.CertificateSubject
	if cred != nil {
		natural = cred.Identity.SubjectIdentifierType()
	}
	if !given {
		next.SubjectIdentifierType = natural
		return nil
	}
	next.SubjectIdentifierType = raw.(string)
	switch next.SubjectIdentifierType {
	case xades.CertificateFingerprint, natural:
		return nil
	case xades.CertificateSubject:
		return &client.InputError{
			Field: "subject_identifier_type", Fault: "is certificateSubject, but the certificate's subject has neither NIP nor PESEL",
			Remedy: "give certificateFingerprint, and grant the certificate's fingerprint a permission in KSeF",
		}
	}
	return &client.InputError{
		Field: "subject_identifier_type", Fault: "is not known",
		Remedy: "give certificateSubject or certificateFingerprint",
	}
}

// checkSigning refuses a value of signing other than the one that follows from whether there is a
// certificate.
func checkSigning(next *config, data *framework.FieldData) error {
	signing, given := data.GetOk("signing")
	if !given || signing == next.signing() {
		return nil
	}
	remedy := "for certificate, give certificate and private_key, or pkcs12"
	if next.signing() == signingCertificate {
		remedy = "for external, delete config and write it anew without a certificate"
	}
	return &client.InputError{Field: "signing", Fault: "would be " + next.signing() + " after this write", Remedy: "leave it out; " + remedy}
}

// contextFrom reads nip or internal_id. It returns the zero context where neither is given.
func contextFrom(data *framework.FieldData) (client.ContextIdentifier, error) {
	nip, hasNIP := data.GetOk("nip")
	internalID, hasInternalID := data.GetOk("internal_id")
	switch {
	case hasNIP && hasInternalID:
		return client.ContextIdentifier{}, &client.InputError{Field: "internal_id", Fault: "is given together with nip", Remedy: "give one of them"}
	case hasNIP:
		return client.ParseNIP(nip.(string))
	case hasInternalID:
		return client.ParseInternalID(internalID.(string))
	}
	return client.ContextIdentifier{}, nil
}

// bindCredential refuses to let the stored credential sign for another KSeF than it was given for.
// Otherwise its logins could be relayed by changing the API, without having the key.
func bindCredential(current, next *config, data *framework.FieldData, given writtenCredential) error {
	if current == nil || current.signing() == signingExternal || current.api() == next.api() || given.whole != nil {
		return nil
	}
	field := fieldCACertificate
	if current.URL != next.URL {
		field = "url"
		if _, named := data.GetOk("environment"); named {
			field = "environment"
		}
	}
	return &client.InputError{
		Field: field, Fault: "leads to another KSeF than the stored credential was given for",
		Remedy: "give certificate and private_key, or pkcs12, in the same write; force and verify change nothing about that",
	}
}

func applyRenewal(next *config, data *framework.FieldData) error {
	if raw, given := data.GetOk(fieldRenewBefore); given {
		next.RenewBefore = time.Duration(raw.(int)) * time.Second
		if next.RenewBefore != 0 && (next.RenewBefore < minRenewBefore || next.RenewBefore > maxRenewBefore) {
			return &client.InputError{Field: fieldRenewBefore, Fault: "is out of range", Remedy: "give 24h to 8760h, or 0 to never renew"}
		}
	}
	if _, err := next.applyRequest(data); err != nil {
		return err
	}
	if err := checkSchedule(data); err != nil {
		return err
	}
	err := next.ParseAutomatedRotationFields(data)
	if err == nil && next.RotationPeriod != 0 && next.RotationSchedule != "" {
		err = automatedrotationutil.ErrRotationMutuallyExclusiveFields
	}
	if err != nil {
		return &client.InputError{
			Field: "rotation_period, rotation_schedule, rotation_window", Fault: err.Error(),
			Remedy: "give rotation_period, or rotation_schedule with rotation_window, and 0 or \"\" for what was there before",
		}
	}
	return nil
}

// checkSchedule precedes the SDK's own check, whose error quotes the value.
func checkSchedule(data *framework.FieldData) error {
	text, given := data.GetOk("rotation_schedule")
	if !given || text == "" {
		return nil
	}
	schedule := text.(string)
	// The parser panics at a time zone alone, and Vault ignores zones: every schedule is in UTC.
	if strings.HasPrefix(schedule, "TZ=") || strings.HasPrefix(schedule, "CRON_TZ=") {
		return &client.InputError{Field: "rotation_schedule", Fault: "names a time zone", Remedy: "leave it out; Vault's rotation manager goes by UTC"}
	}
	if _, err := sdkrotation.DefaultScheduler.Parse(schedule); err != nil {
		return &client.InputError{Field: "rotation_schedule", Fault: "is not in cron's form", Remedy: "give minute, hour, day, month and weekday, such as 0 3 1 * *"}
	}
	return nil
}
