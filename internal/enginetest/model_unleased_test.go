// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
)

// unleasedRun is what a run knows of access tokens and static tokens.
type unleasedRun struct {
	// dead records an answer that KSeF does not accept.
	dead broken

	mu sync.Mutex
	// ahead is how far KSeF's clock was moved, and jumped when that was last, by KSeF's clock.
	ahead  time.Duration
	jumped time.Time
	// taken are the tokens that readers have revoked.
	taken []string
}

func (u *unleasedRun) jump(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ahead += d
	u.jumped = time.Now().Add(u.ahead)
}

func (u *unleasedRun) take(number string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.taken = append(u.taken, number)
}

func (u *unleasedRun) isTaken(number string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Contains(u.taken, number)
}

// The fields that change a role which hands out access tokens, and a static role.
var (
	accessRoles = map[string]map[string]any{
		"token":       {"credential_type": "access_token", "login": "token"},
		"certificate": {"credential_type": "access_token", "login": "certificate", "full_rights": true},
		"wider":       {"permissions": "InvoiceRead,InvoiceWrite"},
		"narrower":    {"permissions": "InvoiceRead"},
		"many":        {"allowed_contexts": "*"},
		"few":         {"allowed_contexts": ""},
		"leased":      {"credential_type": "token"},
		"bound":       {"allowed_ips": "10.0.0.0/8"},
	}
	staticRoles = map[string]map[string]any{
		"plain":    {"grace_period": "10m", "rotation_period": "0"},
		"rotating": {"grace_period": "30m", "rotation_period": "1h"},
		"wider":    {"permissions": "InvoiceRead,InvoiceWrite"},
		"bound":    {"allowed_ips": "10.0.0.0/8"},
		"unit":     {"internal_id": UnitID},
		"own":      {"internal_id": ""},
	}
)

const deletion, keeping = "delete", "delete and keep"

// writeRole writes or deletes one of the roles that keep tokens.
func (r *run) writeRole(ctx context.Context, v *Vault, path, how string, known map[string]map[string]any) {
	if r.tight && how == "unit" {
		return
	}
	_, _ = v.Request(ctx, func(m *Mount) (*logical.Response, error) {
		switch how {
		case deletion:
			return m.Delete(path)
		case keeping:
			return m.Request(logical.DeleteOperation, path, map[string]any{"keep": true})
		}
		fields := map[string]any{}
		if response, err := m.Read(path, nil); err != nil || response == nil {
			fields["permissions"] = "InvoiceRead"
		}
		maps.Copy(fields, known[how])
		return m.Write(path, fields)
	})
}

// read reads an access token or a static token, and records one that KSeF does not accept. A role
// that hands out tokens with a lease adds the lease. It returns nil where the read fails.
func (r *run) read(ctx context.Context, v *Vault, path string) (data map[string]any, err error) {
	before := r.ended()
	response, err := v.Request(ctx, func(m *Mount) (*logical.Response, error) { return m.Read(path, nil) })
	switch {
	case errors.Is(err, errProcessEnded):
		r.cutOff.Add(1)
		return nil, err
	case err != nil:
		return nil, err
	case response.Secret != nil:
		v.keep(response)
		return nil, nil
	}
	r.answered.Add(1)
	if access, given := response.Data["access_token"].(string); given {
		r.unleased.dead.record(r.livesOn(path, access))
	}
	if number, given := response.Data["reference_number"].(string); given && before[number] && !r.unleased.isTaken(number) {
		r.unleased.dead.record(fmt.Errorf("%s answers with the token %s, which is %s", path, number, r.StatusInKSeF(number)))
	}
	return response.Data, nil
}

// ended are the tokens that KSeF no longer accepts.
func (r *run) ended() map[string]bool {
	ended := make(map[string]bool)
	for _, token := range r.KSeF.State().Tokens {
		ended[token.ReferenceNumber] = token.Status != "Pending" && token.Status != "Active"
	}
	return ended
}

// leastLife is what an access token that is read has left to live.
const leastLife = time.Minute

// livesOn fails if an access token has less than a minute to live by KSeF's clock, unless that has
// jumped since.
func (r *run) livesOn(path, access string) error {
	issued, expires, err := timesOf(access)
	if err != nil {
		return err
	}
	u := &r.unleased
	u.mu.Lock()
	now, jumped := time.Now().Add(u.ahead), u.jumped
	u.mu.Unlock()
	if left := expires.Sub(now); left < leastLife && !issued.Before(jumped) {
		return fmt.Errorf("%s answers with an access token that lives for %s", path, left)
	}
	return nil
}

// timesOf reads the times of a JWT.
func timesOf(access string) (issued, expires time.Time, err error) {
	var claims struct {
		Issued  int64 `json:"iat"`
		Expires int64 `json:"exp"`
	}
	parts := strings.Split(access, ".")
	if len(parts) != 3 {
		return issued, expires, errors.New("an access token is no JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	return time.Unix(claims.Issued, 0), time.Unix(claims.Expires, 0), err
}

// abuse reads an access token and ends what stands behind it, as a program can: its token, or its
// session.
func (r *run) abuse(ctx context.Context, v *Vault, path, how string) {
	read, _ := r.read(ctx, v, path)
	access, given := read["access_token"].(string)
	if !given {
		return
	}
	if how == endingSession {
		_ = r.readersAPI().EndSession(ctx, client.Secret(access))
		return
	}
	for _, one := range r.KSeF.State().Sessions {
		if one.ReferenceNumber == read["session_reference_number"] && one.TokenReferenceNumber != "" {
			r.unleased.take(one.TokenReferenceNumber)
			_ = r.readersAPI().WithTokenSource(client.Secret(access)).RevokeToken(ctx, one.TokenReferenceNumber)
		}
	}
}

const endingSession, revokingToken = "end the session", "revoke the token"

// rotate writes one of the paths that rotate.
func (r *run) rotate(ctx context.Context, v *Vault, path string, revokePrevious bool) {
	var fields map[string]any
	if revokePrevious {
		fields = map[string]any{"revoke_previous": true}
	}
	_, _ = v.Request(ctx, func(m *Mount) (*logical.Response, error) { return m.Write(path, fields) })
}

// importToken makes a token by hand, and has it imported, or left alone.
func (r *run) importToken(ctx context.Context, v *Vault, how string) {
	if r.tight {
		return
	}
	text, err := r.makeForeign(ctx, "InvoiceRead")
	if err != nil || how == leftAlone {
		return
	}
	r.foreign.offer(text)
	_, _ = v.Request(ctx, func(m *Mount) (*logical.Response, error) {
		return m.Write("static-roles/erp/import", map[string]any{"token": text, "rotate": how == rotated})
	})
}

const leftAlone, asIs, rotated = "left alone", "as it is", "rotated"

// paths are those that are read.
var paths = []string{accessPath, accessPath, accessPath + "/" + NIP, accessPath + "/" + SecondNIP, accessPath + "/" + UnitID, staticPath, staticAccessPath}

// endHolders proves that what is kept for roles works, has what is kept settled, and deletes the
// roles.
func (r *run) endHolders() error {
	if err := r.holdersWork(); err != nil {
		return err
	}
	r.Elapse(revocationGrace)
	if err := r.onlyWanted(); err != nil {
		return err
	}
	for range 2 {
		r.deleteHolders()
		r.Elapse(time.Minute)
	}
	return nil
}

// holdersWork fails if the token of a role cannot be read.
func (r *run) holdersWork() error {
	if r.tight {
		return nil
	}
	for _, v := range r.Vaults {
		for role, path := range map[string]string{"roles/program": accessPath, "static-roles/erp": staticPath} {
			written, err := v.Request(r.T.Context(), func(m *Mount) (*logical.Response, error) { return m.Read(role, nil) })
			if err != nil {
				return err
			}
			if written == nil || written.Data["credential_type"] == "token" {
				continue
			}
			if err := r.readSoon(v, path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) readSoon(v *Vault, path string) (err error) {
	for range 7 {
		if _, err = r.read(r.T.Context(), v, path); err == nil {
			return r.unleased.dead.get()
		}
		r.Elapse(10 * time.Minute)
	}
	return fmt.Errorf("%s cannot be read: %w", path, err)
}

// onlyWanted finds a token without a lease that is alive and that no role holds.
func (r *run) onlyWanted() error {
	open, err := r.openRecords()
	if err != nil {
		return err
	}
	wanted, err := r.wanted(open)
	if err != nil {
		return err
	}
	for _, token := range r.AliveTokens() {
		record := open[token.ReferenceNumber]
		if record != nil && record.Unleased() && !wanted[token.ReferenceNumber] {
			return fmt.Errorf("the token %s of %s is %s, and its role does not hold it", token.ReferenceNumber, record.Holder, token.Status)
		}
	}
	return nil
}
