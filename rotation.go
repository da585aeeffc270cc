// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/notices"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/rotation"

	"github.com/hashicorp/vault/sdk/helper/automatedrotationutil"
	"github.com/hashicorp/vault/sdk/logical"
	sdkrotation "github.com/hashicorp/vault/sdk/rotation"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// rotationConfig is the configuration as a rotation of its credential uses it.
type rotationConfig struct{ *backend }

// InForce implements rotation.Config.
func (r rotationConfig) InForce(ctx context.Context) (rotation.InForce, error) {
	connected, err := r.connect(ctx)
	if err != nil {
		return rotation.InForce{}, err
	}
	cred, err := connected.config.credential()
	if err != nil {
		return rotation.InForce{}, err
	}
	wait := ratelimit.Wait{AtMost: authMaxWait}
	ksef := &rotationSession{upstream: connected.upstream(r.backend, connected.config.Context, wait), backend: r.backend, connected: connected}
	inForce := rotation.InForce{KSeF: ksef}
	if cred != nil {
		inForce.Certificate, ksef.signer = cred.Certificate, cred.Identity.Subject()
	}
	return inForce, nil
}

// PlanCredential implements rotation.Config.
func (r rotationConfig) PlanCredential(ctx context.Context, certificate, privateKey string) (rotation.Change, error) {
	change, err := r.planConfig(ctx, configRequest{rotated: true, apply: func(current *config) (*config, error) {
		if current == nil {
			return nil, errNotConfigured
		}
		return current.withMade(certificate, privateKey)
	}})
	if err != nil {
		return nil, err
	}
	return change, nil
}

// rotationSession implements rotation.Session.
type rotationSession struct {
	upstream
	backend   *backend
	connected *connection
	// signer is the subject of the configured certificate; "" with external signing.
	signer string
}

// Signer returns the subject of the certificate, or that of the external login.
func (s *rotationSession) Signer(ctx context.Context) (string, error) {
	if s.signer != "" {
		return s.signer, nil
	}
	taxpayer := s.connected.config.Context
	known, err := s.connected.sessions.Known(ctx, taxpayer)
	if err != nil {
		return "", err
	}
	if known == nil {
		if err := s.backend.undecidedLogin(ctx, taxpayer); err != nil {
			return "", err
		}
	}
	if known == nil || known.Subject == "" {
		return "", &client.InputError{
			Field: "login", Fault: "has not been made in " + taxpayer.String() + " with a signature that carries its certificate",
			Remedy: "have a person sign the answer of login/begin, certificate included, and bring it to login/complete",
		}
	}
	return known.Subject, nil
}

// Supersede ends the sessions of the credential before.
func (s *rotationSession) Supersede(ctx context.Context) error {
	return s.connected.sessions.Supersede(ctx)
}

// rotate begins a rotation, or joins the one in progress, and advances it until it has ended or has
// to wait: then maintenance continues it, and status shows why it waits. joined says that one was
// in progress. The error is why it failed.
func (b *backend) rotate(ctx context.Context, request rotation.Request) (joined bool, err error) {
	err = b.rotation.Begin(ctx, request)
	var lost *enrollment.LostReplyError
	joined = errors.Is(err, rotation.ErrInProgress)
	if err != nil && !joined && !errors.As(err, &lost) {
		return false, err
	}
	if joined {
		b.rotation.RetryNow()
	}
	defer b.maintenance.Wake()
	ctx, cancel := context.WithTimeout(ctx, longStep)
	defer cancel()
	return joined, b.rotation.Await(ctx)
}

func (b *backend) onRotationEvent(event rotation.Event) {
	fields := []any{"certificate_name", event.Name, "certificate_serial_number", event.SerialNumber, "retired_serial_number", event.Retired}
	metadata := []string{
		"certificate_name", event.Name, "certificate_serial_number", event.SerialNumber, "retired_serial_number", event.Retired,
		"automatic", fmt.Sprint(event.Automatic),
	}
	if event.Kind != rotation.EventBegin && !errors.Is(event.Err, rotation.ErrAbandoned) {
		b.notices.SetOutcome(notices.Activity{Kind: notices.Rotation}, event.Err)
	}
	if event.Err != nil {
		fields, metadata = append(fields, "error", event.Err), append(metadata, "error", event.Err.Error())
		b.Logger().Error(event.Kind, fields...)
	} else {
		b.Logger().Info(event.Kind, fields...)
	}
	b.sendBackgroundEvent(event.Kind, "config/rotate-root", metadata...)
}

// schedule registers the rotation with the rotation manager of Vault Enterprise, or deregisters it.
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

// refuseSchedule reads Vault's error, of which only the text crosses the process boundary. An older
// Vault does not know the request.
func refuseSchedule(err error) error {
	if strings.Contains(err.Error(), automatedrotationutil.ErrRotationManagerUnsupported.Error()) || status.Code(err) == codes.Unimplemented {
		return &client.InputError{
			Field: "rotation_period", Fault: "and rotation_schedule need the rotation manager of a current Vault Enterprise, which this Vault does not have",
			Remedy: "use " + fieldRenewBefore + ", which works everywhere",
		}
	}
	return fmt.Errorf("registering the rotation with Vault's rotation manager: %w", err)
}

// rotateCredential is called by Vault's rotation manager.
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
