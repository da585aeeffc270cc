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

// rotating are the kinds of points at which a certificate is requested and put in force.
func rotating(more ...string) []string {
	return append(loggingIn(more...), "GET /certificates/limits", "GET /certificates/enrollments/data", "put rotation",
		EnrollEndpoint, "GET /certificates/enrollments/{referenceNumber}", "POST /certificates/retrieve", "put config",
		"DELETE /auth/sessions/current", "delete sessions/*", "put budget/*")
}

// retiring are the kinds of points at which the previous certificate is revoked.
func retiring(more ...string) []string {
	return append(more, "POST /certificates/{certificateSerialNumber}/revoke")
}

func rotationFlows() []flow {
	rotate := func(c *Cluster) { _ = c.tryWrite("config/rotate-root", nil) }
	alreadyKSeFs := func(c *Cluster) { rotate(c); c.Elapse(2 * time.Hour) }
	flows := []flow{{
		name: "rotate root", run: rotate, kinds: rotating(),
	}, {
		name: "rotate root from one of KSeF's", prepare: alreadyKSeFs, run: rotate, kinds: retiring(rotating("POST /auth/token/refresh")...),
	}, {
		name: "rotate root after an external login", prepare: func(c *Cluster) { c.switchToExternal(); c.externalLogin() }, run: rotate, kinds: rotating(),
	}, {
		name: "rotate root where the reply is lost",
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: EnrollEndpoint, Kind: simulator.FaultDropResponse})
			rotate(c)
			c.Elapse(time.Minute)
		},
		kinds: withoutKind(rotating("POST /certificates/query"), "GET /certificates/enrollments/{referenceNumber}"),
	}, {
		name: "rotate root where the request is lost",
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: EnrollEndpoint, Kind: simulator.FaultDropRequest})
			rotate(c)
			c.Elapse(20 * time.Minute)
		},
		kinds: rotating("POST /certificates/query"),
	}, {
		name: "rotate root where KSeF rejects the request",
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: EnrollEndpoint, Kind: simulator.FaultFailEnrollment, Status: 400})
			rotate(c)
		},
		kinds: []string{"GET /certificates/limits", "GET /certificates/enrollments/data", "put rotation", EnrollEndpoint, "GET /certificates/enrollments/{referenceNumber}", "put budget/*"},
	}, {
		name:    "rotate root to a certificate that is not yet accepted",
		options: simulator.Options{CertificateAcceptanceDelay: time.Hour},
		run:     func(c *Cluster) { rotate(c); c.Elapse(3 * time.Hour) },
		kinds:   rotating(),
	}, {
		name:    "renew the certificate",
		options: simulator.Options{CertificateLifetime: 90 * Day}, // to play two years takes a minute
		history: func(c *Cluster) { alreadyKSeFs(c); c.Elapse(56 * Day) },
		run:     func(c *Cluster) { c.Elapse(6 * Day) },
		kinds:   retiring(rotating("POST /auth/token/refresh")...),
	}}
	for i := range flows {
		flows[i].checkSoon, flows[i].check = canIssue, oneCredential
	}
	return flows
}

func externalFlows() []flow {
	flows := []flow{{
		name:    "begin an external login",
		prepare: (*Cluster).switchToExternal,
		run:     func(c *Cluster) { _ = c.tryWrite("login/begin", nil) },
		kinds:   []string{"POST /auth/challenge", "put logins/*"},
	}, {
		name:    "complete an external login",
		prepare: func(c *Cluster) { c.switchToExternal(); c.signed = c.signerSigns() },
		run:     func(c *Cluster) { _ = c.tryWrite("login/complete", map[string]any{"signed_request": c.signed}) },
		kinds:   bySignature(),
	}, {
		name: "complete an external login that takes minutes",
		prepare: func(c *Cluster) {
			c.switchToExternal()
			c.signed = c.signerSigns()
			c.Network.DelayLogins(5 * time.Minute)
		},
		run: func(c *Cluster) {
			_ = c.tryWrite("login/complete", map[string]any{"signed_request": c.signed})
			c.Elapse(10 * time.Minute)
		},
		kinds: bySignature("put budget/*"),
	}}
	for i := range flows {
		flows[i].checkSoon = (*Cluster).externalWorks
	}
	return flows
}

// bySignature are the kinds of points at which a document that was signed outside of Vault becomes
// a session.
func bySignature(more ...string) []string {
	return withoutKind(loggingIn(append(more, "put logins/*", "delete logins/*")...), "POST /auth/challenge", "put unstored-sessions/*", "delete unstored-sessions/*")
}

func withoutKind(kinds []string, unwanted ...string) []string {
	return slices.DeleteFunc(kinds, func(kind string) bool { return slices.Contains(unwanted, kind) })
}

// tryWrite returns why a write has failed.
func (c *Cluster) tryWrite(path string, fields map[string]any) error {
	_, err := c.Vault().Request(context.Background(), func(m *Mount) (*logical.Response, error) { return m.Write(path, fields) })
	return err
}

// switchToExternal removes the certificate from the configuration.
func (c *Cluster) switchToExternal() {
	c.externalSigner = c.Signer(simulator.CertificateOptions{NIP: NIP})
	c.OnMount(0, func(m *Mount) {
		m.Must(m.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
		m.Must(m.Write("config", map[string]any{"url": URL, "nip": NIP}))
	})
}

func (c *Cluster) signerSigns() (signed string) {
	c.OnMount(0, func(m *Mount) { signed = c.externalSigner.Sign(c.T, m.BeginLogin(nil), xadestest.DSS()) })
	return signed
}

func (c *Cluster) externalLogin() {
	signed := c.signerSigns()
	c.OnMount(0, func(m *Mount) { m.Must(m.CompleteLogin(signed)) })
}

// externalWorks submits the last document again if there is no session, and signs anew if KSeF no
// longer accepts it.
func (c *Cluster) externalWorks() error {
	c.Elapse(10 * time.Minute)
	if canIssue(c) == nil {
		return nil
	}
	signed := c.signerSigns()
	_ = c.tryWrite("login/complete", map[string]any{"signed_request": signed})
	c.Elapse(10 * time.Minute)
	return canIssue(c)
}

// canIssue fails if no token can be issued.
func canIssue(c *Cluster) error {
	_, err := c.Vault().Issue(context.Background(), "invoices", time.Hour)
	return err
}

// oneCredential fails if KSeF has an active certificate whose key is not in force, or if one
// rotation has led to several certificates.
func oneCredential(c *Cluster) error {
	var stored StoredConfig
	var status map[string]any
	c.OnMount(0, func(m *Mount) { stored, status = m.StoredConfig(), m.StatusDetails() })
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
	for _, one := range c.Certificates("Active") {
		if serial != one.SerialNumber {
			return fmt.Errorf("the certificate %s is active, and its key is not in force", one.SerialNumber)
		}
	}
	requested := c.Requests(EnrollEndpoint)
	if issued := len(c.KSeF.State().Certificates); issued > 2 || requested > 3 {
		return fmt.Errorf("%d requests have led to %d certificates", requested, issued)
	}
	if serial == "" && c.externalSigner == nil {
		return errors.New("there is no credential")
	}
	return nil
}
