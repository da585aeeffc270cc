// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/jsonentry"

	"github.com/hashicorp/vault/sdk/logical"
)

// TextPrefix is where the tokens themselves lie that have no lease, by their reference number. It
// belongs among the seal-wrapped paths.
const TextPrefix = "unleased-tokens/"

func textKey(referenceNumber string) string { return TextPrefix + referenceNumber }

// storedText is a token as it lies in storage. It is written out nowhere else.
type storedText struct {
	Version int    `json:"version"`
	Token   string `json:"token"`
}

const textVersion = 1

var errUnreadableText = errors.New("is not a token that this version can read")

func (s store) putText(ctx context.Context, referenceNumber string, token client.Secret) error {
	return jsonentry.Put(ctx, s, textKey(referenceNumber), storedText{textVersion, token.Reveal()}, "the text of the token "+referenceNumber)
}

// text returns "" where no text is stored.
func (s store) text(ctx context.Context, referenceNumber string) (client.Secret, error) {
	key := textKey(referenceNumber)
	entry, err := s.Get(ctx, key)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", key, err)
	}
	if entry == nil {
		return "", nil
	}
	return s.decodeText(entry)
}

// decodeText never quotes the entry in an error.
func (s store) decodeText(entry *logical.StorageEntry) (client.Secret, error) {
	var stored storedText
	if err := entry.DecodeJSON(&stored); err != nil || stored.Version != textVersion || stored.Token == "" {
		err := fmt.Errorf("%s %w", entry.Key, errUnreadableText)
		s.unreadable(entry, err)
		return "", err
	}
	return client.Secret(stored.Token), nil
}

// textKeys returns the key of the text of a token without a lease, and nothing for a leased one.
func (r *Record) textKeys() []string {
	if !r.Unleased() {
		return nil
	}
	return []string{textKey(r.ReferenceNumber)}
}

// reviewTexts deletes the texts of tokens that have no record any more, as where another version of
// the plugin has finished a revocation.
func (r *reconciler) reviewTexts(ctx context.Context) error {
	store := r.ledger.store
	texts, err := store.names(ctx, TextPrefix)
	if err != nil || len(texts) == 0 {
		return err
	}
	awaited, err := r.ledger.awaitsRecord(ctx)
	if err != nil || awaited {
		return err
	}
	// After the texts, and in the order in which records move, so that none is missed.
	recorded := make(map[string]struct{})
	err = store.eachName(ctx, []string{unleasedPrefix, endingPrefix}, func(_, referenceNumber string) error {
		recorded[referenceNumber] = struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	texts = slices.DeleteFunc(texts, func(referenceNumber string) bool {
		_, found := recorded[referenceNumber]
		return found
	})
	for _, referenceNumber := range texts {
		r.ledger.Logger.Info("the text of a token without a record is deleted", "reference_number", referenceNumber)
		if err := store.remove(ctx, textKey(referenceNumber)); err != nil {
			return err
		}
	}
	return nil
}

// awaitsRecord says that a text may have its record yet to come: that of an intent, which leads to
// the token until then, or of an import in progress.
func (l *Ledger) awaitsRecord(ctx context.Context) (bool, error) {
	importing := false
	l.inFlight.Range(func(nonce, _ any) bool {
		importing = isImported(nonce.(string))
		return !importing
	})
	if importing {
		return true, nil
	}
	intents, err := l.store.names(ctx, unleasedIssuingPrefix)
	return len(intents) > 0, err
}
