// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package leases

import (
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
)

const (
	// FieldUntil is the field of config with the end of KSeF tokens.
	FieldUntil = "tokens_accepted_until"
	// FieldNotice is the field of reads that names the end when it is near.
	FieldNotice = "tokens_notice"
	// TokensPage is the page of the documentation about the end of KSeF tokens.
	TokensPage = "docs/tokens-after-2026.md"

	// noticeAhead is how long before the end of KSeF tokens reads begin to name it.
	noticeAhead = 60 * 24 * time.Hour

	useInstead = "have the program log in to KSeF with a KSeF certificate of its own, see " + TokensPage +
		"; if KSeF does accept tokens for longer, write a later " + FieldUntil + " to config"
)

// LawfulUntil is the end of 31 December 2026 in Poland, until when tokens may be used by the
// regulation in force (Dz.U. 2025 poz. 1815, § 13).
func LawfulUntil() time.Time { return time.Date(2026, time.December, 31, 23, 0, 0, 0, time.UTC) }

// UntilSchema is the schema of FieldUntil.
func UntilSchema() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "When KSeF stops accepting KSeF tokens, in RFC 3339, such as 2026-12-31T23:59:59+01:00, or in seconds since 1970. No lease goes beyond it, and from then on no token is issued. Default: empty, which is no end. See " + TokensPage + ".",
	}
}

// NoticeSchema is the schema of FieldNotice.
func NoticeSchema() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "From 60 days before the end of KSeF tokens: when that is, and where the documentation says what to do. Absent before, and where tokens_accepted_until is empty also after 31 December 2026.",
	}
}

// Years that tokens_accepted_until may lie in: milliseconds that are given for seconds do not.
const (
	minUntilYear = 2000
	maxUntilYear = 2999
)

// ParseUntil reads the end of KSeF tokens as Vault's own fields of type time are given, to the
// second. It refuses anything else with a *client.InputError.
func ParseUntil(text string) (time.Time, error) {
	until, err := parseMoment(text)
	if err == nil {
		_, err = until.MarshalJSON() // JSON has no zone of 24 hours, which the parser accepts
	}
	if err != nil || until.Year() < minUntilYear || until.Year() > maxUntilYear {
		return time.Time{}, &client.InputError{
			Field: FieldUntil, Fault: "is not a moment between the years 2000 and 2999",
			Remedy: `give date, time and zone in RFC 3339, such as 2026-12-31T23:59:59+01:00, seconds since 1970, or "" for no end`,
		}
	}
	return until.Truncate(time.Second), nil
}

// parseMoment keeps the zone of the given moment. Seconds are read as UTC, not as the machine's
// zone.
func parseMoment(text string) (time.Time, error) {
	if moment, err := time.Parse(time.RFC3339, text); err == nil {
		return moment, nil
	}
	moment, err := parseutil.ParseAbsoluteTime(text)
	return moment.UTC(), err
}

// ShowUntil keeps the zone of the given moment. It returns "" for no end.
func ShowUntil(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return until.Format(time.RFC3339)
}

// AddNotice adds the notice of the end to what a read shows, from 60 days before it on. The notice
// of an end that config names stays; until is zero where it names none. That of the law's end goes
// when it has passed: what holds then is not known.
func AddNotice(shown map[string]any, until, now time.Time) {
	end, named := until, !until.IsZero()
	if !named {
		end = LawfulUntil()
	}
	date := end.Format(time.RFC3339)
	switch {
	case now.Before(end.Add(-noticeAhead)), !named && !now.Before(end):
	case !named:
		shown[FieldNotice] = fmt.Sprintf("By the regulation in force KSeF accepts KSeF tokens until 31 December 2026 (%s). The engine goes on issuing them unless %s is set. What to do: %s",
			date, FieldUntil, TokensPage)
	case now.Before(end):
		shown[FieldNotice] = fmt.Sprintf("KSeF tokens end at %s (%s): no lease goes beyond it, and from then on none is issued. What to do: %s", date, FieldUntil, TokensPage)
	default:
		shown[FieldNotice] = fmt.Sprintf("KSeF tokens ended at %s (%s): none is issued. What to do: %s", date, FieldUntil, TokensPage)
	}
}

// CheckUntil refuses to issue where no lease of a second would end before until; zero is no end.
func CheckUntil(until, now time.Time) error {
	if until.IsZero() || ledger.LeaseLeft(until, now) >= time.Second {
		return nil
	}
	return &client.InputError{
		Field: FieldUntil, Fault: "is " + until.Format(time.RFC3339) + "; from then on no KSeF tokens are issued",
		Remedy: useInstead,
	}
}
