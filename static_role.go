// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"maps"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/description"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/jsonentry"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

const (
	staticRolesPrefix = "static-roles/"

	fieldRotationPeriod   = "rotation_period"
	fieldRotationSchedule = "rotation_schedule"
	fieldRotationWindow   = "rotation_window"
	fieldGracePeriod      = "grace_period"
	fieldDisableRotation  = "disable_automated_rotation"

	// minRotationPeriod leaves KSeF's 120 requests an hour to others.
	minRotationPeriod = 10 * time.Minute
	// minRotationWindow is that of Vault's database engine.
	minRotationWindow  = time.Hour
	defaultGracePeriod = time.Hour
	maxGracePeriod     = 90 * 24 * time.Hour
)

// staticRole is a static role as stored: which token the engine keeps under its name.
type staticRole struct {
	Permissions []string                 `json:"permissions"`
	Context     client.ContextIdentifier `json:"context"`
	Description string                   `json:"description"`
	// RotationPeriod and RotationSchedule exclude each other; without either only rotate-role
	// rotates.
	RotationPeriod   time.Duration `json:"rotation_period,omitempty"`
	RotationSchedule string        `json:"rotation_schedule,omitempty"`
	RotationWindow   time.Duration `json:"rotation_window,omitempty"`
	DisableRotation  bool          `json:"disable_automated_rotation,omitempty"`
	GracePeriod      time.Duration `json:"grace_period"`
	AllowedIPs       []string      `json:"allowed_ips,omitempty"`
}

// readStaticRole returns nil if there is no such role, and errUnreadableRole if it is damaged.
func (b *backend) readStaticRole(ctx context.Context, name string) (*staticRole, error) {
	return b.staticRoles.read(ctx, b.storage, staticRolesPrefix+name, "the static role "+name, (*staticRole).complete, b.onUnreadable)
}

// complete returns false for a damaged role.
func (r *staticRole) complete() bool { return len(r.Permissions) > 0 }

func (r *staticRole) store(ctx context.Context, storage logical.Storage, name string) error {
	return jsonentry.Put(ctx, storage, staticRolesPrefix+name, r, "the static role "+name)
}

// applyStaticRole returns the role after a write of the fields. Fields that are not given stay as
// they are; unset ones are reset to their defaults.
func applyStaticRole(name string, current *staticRole, data *framework.FieldData, unset []string) (*staticRole, error) {
	next := staticRole{Description: "Static role " + name, GracePeriod: defaultGracePeriod}
	if current != nil {
		next = *current
	}
	for _, field := range unset {
		next.unset(name, field)
	}
	var err error
	if next.Permissions, next.Context, err = rightsFrom(data, next.Permissions, next.Context); err != nil {
		return nil, err
	}
	if text, given := data.GetOk("description"); given {
		next.Description = text.(string)
	}
	if err := description.Check(next.Description); err != nil {
		return nil, err
	}
	if next.AllowedIPs, err = roleAddresses(data, next.AllowedIPs); err != nil {
		return nil, err
	}
	return &next, next.applyRotation(data)
}

// applyRotation reads when the token is rotated, with the rules of Vault's database engine.
func (r *staticRole) applyRotation(data *framework.FieldData) error {
	if raw, given := data.GetOk(fieldDisableRotation); given {
		r.DisableRotation = raw.(bool)
	}
	if raw, given := data.GetOk(fieldGracePeriod); given {
		r.GracePeriod = time.Duration(raw.(int)) * time.Second
		if r.GracePeriod > maxGracePeriod {
			return &client.InputError{Field: fieldGracePeriod, Fault: "is out of range", Remedy: "give 0 to 2160h"}
		}
	}
	period, periodGiven := data.GetOk(fieldRotationPeriod)
	schedule, scheduleGiven := data.GetOk(fieldRotationSchedule)
	if periodGiven && scheduleGiven && period.(int) != 0 {
		return &client.InputError{
			Field: fieldRotationSchedule, Fault: "is given together with rotation_period",
			Remedy: "give one of them",
		}
	}
	if periodGiven {
		r.RotationPeriod, r.RotationSchedule, r.RotationWindow = time.Duration(period.(int))*time.Second, "", 0
		if r.RotationPeriod != 0 && r.RotationPeriod < minRotationPeriod {
			return &client.InputError{Field: fieldRotationPeriod, Fault: "is out of range", Remedy: "give 10m or more, or 0 to rotate by rotate-role alone"}
		}
	}
	if scheduleGiven {
		if err := checkSchedule(data); err != nil {
			return err
		}
		r.RotationPeriod, r.RotationSchedule = 0, schedule.(string)
	}
	return r.applyWindow(data)
}

func (r *staticRole) applyWindow(data *framework.FieldData) error {
	raw, given := data.GetOk(fieldRotationWindow)
	if !given {
		return nil
	}
	r.RotationWindow = time.Duration(raw.(int)) * time.Second
	switch {
	case r.RotationWindow == 0:
		return nil
	case r.RotationSchedule == "":
		return &client.InputError{Field: fieldRotationWindow, Fault: "is given without rotation_schedule", Remedy: "give both, or neither"}
	case r.RotationWindow < minRotationWindow:
		return &client.InputError{Field: fieldRotationWindow, Fault: "is out of range", Remedy: "give 1h or more, or 0 for no bound"}
	}
	return nil
}

// unset resets a field to its default.
func (r *staticRole) unset(name, field string) {
	switch field {
	case "permissions":
		r.Permissions = nil
	case "description":
		r.Description = "Static role " + name
	case "nip":
		r.Context = withoutType(r.Context, client.ContextNIP)
	case "internal_id":
		r.Context = withoutType(r.Context, client.ContextInternalID)
	case fieldRotationPeriod:
		r.RotationPeriod = 0
	case fieldRotationSchedule:
		r.RotationSchedule, r.RotationWindow = "", 0
	case fieldRotationWindow:
		r.RotationWindow = 0
	case fieldDisableRotation:
		r.DisableRotation = false
	case fieldGracePeriod:
		r.GracePeriod = defaultGracePeriod
	case fieldAllowedIPs:
		r.AllowedIPs = nil
	}
}

// taxpayer is the role's own, else config's.
func (r *staticRole) taxpayer(of *config) client.ContextIdentifier {
	if r.Context.IsZero() {
		return of.Context
	}
	return r.Context
}

// fingerprint changes with what the token must be.
func (r *staticRole) fingerprint(of *config) string {
	return of.URL + " " + r.taxpayer(of).String() + " " + strings.Join(r.Permissions, ",")
}

// showRotation adds when the token is rotated, as a read of the role or of its token shows it.
func (r *staticRole) showRotation(shown map[string]any) {
	if r.RotationSchedule == "" {
		shown[fieldRotationPeriod] = int64(r.RotationPeriod / time.Second)
		return
	}
	maps.Copy(shown, map[string]any{
		fieldRotationSchedule: r.RotationSchedule, fieldRotationWindow: int64(r.RotationWindow / time.Second),
	})
}

func (r *staticRole) show() map[string]any {
	shown := map[string]any{
		"permissions":        r.Permissions,
		"description":        r.Description,
		fieldGracePeriod:     int64(r.GracePeriod / time.Second),
		fieldDisableRotation: r.DisableRotation,
		fieldAllowedIPs:      orEmpty(r.AllowedIPs),
	}
	r.showRotation(shown)
	fields.AddTaxpayer(shown, r.Context)
	return shown
}
