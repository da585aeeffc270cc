// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/description"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/rotation"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/automatedrotationutil"
	"github.com/hashicorp/vault/sdk/logical"
	sdkrotation "github.com/hashicorp/vault/sdk/rotation"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The fields that say how a KSeF certificate is asked for. config keeps them, config/rotate-root
// may deviate for once.
const (
	fieldKeyType         = "certificate_key_type"
	fieldCertificateName = "certificate_name"
	fieldRenewBefore     = "certificate_renew_before"
)

// Bounds of certificate_renew_before besides 0: KSeF's certificates live for two years.
const (
	minRenewBefore = 24 * time.Hour
	maxRenewBefore = 365 * 24 * time.Hour
)

// defaultCertificateName is the template of a certificate's name in KSeF.
const defaultCertificateName = "Vault {{.NIP}}"

func withRenewalFields(fields map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	fields[fieldRenewBefore] = &framework.FieldSchema{
		Type:        framework.TypeDurationSecond,
		Default:     defaultRenewBefore.String(),
		Description: "How long before its end a certificate that KSeF has issued is renewed by the engine itself: 1 to 365 days, spread by a tenth; 0 never renews. Default: 720h.",
	}
	automatedrotationutil.AddAutomatedRotationFieldsWithGroup(fields, "Vault Enterprise")
	for field, description := range rotationDescriptions() {
		fields[field].Description = description
	}
	return withRequestFields(fields, string(enrollment.KeyP256), defaultCertificateName)
}

// rotationDescriptions stand in for those of the SDK, which speak of a database's user.
func rotationDescriptions() map[string]string {
	return map[string]string{
		"rotation_period":            "How often Vault's rotation manager rotates the certificate, as config/rotate-root does. Give this or rotation_schedule. Needs Vault Enterprise. Default: 0, never.",
		"rotation_schedule":          "When Vault's rotation manager rotates the certificate: minute, hour, day, month and weekday in cron's form, in UTC, such as 0 3 1 * *. Give this or rotation_period. Needs Vault Enterprise. Default: none.",
		"rotation_window":            "How long after a moment of rotation_schedule the rotation may begin. Give it with rotation_schedule. Default: 0, without a bound.",
		"rotation_policy":            "Name of the policy by which Vault's rotation manager repeats rotations that fail. Default: Vault's own.",
		"disable_automated_rotation": "Take the rotation back from Vault's rotation manager; rotation_period and rotation_schedule are kept. Default: false.",
	}
}

// withRequestFields are those that also config/rotate-root takes.
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

func applyRenewal(next *config, data *framework.FieldData) error {
	if raw, given := data.GetOk(fieldRenewBefore); given {
		next.RenewBefore = time.Duration(raw.(int)) * time.Second
		if next.RenewBefore != 0 && (next.RenewBefore < minRenewBefore || next.RenewBefore > maxRenewBefore) {
			return &client.InputError{Field: fieldRenewBefore, Fault: "is out of range", Remedy: "give 24h to 8760h, or 0 to never renew"}
		}
	}
	if raw, given := data.GetOk(fieldKeyType); given {
		next.KeyType = enrollment.KeyType(raw.(string))
	}
	if raw, given := data.GetOk(fieldCertificateName); given {
		next.CertificateName = raw.(string)
	}
	if _, err := next.certificateRequest(); err != nil {
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

// checkSchedule is done before the SDK's own check, whose error quotes the value.
func checkSchedule(data *framework.FieldData) error {
	text, given := data.GetOk("rotation_schedule")
	if !given || text == "" {
		return nil
	}
	schedule := text.(string)
	// The parser panics at a time zone alone; Vault takes every schedule for UTC, whatever its
	// zone.
	if strings.HasPrefix(schedule, "TZ=") || strings.HasPrefix(schedule, "CRON_TZ=") {
		return &client.InputError{Field: "rotation_schedule", Fault: "names a time zone", Remedy: "leave it out; Vault's rotation manager goes by UTC"}
	}
	if _, err := sdkrotation.DefaultScheduler.Parse(schedule); err != nil {
		return &client.InputError{Field: "rotation_schedule", Fault: "is not in cron's form", Remedy: "give minute, hour, day, month and weekday, such as 0 3 1 * *"}
	}
	return nil
}

// certificateRequest is what the engine asks KSeF for.
func (c *config) certificateRequest() (rotation.Request, error) {
	kind, err := enrollment.ParseKeyType(fieldKeyType, string(c.KeyType))
	if err != nil {
		return rotation.Request{}, err
	}
	name, err := c.fillCertificateName()
	if err != nil {
		return rotation.Request{}, err
	}
	return rotation.Request{Request: enrollment.Request{KeyType: kind, Name: name}}, enrollment.CheckName(fieldCertificateName, name)
}

func (c *config) fillCertificateName() (string, error) {
	name, err := description.FillTemplate(fieldCertificateName, c.CertificateName, map[string]string{"NIP": c.Context.NIP()})
	return strings.TrimSpace(name), err
}

// schedule registers the configuration's rotation with Vault's rotation manager, which Vault
// Enterprise has, or takes it back.
func (b *backend) schedule(ctx context.Context, before, next *config, mountPoint string) error {
	switch {
	case next != nil && !next.DisableAutomatedRotation && next.ShouldRegisterRotationJob():
		_, err := b.System().RegisterRotationJob(ctx, &sdkrotation.RotationJobConfigureRequest{
			MountPoint: mountPoint, ReqPath: "config",
			RotationSchedule: next.RotationSchedule, RotationWindow: next.RotationWindow,
			RotationPeriod: next.RotationPeriod, RotationPolicy: next.RotationPolicy,
		})
		if err != nil {
			return refuseSchedule(err)
		}
	case before != nil && before.ShouldRegisterRotationJob():
		err := b.System().DeregisterRotationJob(ctx, &sdkrotation.RotationJobDeregisterRequest{MountPoint: mountPoint, ReqPath: "config"})
		if err != nil {
			return fmt.Errorf("taking the rotation back from Vault's rotation manager: %w", err)
		}
	}
	return nil
}

// refuseSchedule reads Vault's answer. Only its text comes across from Vault's process; an older
// Vault does not know the question.
func refuseSchedule(err error) error {
	if strings.Contains(err.Error(), automatedrotationutil.ErrRotationManagerUnsupported.Error()) || status.Code(err) == codes.Unimplemented {
		return &client.InputError{
			Field: "rotation_period", Fault: "and rotation_schedule need the rotation manager of a current Vault Enterprise, which this Vault does not have",
			Remedy: "use " + fieldRenewBefore + ", which works everywhere",
		}
	}
	return fmt.Errorf("registering the rotation with Vault's rotation manager: %w", err)
}

// rotateCredential is Vault's rotation manager calling.
func (b *backend) rotateCredential(ctx context.Context, _ *logical.Request) error {
	stored, err := readConfig(ctx, b.storage)
	if err != nil {
		return err
	}
	if stored == nil {
		return errNotConfigured
	}
	request, err := stored.certificateRequest()
	if err != nil {
		return err
	}
	if _, err := b.rotate(ctx, request); err != nil {
		return err
	}
	state, err := b.rotation.State(ctx)
	if err == nil && state.Step != "" {
		err = rotation.ErrInProgress
	}
	return err
}
