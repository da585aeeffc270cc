// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package report_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/events"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/report"
	"vault-plugin-secrets-ksef/internal/rotation"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestReporter(t *testing.T) {
	failed := errors.New("KSeF is away")
	taxpayer := client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}
	record := ledger.Record{ReferenceNumber: "1", Role: "invoices", Target: ledger.Target{Context: taxpayer}, Cause: "its lease has ended"}
	unleased := record
	unleased.Role, unleased.Holder = "", ledger.Holder{Kind: ledger.HolderStatic, Role: "erp"}
	token := map[string]any{"data_path": "tokens", "reference_number": "1", "role": "invoices", "context": "Nip:5265877635", "cause": "its lease has ended"}
	tokenFailed := map[string]any{"error": "KSeF is away"}
	for name, value := range token {
		tokenFailed[name] = value
	}
	for name, test := range map[string]struct {
		report   func(r *report.Reporter)
		log      string
		event    string // empty for none
		metadata map[string]any
		failure  *report.Activity // what status shows as failed
	}{
		"token": {
			func(r *report.Reporter) { r.Token(ledger.Event{Kind: ledger.EventIssue, Record: record}) },
			"[INFO]  token-issue: reference_number=1 context=Nip:5265877635 role=invoices", "ksef/token-issue", token, nil,
		},
		"token that was not issued": {
			func(r *report.Reporter) {
				r.Token(ledger.Event{Kind: ledger.EventIssueFail, Record: record, Err: failed})
			},
			`[WARN]  token-issue-fail: reference_number=1 context=Nip:5265877635 role=invoices error="KSeF is away"`, "ksef/token-issue-fail", tokenFailed,
			&report.Activity{Kind: report.Issue, Taxpayer: taxpayer, Object: "invoices"},
		},
		"token of a static role that was not issued": {
			func(r *report.Reporter) {
				r.Token(ledger.Event{Kind: ledger.EventIssueFail, Record: unleased, Err: failed})
			},
			`[WARN]  token-issue-fail: reference_number=1 context=Nip:5265877635 role=erp holder=static error="KSeF is away"`, "ksef/token-issue-fail",
			map[string]any{
				"data_path": "tokens", "reference_number": "1", "role": "erp", "holder": "static", "context": "Nip:5265877635",
				"cause": "its lease has ended", "error": "KSeF is away",
			},
			&report.Activity{Kind: report.Issue, Taxpayer: taxpayer, Object: report.StaticRole("erp")},
		},
		"token that was not revoked": {
			func(r *report.Reporter) {
				r.Token(ledger.Event{Kind: ledger.EventRevokeFail, Record: record, Err: failed})
			},
			"[WARN]  token-revoke-fail: ", "ksef/token-revoke-fail", tokenFailed,
			&report.Activity{Kind: report.Revoke, Taxpayer: taxpayer, Object: "1"},
		},
		"wait for the limits, which is no failure": {
			func(r *report.Reporter) {
				r.Token(ledger.Event{Kind: ledger.EventRevokeWait, Record: record, Err: failed})
			},
			"[WARN]  token-revoke-wait: ", "ksef/token-revoke-wait", tokenFailed, nil,
		},
		"login": {
			func(r *report.Reporter) { r.Login(taxpayer, nil) },
			"[INFO]  logged in to KSeF: context=Nip:5265877635", "ksef/login", map[string]any{"data_path": "config", "context": "Nip:5265877635"}, nil,
		},
		"login that failed": {
			func(r *report.Reporter) { r.Login(taxpayer, failed) },
			"[ERROR] the login to KSeF failed: ", "ksef/login-fail",
			map[string]any{"data_path": "config", "context": "Nip:5265877635", "error": "KSeF is away"},
			&report.Activity{Kind: report.Login, Taxpayer: taxpayer},
		},
		"login with a configuration that is not in force": {
			func(r *report.Reporter) { r.UnstoredLogin(taxpayer, failed) },
			"[ERROR] the login to KSeF failed: ", "ksef/login-fail",
			map[string]any{"data_path": "config", "context": "Nip:5265877635", "error": "KSeF is away"}, nil,
		},
		"rotation": {
			func(r *report.Reporter) {
				r.Rotation(rotation.Event{Kind: rotation.EventRotate, Name: "vault", SerialNumber: "B", Retired: "A", Automatic: true})
			},
			"[INFO]  root-rotate: ", "ksef/root-rotate", map[string]any{
				"data_path": "config/rotate-root", "certificate_name": "vault", "certificate_serial_number": "B", "retired_serial_number": "A", "automatic": "true",
			}, nil,
		},
		"rotation that failed": {
			func(r *report.Reporter) { r.Rotation(rotation.Event{Kind: rotation.EventFail, Err: failed}) },
			"[ERROR] root-rotate-fail: ", "ksef/root-rotate-fail",
			map[string]any{"data_path": "config/rotate-root", "automatic": "false", "error": "KSeF is away"},
			&report.Activity{Kind: report.Rotation},
		},
		"rotation that an operator ended": {
			func(r *report.Reporter) {
				r.Rotation(rotation.Event{Kind: rotation.EventFail, Err: fmt.Errorf("ended: %w", rotation.ErrAbandoned)})
			},
			"[ERROR] root-rotate-fail: ", "ksef/root-rotate-fail",
			map[string]any{"data_path": "config/rotate-root", "automatic": "false", "error": "ended: " + rotation.ErrAbandoned.Error()}, nil,
		},
		"warning": {
			func(r *report.Reporter) {
				r.Warning(client.Warning{Endpoint: "POST /tokens", Text: "maintenance tonight"})
			},
			`[WARN]  KSeF warns: endpoint="POST /tokens" warning="maintenance tonight"`, "", nil, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var logs bytes.Buffer
			logger := hclog.New(&hclog.LoggerOptions{Output: &logs, DisableTime: true})
			vault := logical.NewMockEventSender()
			publisher := events.NewPublisher(vault, logger)
			reporter := report.NewReporter(logger, publisher)
			test.report(reporter)
			publisher.Close(t.Context())

			require.Contains(t, logs.String(), test.log)
			if test.event == "" {
				require.Empty(t, vault.Events)
			} else {
				require.Len(t, vault.Events, 1)
				require.Equal(t, test.event, string(vault.Events[0].Type))
				require.Equal(t, test.metadata, vault.Events[0].Event.Metadata.AsMap())
			}
			warning, failure := reporter.Last()
			require.Equal(t, name == "warning", warning != nil)
			if test.failure == nil {
				require.Nil(t, failure)
			} else {
				require.Equal(t, *test.failure, failure.Activity)
				require.Equal(t, failed, failure.Err)
			}
		})
	}
}
