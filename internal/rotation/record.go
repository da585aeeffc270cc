// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enrollment"
	"vault-plugin-secrets-ksef/internal/jsonentry"
)

// StorageKey is where the rotation in progress is stored. It holds a private key and belongs among
// the seal-wrapped paths.
const StorageKey = "rotation"

const storedVersion = 1

// Step is the next step of a rotation.
type Step string

// The steps, in their order.
const (
	// StepEnroll asks KSeF for the certificate, or finds out whether it was already asked.
	StepEnroll Step = "enroll"
	// StepAwait waits for KSeF to decide, and fetches the certificate.
	StepAwait Step = "await"
	// StepProve logs in with the new certificate and puts it in force.
	StepProve Step = "prove"
	// StepRetire revokes the certificate before and ends its sessions.
	StepRetire Step = "retire"
)

// stored is the storage entry: the rotation in progress and how the last one ended.
type stored struct {
	Version int      `json:"version"`
	Current *record  `json:"current,omitempty"`
	Last    *Outcome `json:"last,omitempty"`
}

// record is a rotation in progress. It is never printed.
type record struct {
	Step      Step      `json:"step"`
	Began     time.Time `json:"began"`
	Automatic bool      `json:"automatic,omitempty"`
	// Enrollment is the new certificate. Its fields are stored among the record's.
	enrollment.Enrollment
	// PreviousSerial and PreviousDigest identify the certificate before; empty where there was
	// none.
	PreviousSerial string `json:"previous_serial,omitempty"`
	PreviousDigest string `json:"previous_digest,omitempty"`
}

// Outcome is how the last rotation ended.
type Outcome struct {
	At        time.Time `json:"at"`
	Automatic bool      `json:"automatic,omitempty"`
	Name      string    `json:"name"`
	// Subject and SubjectName are who the certificate is for; "" in an outcome that an earlier
	// version has written.
	Subject     string `json:"subject,omitempty"`
	SubjectName string `json:"subject_name,omitempty"`
	// SerialNumber is that of the new certificate, Retired that of the one that was revoked; ""
	// where there is none.
	SerialNumber string `json:"serial_number,omitempty"`
	Retired      string `json:"retired,omitempty"`
	// Previous is the digest of the certificate that was to be replaced.
	Previous string `json:"previous,omitempty"`
	// Error is why it failed; "" for success.
	Error string `json:"error,omitempty"`
	// Warning is what a successful rotation has left undone; "" for nothing.
	Warning string `json:"warning,omitempty"`
	// Made is the serial number of the certificate that an earlier rotation has put in force; ""
	// where this one has, and where it is not known.
	Made string `json:"made,omitempty"`
	// Failures counts the failed attempts to replace that certificate, this one included.
	Failures int `json:"failures,omitempty"`
}

// Concerns says that the certificate was the one to be replaced.
func (o *Outcome) Concerns(certificate *x509.Certificate) bool {
	return o.Previous == enrollment.Digest(certificate)
}

// made is the serial number of the certificate that the last successful rotation has put in force;
// "" where it is not known.
func (s *stored) made() string {
	switch {
	case s.Current != nil && s.Current.Step == StepRetire:
		return s.Current.SerialNumber
	case s.Last == nil:
		return ""
	case s.Last.Error == "" && s.Last.SerialNumber != "":
		return s.Last.SerialNumber
	default:
		return s.Last.Made
	}
}

func (c *record) outcome() *Outcome {
	return &Outcome{
		At: time.Now().UTC(), Automatic: c.Automatic, Name: c.Name, Subject: c.Subject, SubjectName: c.SubjectName,
		SerialNumber: c.SerialNumber, Previous: c.PreviousDigest,
	}
}

// failure is the outcome of a failed rotation.
func (c *record) failure(before *stored) *Outcome {
	outcome := c.outcome()
	outcome.Failures, outcome.Made = 1, before.made()
	if last := before.Last; last != nil && last.Previous == outcome.Previous {
		outcome.Failures += last.Failures
	}
	return outcome
}

// errUnreadable is the cause of load's error where the stored rotation cannot be read.
var errUnreadable = errors.New("the stored rotation cannot be read")

func (r *Rotation) load(ctx context.Context) (*stored, error) {
	entry, err := r.Storage.Get(ctx, StorageKey)
	if err != nil {
		return nil, fmt.Errorf("reading the rotation in progress: %w", err)
	}
	if entry == nil {
		return &stored{Version: storedVersion}, nil
	}
	var found stored
	if err = entry.DecodeJSON(&found); err == nil && found.Version != storedVersion {
		err = fmt.Errorf("its version is %d, known is %d", found.Version, storedVersion)
	}
	if err != nil {
		r.OnUnreadable(entry, err)
		return nil, &client.InputError{
			Field: "rotation", Fault: fmt.Sprintf("has a stored state that cannot be read (%v), so that it is not known whether one is in progress", err),
			Remedy: "give it up with: vault write <mount>/config force=rotation", Cause: errUnreadable,
		}
	}
	return &found, nil
}

func (r *Rotation) save(ctx context.Context, state *stored) error {
	return jsonentry.Put(ctx, r.Storage, StorageKey, state, "the rotation")
}
