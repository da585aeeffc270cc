// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/leases"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

const (
	fieldTokensUntil  = leases.FieldUntil
	fieldTokensNotice = "tokens_notice"
	tokensPage        = leases.TokensPage
	// tokensNoticeAhead is how long before the end of KSeF tokens reads begin to say so.
	tokensNoticeAhead = 60 * 24 * time.Hour
)

// lawfulUntil is the end of 31 December 2026 in Poland, until when tokens may be used by the
// regulation in force (Dz.U. 2025 poz. 1815, § 13).
func lawfulUntil() time.Time { return time.Date(2026, time.December, 31, 23, 0, 0, 0, time.UTC) }

func tokensUntilField() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "When KSeF stops accepting KSeF tokens, in RFC 3339, such as 2026-12-31T23:59:59+01:00, or in seconds since 1970. No lease goes beyond it, and from then on no token is issued. Default: empty, which is no end. See " + tokensPage + ".",
	}
}

func tokensNoticeField() *framework.FieldSchema {
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

// applyTokensUntil accepts what Vault's own fields of type time accept.
func applyTokensUntil(next *config, data *framework.FieldData) error {
	raw, given := data.GetOk(fieldTokensUntil)
	if !given {
		return nil
	}
	until, err := parseMoment(raw.(string))
	if err == nil {
		_, err = until.MarshalJSON() // JSON has no zone of 24 hours, which the parser accepts
	}
	if err != nil || until.Year() < minUntilYear || until.Year() > maxUntilYear {
		return &client.InputError{
			Field: fieldTokensUntil, Fault: "is not a moment between the years 2000 and 2999",
			Remedy: `give date, time and zone in RFC 3339, such as 2026-12-31T23:59:59+01:00, seconds since 1970, or "" for no end`,
		}
	}
	next.TokensAcceptedUntil = until.Truncate(time.Second)
	return nil
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

// tokensUntilSchema keeps the zone of the given moment. It returns "" for no end.
func tokensUntilSchema(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return until.Format(time.RFC3339)
}

// addTokensNotice adds the notice to what a read shows, from 60 days before the end on. The notice
// of an end that config names stays. That of the law's end goes when it has passed: what holds then
// is not known.
func (c *config) addTokensNotice(shown map[string]any, now time.Time) {
	end, named := c.TokensAcceptedUntil, !c.TokensAcceptedUntil.IsZero()
	if !named {
		end = lawfulUntil()
	}
	date := end.Format(time.RFC3339)
	switch {
	case now.Before(end.Add(-tokensNoticeAhead)), !named && !now.Before(end):
	case !named:
		shown[fieldTokensNotice] = fmt.Sprintf("By the regulation in force KSeF accepts KSeF tokens until 31 December 2026 (%s). The engine goes on issuing them unless %s is set. What to do: %s",
			date, fieldTokensUntil, tokensPage)
	case now.Before(end):
		shown[fieldTokensNotice] = fmt.Sprintf("KSeF tokens end at %s (%s): no lease goes beyond it, and from then on none is issued. What to do: %s", date, fieldTokensUntil, tokensPage)
	default:
		shown[fieldTokensNotice] = fmt.Sprintf("KSeF tokens ended at %s (%s): none is issued. What to do: %s", date, fieldTokensUntil, tokensPage)
	}
}

// tokensUntil returns the end that the configuration in force names; zero for none, also where
// there is no configuration: leases are renewed all the same.
func (b *backend) tokensUntil(ctx context.Context, storage logical.Storage) (time.Time, error) {
	if current := b.connection.get(); current != nil {
		return current.config.TokensAcceptedUntil, nil
	}
	stored, err := readConfig(ctx, storage)
	var unreadable *unreadableConfigError
	switch {
	case errors.As(err, &unreadable):
		b.onUnreadable(unreadable.entry, unreadable)
		return time.Time{}, nil
	case err != nil || stored == nil:
		return time.Time{}, err
	}
	return stored.TokensAcceptedUntil, nil
}
