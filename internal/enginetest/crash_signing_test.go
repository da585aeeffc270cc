// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/hashicorp/vault/sdk/logical"
)

// rotating are the kinds of points at which a key is certified and put in force.
func rotating(more ...string) []string {
	return append(loggingIn(more...), "GET /certificates/limits", "GET /certificates/enrollments/data", "put rotation",
		EnrollEndpoint, "GET /certificates/enrollments/{referenceNumber}", "POST /certificates/retrieve", "put config",
		"DELETE /auth/sessions/current", "delete sessions/*", "put budget/*")
}

// retiring are those at which a certificate of KSeF's before is revoked.
func retiring(more ...string) []string {
	return append(more, "POST /certificates/{certificateSerialNumber}/revoke")
}

func rotationFlows() []flow {
	rotate := func(s *Cluster) { s.once("config/rotate-root", nil) }
	alreadyKSeFs := func(s *Cluster) { rotate(s); s.Elapse(2 * time.Hour) }
	flows := []flow{{
		name: "rotate root", run: rotate, kinds: rotating(),
	}, {
		name: "rotate root from one of KSeF's", prepare: alreadyKSeFs, run: rotate, kinds: retiring(rotating("POST /auth/token/refresh")...),
	}, {
		name: "rotate root from a person", prepare: func(s *Cluster) { s.switchToExternal(); s.externalLogin() }, run: rotate, kinds: rotating(),
	}, {
		name: "rotate root where the reply is lost",
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: EnrollEndpoint, Kind: simulator.FaultDropReply})
			rotate(s)
			s.Elapse(time.Minute)
		},
		kinds: withoutKind(rotating("POST /certificates/query"), "GET /certificates/enrollments/{referenceNumber}"),
	}, {
		name: "rotate root where the request is lost",
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: EnrollEndpoint, Kind: simulator.FaultDropRequest})
			rotate(s)
			s.Elapse(20 * time.Minute)
		},
		kinds: rotating("POST /certificates/query"),
	}, {
		name: "rotate root where KSeF rejects the request",
		run: func(s *Cluster) {
			s.Fault(simulator.Fault{Endpoint: EnrollEndpoint, Kind: simulator.FaultFailEnrollment, Status: 400})
			rotate(s)
		},
		kinds: []string{"GET /certificates/limits", "GET /certificates/enrollments/data", "put rotation", EnrollEndpoint, "GET /certificates/enrollments/{referenceNumber}", "put budget/*"},
	}, {
		name:    "rotate root to a certificate that is not yet accepted",
		options: simulator.Options{CertificateAcceptanceDelay: time.Hour},
		run:     func(s *Cluster) { rotate(s); s.Elapse(3 * time.Hour) },
		kinds:   rotating(),
	}, {
		name:    "renew the certificate",
		options: simulator.Options{CertificateLifetime: 90 * Day}, // to play two years takes a minute
		history: func(s *Cluster) { alreadyKSeFs(s); s.Elapse(56 * Day) },
		run:     func(s *Cluster) { s.Elapse(6 * Day) },
		kinds:   retiring(rotating("POST /auth/token/refresh")...),
	}}
	for i := range flows {
		flows[i].soon, flows[i].check = canIssue, oneCredential
	}
	return flows
}

func externalFlows() []flow {
	flows := []flow{{
		name:    "begin a login that a person signs",
		prepare: (*Cluster).switchToExternal,
		run:     func(s *Cluster) { s.once("login/begin", nil) },
		kinds:   []string{"POST /auth/challenge", "put logins/*"},
	}, {
		name:    "log in with a person's signature",
		prepare: func(s *Cluster) { s.switchToExternal(); s.signed = s.signerSigns() },
		run:     func(s *Cluster) { s.once("login/complete", map[string]any{"signed_request": s.signed}) },
		kinds:   bySignature(),
	}, {
		name: "log in with a person's signature that takes minutes",
		prepare: func(s *Cluster) {
			s.switchToExternal()
			s.signed = s.signerSigns()
			s.Network.DelayLogins(5 * time.Minute)
		},
		run: func(s *Cluster) {
			s.once("login/complete", map[string]any{"signed_request": s.signed})
			s.Elapse(10 * time.Minute)
		},
		kinds: bySignature("put budget/*"),
	}}
	for i := range flows {
		flows[i].soon = (*Cluster).externalWorks
	}
	return flows
}

// bySignature are the kinds of points at which a person's signature leads to a session.
func bySignature(more ...string) []string {
	return withoutKind(loggingIn(append(more, "put logins/*", "delete logins/*")...), "POST /auth/challenge", "put unstored-sessions/*", "delete unstored-sessions/*")
}

func withoutKind(kinds []string, unwanted ...string) []string {
	return slices.DeleteFunc(kinds, func(kind string) bool { return slices.Contains(unwanted, kind) })
}

// once writes, and whoever did may never learn what came of it.
func (s *Cluster) once(path string, fields map[string]any) {
	_, _ = s.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) { return m.Write(path, fields) })
}

// switchToExternal takes the certificate out of the configuration.
func (s *Cluster) switchToExternal() {
	s.clerk = s.Signer(simulator.CertificateOptions{NIP: NIP})
	s.OnMount(0, func(m *Mount) {
		m.Must(m.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
		m.Must(m.Write("config", map[string]any{"url": URL, "nip": NIP}))
	})
}

func (s *Cluster) signerSigns() (signed string) {
	s.OnMount(0, func(m *Mount) { signed = s.clerk.Sign(s.T, m.BeginLogin(nil), xadestest.DSS()) })
	return signed
}

func (s *Cluster) externalLogin() {
	signed := s.signerSigns()
	s.OnMount(0, func(m *Mount) { m.Must(m.CompleteLogin(signed)) })
}

// externalWorks has the person bring the signed request again where nobody is logged in, and sign
// anew where KSeF no longer takes that, as people do.
func (s *Cluster) externalWorks() error {
	s.Elapse(10 * time.Minute)
	if canIssue(s) == nil {
		return nil
	}
	signed := s.signerSigns()
	s.once("login/complete", map[string]any{"signed_request": signed})
	s.Elapse(10 * time.Minute)
	return canIssue(s)
}

// canIssue says whether there is a credential that works.
func canIssue(s *Cluster) error {
	_, err := s.Vault().Issue(context.Background(), "invoices", time.Hour)
	return err
}

// oneCredential says whether the key of each certificate that KSeF has issued and not revoked is
// the one in force, and whether a rotation has led to no more than one certificate.
func oneCredential(s *Cluster) error {
	var stored StoredConfig
	var status map[string]any
	s.OnMount(0, func(m *Mount) { stored, status = m.StoredConfig(), m.StatusDetails() })
	if state, known := status["rotation"].(map[string]any); known && state["step"] != nil {
		return fmt.Errorf("the rotation has not ended: %v", state)
	}
	serial := ""
	if stored.Certificate != "" {
		pair, err := stored.Pair()
		if err != nil {
			return err
		}
		serial = fmt.Sprintf("%016X", pair.Leaf.SerialNumber)
	}
	for _, one := range s.Certificates("Active") {
		if serial != one.SerialNumber {
			return fmt.Errorf("the certificate %s is active, and its key is not in force", one.SerialNumber)
		}
	}
	requested := s.Requests(EnrollEndpoint)
	if issued := len(s.KSeF.State().Certificates); issued > 2 || requested > 3 {
		return fmt.Errorf("%d requests have led to %d certificates", requested, issued)
	}
	if serial == "" && s.clerk == nil {
		return errors.New("there is no credential")
	}
	return nil
}
