// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
)

// prove logs in with the new certificate and puts it in force. KSeF may hold a certificate that it
// has just issued for not yet valid: that passes.
func (r *Rotation) prove(ctx context.Context, state *stored) (wait time.Duration, err error) {
	current := state.Current
	fresh := Credential{Certificate: current.Certificate, PrivateKey: current.PrivateKey}
	if err := r.Mount.Prove(ctx, fresh); err != nil {
		return 0, fmt.Errorf("the new certificate %s cannot log in yet, the one before goes on: %w", current.SerialNumber, err)
	}
	if err := r.Mount.Switch(ctx, fresh); err != nil {
		return 0, err
	}
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	current.Step, current.PrivateKey, current.Request = StepRetire, "", nil
	return 0, r.save(ctx, state)
}

// retireFor is how long KSeF may refuse to revoke the certificate before until the rotation ends
// without that.
const retireFor = 24 * time.Hour

// retire revokes the certificate before, where KSeF has issued it, and ends the sessions that were
// made with it.
func (r *Rotation) retire(ctx context.Context, state *stored) error {
	current := state.Current
	api, err := r.upstream(ctx, current.Subject)
	if err != nil {
		return err
	}
	outcome := &Outcome{
		Automatic: current.Automatic, Name: current.Name, Subject: current.Subject, SubjectName: current.SubjectName,
		SerialNumber: current.SerialNumber, Previous: current.PreviousDigest,
	}
	restored, err := r.isRestored(ctx, current)
	if err != nil {
		return err
	}
	issued := false
	if !restored {
		issued, err = isKSeFs(ctx, api, current)
	}
	if err == nil && issued {
		err = revoke(ctx, api, current.PreviousSerial)
		outcome.Retired = current.PreviousSerial
	}
	switch {
	case restored:
		outcome.Warning = "the certificate before, " + current.PreviousSerial + ", is in force again and was not revoked"
	case err != nil && isFinal(err) && time.Since(current.Began) > retireFor:
		outcome.Retired, outcome.Warning = "", fmt.Sprintf("the certificate before was not revoked in KSeF, and can still log in: %v", err)
	case err != nil:
		return err
	}
	if err := r.Mount.Supersede(ctx); err != nil {
		return fmt.Errorf("ending the sessions of the credential before: %w", err)
	}
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	outcome.At = time.Now().UTC()
	if err := r.save(ctx, &stored{Version: storedVersion, Last: outcome}); err != nil {
		return err
	}
	r.OnEvent(Event{Kind: EventRotate, Name: outcome.Name, SerialNumber: outcome.SerialNumber, Retired: outcome.Retired, Automatic: outcome.Automatic})
	return nil
}

// isRestored says whether the certificate before is in force again: a write of config may put it
// back while its revocation is pending.
func (r *Rotation) isRestored(ctx context.Context, current *record) (bool, error) {
	inForce, err := r.Mount.Current(ctx)
	if err != nil {
		return false, err
	}
	return inForce.Certificate != nil && digest(inForce.Certificate) == current.PreviousDigest, nil
}

// serialPattern is what KSeF's serial numbers look like (OpenAPI, CertificateListItem).
var serialPattern = regexp.MustCompile(`^[0-9A-F]{16}$`)

// isKSeFs says whether KSeF has issued the certificate before: whether it gives out the very same
// under that number. Another issuer's could have the number.
func isKSeFs(ctx context.Context, api Upstream, current *record) (bool, error) {
	if !serialPattern.MatchString(current.PreviousSerial) {
		return false, nil
	}
	found, err := api.RetrieveCertificate(ctx, current.PreviousSerial)
	if errors.Is(err, client.ErrNoCertificate) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking KSeF for the certificate %s: %w", current.PreviousSerial, err)
	}
	return digest(found) == current.PreviousDigest, nil
}

func revoke(ctx context.Context, api Upstream, serial string) error {
	err := api.RevokeCertificate(ctx, serial, client.RevokedSuperseded)
	if err == nil || client.HasCode(err, client.CodeUnknownCertificate) || client.HasCode(err, client.CodeCertificateEnded) {
		return nil
	}
	return fmt.Errorf("revoking the certificate %s: %w", serial, err)
}

func encodeCertificate(certificate *x509.Certificate) string {
	return encode("CERTIFICATE", certificate.Raw)
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
