// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/rotation"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/automatedrotationutil"
	"github.com/hashicorp/vault/sdk/logical"
	sdkrotation "github.com/hashicorp/vault/sdk/rotation"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// longStep is how long a request waits for a decision of KSeF that takes minutes: Vault gives it 90
// seconds, but Vault's own client 60. Maintenance continues afterwards.
const longStep = 45 * time.Second

func (b *backend) pathRotateRoot() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "config/rotate-root",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "rotate", OperationSuffix: "root"},
		Fields:       withRequestFields(map[string]*framework.FieldSchema{}, fields.TaxpayerOfConfig, fields.TaxpayerOfConfig),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: fields.Forwarded(b.pathRotateRootWrite, "rotate", rotateRootSchema()),
		},
		HelpSynopsis:    "Replace the signing credential by a KSeF certificate whose key is made in Vault.",
		HelpDescription: strings.TrimSpace(helpRotateRoot),
	}}
}

func (b *backend) pathRotateRootWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	stored, err := readConfig(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return failure.Response(errNotConfigured)
	}
	request, err := stored.applyRequest(data)
	if err != nil {
		return failure.Response(err)
	}
	joined, err := b.rotate(ctx, request)
	if err != nil {
		return failure.Response(err)
	}
	response, err := b.rotationResponse(ctx)
	if response != nil && joined {
		response.AddWarning("A rotation was in progress already, and was joined: the fields of this request were ignored.")
	}
	return response, err
}

func (b *backend) rotationResponse(ctx context.Context) (*logical.Response, error) {
	state, err := b.rotation.State(ctx)
	if err != nil {
		return nil, err
	}
	response := &logical.Response{}
	switch {
	case state.Step != "":
		response.Data = map[string]any{
			"status": "pending", "step": string(state.Step), fieldCertificateName: state.Name,
			"reference_number": state.ReferenceNumber, "certificate_serial_number": state.SerialNumber,
		}
		addSigner(response.Data, state.Subject, state.SubjectName)
		inForce := "the credential before stays in force until the new one has logged in"
		if state.Step == rotation.StepRetire {
			inForce = "the new certificate is in force; the one before is being retired"
		}
		response.AddWarning("The rotation is in progress, and " + inForce + ". The engine finishes it by itself; status shows how far it is.")
		if state.Err != nil {
			response.AddWarning("It has to wait: " + state.Err.Error())
		}
	case state.Last == nil:
		return nil, errors.New("the rotation has ended, and its outcome is not recorded")
	case state.Last.Error != "":
		return logical.ErrorResponse(state.Last.Error), nil
	default:
		response.Data = map[string]any{
			"status": "done", fieldCertificateName: state.Last.Name,
			"certificate_serial_number": state.Last.SerialNumber, "retired_serial_number": state.Last.Retired,
		}
		addSigner(response.Data, state.Last.Subject, state.Last.SubjectName)
		fields.AddWarnings(response, state.Last.Warning)
	}
	return response, nil
}

// addSigner adds the subject of a rotation's certificate, as login/complete does.
func addSigner(shown map[string]any, subject, name string) {
	kind, identifier, known := strings.Cut(subject, ":")
	if !known {
		return
	}
	shown["signer_identifier_type"], shown["signer_identifier"], shown["signer_name"] = kind, identifier, name
}

// rotationStatus returns what status shows of rotations; nil where there was none.
func rotationStatus(state *rotation.State) map[string]any {
	if state.Step == "" && state.Last == nil {
		return nil
	}
	shown := map[string]any{}
	if state.Step != "" {
		shown["step"], shown["since"], shown["automatic"] = string(state.Step), state.Began.UTC().Format(time.RFC3339), state.Automatic
		shown[fieldCertificateName], shown["reference_number"], shown["certificate_serial_number"] = state.Name, state.ReferenceNumber, state.SerialNumber
		if state.Err != nil {
			shown["last_error"], shown["next_attempt"] = state.Err.Error(), state.Next.UTC().Format(time.RFC3339)
		}
	}
	if last := state.Last; last != nil && (last.SerialNumber != "" || last.Error != "") {
		shown["last"] = map[string]any{
			"at": last.At.UTC().Format(time.RFC3339), "automatic": last.Automatic, fieldCertificateName: last.Name,
			"certificate_serial_number": last.SerialNumber, "retired_serial_number": last.Retired, "error": last.Error, "warning": last.Warning,
		}
	}
	return shown
}

func rotateRootSchema() map[int][]framework.Response {
	return fields.ResponseSchema(map[string]*framework.FieldSchema{
		"status":                    {Type: framework.TypeString, Description: "done, or pending where the engine finishes it."},
		"step":                      {Type: framework.TypeString, Description: "What is pending: enroll, await, prove or retire."},
		fieldCertificateName:        {Type: framework.TypeString, Description: "The certificate's name in KSeF."},
		"reference_number":          {Type: framework.TypeString, Description: "KSeF's number of the request, while it is pending."},
		"certificate_serial_number": {Type: framework.TypeString, Description: "Serial number of the new certificate."},
		"retired_serial_number":     {Type: framework.TypeString, Description: "That of the KSeF certificate before, which has been revoked; empty for none."},
		"signer_identifier_type":    {Type: framework.TypeString, Description: "Nip, Pesel or Fingerprint: what the subject that is certified is known by."},
		"signer_identifier":         {Type: framework.TypeString, Description: "That subject's identifier."},
		"signer_name":               {Type: framework.TypeString, Description: "That subject's name in KSeF."},
	})
}

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
		inForce.Certificate = cred.Certificate
	}
	return inForce, nil
}

// PlanCredential implements rotation.Config.
func (r rotationConfig) PlanCredential(ctx context.Context, certificate, privateKey string) (rotation.Change, error) {
	change, err := r.planConfig(ctx, configRequest{byRotation: true, apply: func(current *config) (*config, error) {
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
}

// Signer returns the subject of the certificate, or that of the external login.
func (s *rotationSession) Signer(ctx context.Context) (string, error) {
	if own := s.connected.sessions.Subject; own != "" {
		return own, nil
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

// registerRotation registers the rotation with the rotation manager of Vault Enterprise, or
// deregisters it.
func (b *backend) registerRotation(ctx context.Context, before, next *config, mountPoint string) error {
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

const helpRotateRoot = `
Make a key in Vault, have KSeF certify it for the subject that is logged in, and
replace the credential by it:

  vault write -f ksef/config/rotate-root

The new certificate is stored beside the credential in force. When it has logged in,
it is put in force; the certificate before is revoked, if KSeF had issued it, and its
sessions end.

It works with a certificate in config as well as under an external login
(login/begin). The private key never leaves Vault. The credential before stays in
force until the new certificate has logged in. Where KSeF takes longer than a
request may last, the response has status=pending, and the engine finishes the
rotation by itself, across restarts. It also rotates a KSeF certificate before it
ends (certificate_renew_before in config).

KSeF allows a company 300 requests for certificates in 30 days and a person 12,
and 100 and 6 active certificates. The engine asks for what is left first.
`
