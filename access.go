// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/internal/unleased"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// deadTokens remembers the tokens with which a login was refused, until the next login of the key
// has another made.
type deadTokens struct {
	mu    sync.Mutex
	inUse map[accesstoken.Key]string // the number of the token of the last login
	dead  map[accesstoken.Key]string
}

func newDeadTokens() *deadTokens {
	return &deadTokens{inUse: make(map[accesstoken.Key]string), dead: make(map[accesstoken.Key]string)}
}

func (d *deadTokens) use(key accesstoken.Key, referenceNumber string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inUse[key] = referenceNumber
}

// mark says that KSeF has refused the token of the last login.
func (d *deadTokens) mark(key accesstoken.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead[key] = d.inUse[key]
}

// take returns the token that KSeF has refused, "" for none.
func (d *deadTokens) take(key accesstoken.Key) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	referenceNumber := d.dead[key]
	delete(d.dead, key)
	return referenceNumber
}

func (d *deadTokens) has(key accesstoken.Key) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead[key] != ""
}

// accessToken returns the access token of a key. Where KSeF refuses the token behind it, another is
// made at once: a reader can revoke what stands behind a role.
func (b *backend) accessToken(ctx context.Context, key accesstoken.Key) (*accesstoken.Token, error) {
	token, err := b.access.Read(ctx, key)
	if err != nil && b.deadTokens.has(key) {
		return b.access.Read(ctx, key)
	}
	return token, err
}

func accessKey(role string, taxpayer client.ContextIdentifier) accesstoken.Key {
	return accesstoken.Key{Role: role, Taxpayer: taxpayer}
}

// keyIs matches one key.
func keyIs(key accesstoken.Key) func(accesstoken.Key) bool {
	return func(other accesstoken.Key) bool { return other == key }
}

// accessRoleIn returns the access-token role and the taxpayer that a path names.
func (b *backend) accessRoleIn(ctx context.Context, req *logical.Request, data *framework.FieldData) (string, *role, client.ContextIdentifier, error) {
	var taxpayer client.ContextIdentifier
	name, err := fields.ReadName(data, "role")
	if err != nil {
		return "", nil, taxpayer, err
	}
	stored, err := b.readRole(ctx, req.Storage, name)
	switch {
	case err != nil:
		return name, nil, taxpayer, err
	case stored == nil:
		return name, nil, taxpayer, noRole(name)
	case !stored.handsOutAccess():
		return name, nil, taxpayer, &client.InputError{
			Field: "role", Fault: fmt.Sprintf("%q hands out tokens, each for its lease", name),
			Remedy: fmt.Sprintf("end its leases (vault lease revoke -prefix <mount>/creds/%s), or name a role with credential_type=access_token", name),
		}
	}
	current, err := b.connect(ctx)
	if err != nil {
		return name, nil, taxpayer, err
	}
	named, _ := data.GetOk("taxpayer")
	taxpayer, err = stored.taxpayer(name, asText(named), current.config)
	return name, stored, taxpayer, err
}

// onAccessLogin follows a login of an access token.
func (b *backend) onAccessLogin(key accesstoken.Key, err error) {
	login, refused := errors.AsType[*client.LoginError](err)
	if refused && login.Status.Code == client.LoginTokenRefused {
		b.deadTokens.mark(key)
	}
	b.report.AccessLogin(key.Role, key.Taxpayer, err)
}

// onUnreadAccess lets the token behind an access token go, if it is not used again: that of a
// static role is its own.
func (b *backend) onUnreadAccess(ctx context.Context, key accesstoken.Key, since time.Time) error {
	if key.Static {
		return nil
	}
	return b.holders.MarkUnused(ctx, holderBehind(key), since)
}

// accessKSeF is where the configuration in force leads.
func (b *backend) accessKSeF(ctx context.Context) (accesstoken.KSeF, error) {
	current, err := b.connect(ctx)
	if err != nil {
		return accesstoken.KSeF{}, err
	}
	return current.forAccess(b), nil
}

func (c *connection) forAccess(b *backend) accesstoken.KSeF {
	return accesstoken.KSeF{
		API: c.config.api(), Client: c.client,
		Limiter: func(taxpayer client.ContextIdentifier) client.Limiter {
			return b.limiters.For(c.config.URL, taxpayer, ratelimit.Wait{AtMost: authMaxWait})
		},
		Learn: func(ctx context.Context, taxpayer client.ContextIdentifier, access client.Secret) {
			b.learnLimits(ctx, c.client, taxpayer, access)
		},
	}
}

// accessLogin says how the session behind an access token is made.
func (b *backend) accessLogin(ctx context.Context, key accesstoken.Key) (accesstoken.Login, error) {
	current, err := b.connect(ctx)
	if err != nil {
		return accesstoken.Login{}, err
	}
	if key.Static {
		stored, err := b.readStaticRole(ctx, key.Role)
		if err != nil {
			return accesstoken.Login{}, err
		}
		if stored == nil {
			return accesstoken.Login{}, &accesstoken.GoneError{Err: noStaticRole(key.Role)}
		}
		return b.loginByToken(ctx, current, key, stored.AllowedIPs)
	}
	stored, err := b.readRole(ctx, b.storage, key.Role)
	if err != nil {
		return accesstoken.Login{}, err
	}
	if stored == nil || !stored.handsOutAccess() {
		return accesstoken.Login{}, &accesstoken.GoneError{Err: noRole(key.Role)}
	}
	if _, err := stored.taxpayer(key.Role, key.Taxpayer.Value, current.config); err != nil {
		return accesstoken.Login{}, &accesstoken.GoneError{Err: err}
	}
	if stored.byCertificate() {
		return b.loginByCertificate(current, stored.AllowedIPs)
	}
	return b.loginByToken(ctx, current, key, stored.AllowedIPs)
}

// holderBehind returns who holds the token that access tokens are made from.
func holderBehind(key accesstoken.Key) unleased.Key {
	if key.Static {
		return unleased.StaticKey(key.Role)
	}
	return unleased.AccessKey(key.Role, key.Taxpayer)
}

// loginByToken logs in with the holder's token, or where KSeF has refused that, with another.
func (b *backend) loginByToken(ctx context.Context, current *connection, key accesstoken.Key, allowedIPs []string) (accesstoken.Login, error) {
	if err := checkTokensAccepted(current.config, withoutTokens(key)); err != nil {
		return accesstoken.Login{}, err
	}
	token, err := b.tokenBehind(ctx, key)
	if err != nil {
		return accesstoken.Login{}, err
	}
	return accesstoken.Login{
		KSeF: current.forAccess(b), Subject: "token " + token.ReferenceNumber,
		Fingerprint: fingerprintOf(current.config.api(), token.ReferenceNumber, allowedIPs),
		Begin: func(ctx context.Context, auth *client.Client, taxpayer client.ContextIdentifier) (*client.Operation, string, error) {
			b.deadTokens.use(key, token.ReferenceNumber)
			return auth.BeginTokenLogin(ctx, client.TokenLogin{
				Taxpayer: taxpayer, Token: token.Token,
				AllowedIPs: session.ToRole(allowedIPs),
			})
		},
	}, nil
}

// tokenBehind returns the holder's token. One that KSeF has refused at a login is replaced if KSeF
// says that it is dead: a login is refused for other reasons, too.
func (b *backend) tokenBehind(ctx context.Context, key accesstoken.Key) (*unleased.Token, error) {
	holder := holderBehind(key)
	token, err := b.holders.Token(ctx, holder)
	refused := b.deadTokens.take(key)
	if err != nil || token.ReferenceNumber != refused {
		return token, err
	}
	status, err := b.ledger.Status(ctx, token.Target, refused)
	if ledger.IsUnknownToken(err) || (err == nil && status.Dead()) {
		return b.holders.Replace(ctx, holder, unleased.Dead{ReferenceNumber: refused, NeverActive: status == client.StatusFailed})
	}
	return token, nil
}

// loginByCertificate logs in with the certificate of config.
func (b *backend) loginByCertificate(current *connection, allowedIPs []string) (accesstoken.Login, error) {
	cred, err := current.config.credential()
	if err != nil {
		return accesstoken.Login{}, err
	}
	if cred == nil {
		return accesstoken.Login{}, &client.InputError{
			Field: fieldLogin, Fault: "is certificate, and config has none: logins that a person signs cannot be repeated",
			Remedy: "write a certificate to config, or login=token to the role",
		}
	}
	signer, err := session.NewSigner(cred.Certificate, cred.Key, current.config.SubjectIdentifierType, session.ToRole(allowedIPs))
	if err != nil {
		return accesstoken.Login{}, err
	}
	return accesstoken.Login{
		KSeF: current.forAccess(b), Subject: cred.Identity.Subject(), Begin: session.BySignature(signer),
		Fingerprint: fingerprintOf(current.config.api(), current.config.SubjectIdentifierType+"\n"+current.config.Certificate, allowedIPs),
	}, nil
}

// fingerprintOf tells ways of logging in apart.
func fingerprintOf(api, by string, allowedIPs []string) string {
	sum := sha256.Sum256([]byte(api + "\n" + by + "\n" + strings.Join(addressSet(allowedIPs), ",")))
	return hex.EncodeToString(sum[:])
}

// checkTokensAccepted refuses logins with KSeF tokens once KSeF no longer accepts them.
func checkTokensAccepted(of *config, remedy string) error {
	err := leases.CheckUntil(of.TokensAcceptedUntil, time.Now())
	var ended *client.InputError
	if errors.As(err, &ended) {
		return &client.InputError{Field: ended.Field, Fault: ended.Fault, Remedy: remedy}
	}
	return err
}

// withoutTokens is what to write when KSeF tokens have ended.
func withoutTokens(key accesstoken.Key) string {
	if key.Static {
		return fmt.Sprintf("have the program read access tokens of the mount's certificate: vault write <mount>/roles/%s permissions=... "+
			"credential_type=access_token login=certificate full_rights=true", key.Role)
	}
	return fmt.Sprintf("vault write <mount>/roles/%s credential_type=access_token login=certificate full_rights=true", key.Role)
}

func noRole(name string) error {
	return &client.InputError{
		Field: "role", Fault: fmt.Sprintf("%q does not exist", name),
		Remedy: fmt.Sprintf("write it first (vault write <mount>/roles/%s permissions=...), or look for the right name: vault list <mount>/roles", name),
	}
}

func noStaticRole(name string) error {
	return &client.InputError{
		Field: "name", Fault: fmt.Sprintf("the static role %q does not exist", name),
		Remedy: fmt.Sprintf("write it first (vault write <mount>/static-roles/%s permissions=...), or look for the right name: vault list <mount>/static-roles", name),
	}
}
