// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"maps"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/vault/sdk/framework"
)

const (
	fieldCredentialType      = "credential_type"
	fieldLogin               = "login"
	fieldFullRights          = "full_rights"
	fieldLeased              = "leased"
	fieldTokenRotationPeriod = "token_rotation_period"

	credentialToken       = "token"
	credentialAccessToken = "access_token"

	loginToken       = "token"
	loginCertificate = "certificate"

	defaultTokenRotation = 30 * 24 * time.Hour
	minTokenRotation     = time.Hour
	maxTokenRotation     = 366 * 24 * time.Hour
)

// roleAccess is what a role says of access tokens. It is stored whatever the role hands out.
type roleAccess struct {
	// CredentialType is "" in roles of before, which hand out tokens.
	CredentialType string   `json:"credential_type,omitempty"`
	Login          string   `json:"login,omitempty"`
	FullRights     bool     `json:"full_rights,omitempty"`
	Leased         bool     `json:"leased,omitempty"`
	AllowedIPs     []string `json:"allowed_ips,omitempty"`
	// TokenRotationPeriod is 0 for the default.
	TokenRotationPeriod time.Duration `json:"token_rotation_period,omitempty"`
}

// handsOutAccess says that creds answers with access tokens.
func (r *roleAccess) handsOutAccess() bool { return r.CredentialType == credentialAccessToken }

func (r *roleAccess) byCertificate() bool { return r.Login == loginCertificate }

func (r *roleAccess) credentialType() string {
	if r.handsOutAccess() {
		return credentialAccessToken
	}
	return credentialToken
}

func (r *roleAccess) login() string {
	if r.byCertificate() {
		return loginCertificate
	}
	return loginToken
}

func (r *roleAccess) tokenRotationPeriod() time.Duration {
	if r.TokenRotationPeriod == 0 {
		return defaultTokenRotation
	}
	return r.TokenRotationPeriod
}

// apply reads the fields of access tokens.
func (r *roleAccess) apply(data *framework.FieldData) (err error) {
	if r.CredentialType, err = oneOf(data, fieldCredentialType, r.CredentialType, credentialToken, credentialAccessToken); err != nil {
		return err
	}
	if r.Login, err = oneOf(data, fieldLogin, r.Login, loginToken, loginCertificate); err != nil {
		return err
	}
	if raw, given := data.GetOk(fieldFullRights); given {
		r.FullRights = raw.(bool)
	}
	if raw, given := data.GetOk(fieldLeased); given {
		r.Leased = raw.(bool)
	}
	if raw, given := data.GetOk(fieldTokenRotationPeriod); given {
		r.TokenRotationPeriod = time.Duration(raw.(int)) * time.Second
		if r.TokenRotationPeriod < minTokenRotation || r.TokenRotationPeriod > maxTokenRotation {
			return &client.InputError{Field: fieldTokenRotationPeriod, Fault: "is out of range", Remedy: "give 1h to 8784h"}
		}
	}
	if r.AllowedIPs, err = roleAddresses(data, r.AllowedIPs); err != nil {
		return err
	}
	r.dropDefaults()
	return r.checkFullRights()
}

// dropDefaults makes a default that was given equal to one that was not.
func (r *roleAccess) dropDefaults() {
	if !r.handsOutAccess() {
		r.CredentialType = ""
	}
	if !r.byCertificate() {
		r.Login = ""
	}
	if r.TokenRotationPeriod == defaultTokenRotation {
		r.TokenRotationPeriod = 0
	}
}

// checkFullRights wants full_rights for what no policy of Vault's can limit.
func (r *roleAccess) checkFullRights() error {
	if !r.handsOutAccess() || !r.byCertificate() || r.FullRights {
		return nil
	}
	return &client.InputError{
		Field: fieldFullRights, Fault: "is false beside login=certificate: such an access token carries all rights that the mount's subject has at the taxpayer, " +
			"making tokens and certificates included, and the role's permissions do not limit it",
		Remedy: "give full_rights=true in the same write, best on a mount whose subject has been granted in KSeF only what the program needs, or login=token",
	}
}

// oneOf reads a field with two values.
func oneOf(data *framework.FieldData, field, otherwise string, values ...string) (string, error) {
	raw, given := data.GetOk(field)
	if !given {
		return otherwise, nil
	}
	if value := raw.(string); slices.Contains(values, value) {
		return value, nil
	}
	return "", &client.InputError{Field: field, Fault: "is not one that the engine knows", Remedy: "give " + strings.Join(values, " or ")}
}

// roleAddresses reads allowed_ips of a role, in the given order.
func roleAddresses(data *framework.FieldData, otherwise []string) ([]string, error) {
	raw, given := data.GetOk(fieldAllowedIPs)
	if !given {
		return otherwise, nil
	}
	var entries []string
	for _, entry := range raw.([]string) {
		entries = append(entries, strings.TrimSpace(entry))
	}
	return entries, session.CheckRoleAddresses(entries)
}

// unset resets a field to its default.
func (r *roleAccess) unset(field string) {
	switch field {
	case fieldCredentialType:
		r.CredentialType = ""
	case fieldLogin:
		r.Login = ""
	case fieldFullRights:
		r.FullRights = false
	case fieldLeased:
		r.Leased = false
	case fieldTokenRotationPeriod:
		r.TokenRotationPeriod = 0
	case fieldAllowedIPs:
		r.AllowedIPs = nil
	}
}

// show adds the fields to what a read of the role shows.
func (r *roleAccess) show(shown map[string]any) {
	maps.Copy(shown, map[string]any{
		fieldCredentialType:      r.credentialType(),
		fieldLogin:               r.login(),
		fieldFullRights:          r.FullRights,
		fieldLeased:              r.Leased,
		fieldTokenRotationPeriod: int64(r.tokenRotationPeriod() / time.Second),
		fieldAllowedIPs:          orEmpty(r.AllowedIPs),
	})
}

// unusedWarning names addresses that bind nothing.
func (r *roleAccess) unusedWarning() string {
	if r.handsOutAccess() || len(r.AllowedIPs) == 0 {
		return ""
	}
	return "allowed_ips binds access tokens only (credential_type=access_token): KSeF accepts the role's KSeF tokens from every address."
}

// withRoleAccess adds the fields of a write of a role.
func withRoleAccess(schema map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	maps.Copy(schema, map[string]*framework.FieldSchema{
		fieldCredentialType: {
			Type: framework.TypeString, Default: credentialToken, AllowedValues: []any{credentialToken, credentialAccessToken},
			Description: "What creds/<role> answers with: token, a KSeF token as a lease; access_token, KSeF's JWT of 15 minutes, which the engine keeps fresh and any number may read. Default: token.",
		},
		fieldLogin: {
			Type: framework.TypeString, Default: loginToken, AllowedValues: []any{loginToken, loginCertificate},
			Description: "How the engine logs in for access tokens: token, with a KSeF token of its own that has the role's permissions; certificate, with that of config, which needs full_rights. Default: token.",
		},
		fieldFullRights: {
			Type: framework.TypeBool, Default: false,
			Description: "Agrees that access tokens of login=certificate carry all rights of the mount's subject at the taxpayer, whatever permissions says. Default: false.",
		},
		fieldLeased: {
			Type: framework.TypeBool, Default: false,
			Description: "Answers an access token as a lease that cannot be renewed and ends at the engine's next refresh, for programs that read again only at the end of a lease. Its revocation does nothing. Default: false.",
		},
		fieldTokenRotationPeriod: {
			Type:        framework.TypeDurationSecond,
			Description: "How long the KSeF token behind access tokens of login=token is used before another replaces it, 1h to 8784h. Default: 720h.",
		},
		fieldAllowedIPs: {
			Type: framework.TypeCommaStringSlice,
			Description: "IPv4 addresses from which KSeF accepts the role's access tokens, besides the engine's own: addresses (192.0.2.7), ranges (192.0.2.7-192.0.2.20) and masks (192.0.2.0/24), " +
				"at most 9. Default: all addresses.",
		},
	})
	return schema
}

// withRoleAccessShown adds the fields of a read of a role.
func withRoleAccessShown(schema map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	maps.Copy(schema, map[string]*framework.FieldSchema{
		fieldCredentialType:      {Type: framework.TypeString, Description: "What creds/<role> answers with: token or access_token."},
		fieldLogin:               {Type: framework.TypeString, Description: "How the engine logs in for access tokens: token or certificate."},
		fieldFullRights:          {Type: framework.TypeBool, Description: "Whether access tokens of login=certificate are agreed to."},
		fieldLeased:              {Type: framework.TypeBool, Description: "Whether an access token is answered as a lease."},
		fieldTokenRotationPeriod: {Type: framework.TypeInt64, Description: "How long the KSeF token behind access tokens is used, in seconds."},
		fieldAllowedIPs:          {Type: framework.TypeStringSlice, Description: "Addresses from which KSeF accepts the role's access tokens, besides the engine's own."},
	})
	return schema
}
