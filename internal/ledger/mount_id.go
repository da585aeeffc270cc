// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"

	"github.com/hashicorp/vault/sdk/logical"
)

const mountIDKey = "mount-id"

var (
	mountIDPattern    = regexp.MustCompile(`^[0-9a-f]{12}$`)
	errInvalidMountID = errors.New("the mount's id is not one; it is taken from the ledger's records")
)

// knownMountID returns the mount's identifier, or "" where none has been made yet. It fails with
// errInvalidMountID where it is damaged.
func (s store) knownMountID(ctx context.Context) (string, error) {
	entry, err := s.Get(ctx, mountIDKey)
	switch {
	case err != nil:
		return "", fmt.Errorf("reading the mount's id: %w", err)
	case entry == nil:
		return "", nil
	case !mountIDPattern.Match(entry.Value):
		s.unreadable(entry, errInvalidMountID)
		return "", errInvalidMountID
	}
	return string(entry.Value), nil
}

// mountID returns the mount's identifier, made once. One that is damaged is restored from the
// records: another would disown the tokens that are looked for by it.
func (s store) mountID(ctx context.Context) (string, error) {
	id, err := s.knownMountID(ctx)
	if errors.Is(err, errInvalidMountID) {
		id, err = s.mountIDOfRecords(ctx)
	} else if id != "" {
		return id, nil
	}
	if err != nil {
		return "", err
	}
	if id == "" {
		random := make([]byte, mountIDBytes)
		if _, err := rand.Read(random); err != nil {
			return "", fmt.Errorf("making the mount's id: %w", err)
		}
		id = hex.EncodeToString(random)
	}
	if err := s.Put(ctx, &logical.StorageEntry{Key: mountIDKey, Value: []byte(id)}); err != nil {
		return "", fmt.Errorf("writing the mount's id: %w", err)
	}
	return id, nil
}

// mountIDOfRecords returns the mount that the first readable record names; "" without any.
func (s store) mountIDOfRecords(ctx context.Context) (string, error) {
	folders, err := s.openFolders(ctx)
	if err != nil {
		return "", err
	}
	for _, folder := range folders {
		names, err := s.names(ctx, folder)
		if err != nil {
			return "", err
		}
		for _, name := range names {
			record, err := s.get(ctx, folder+name)
			if err != nil && !errors.Is(err, errUnreadableRecord) {
				return "", err
			}
			if record == nil {
				continue
			}
			if id, _, marked := parseMarker(record.Description); marked {
				return id, nil
			}
		}
	}
	return "", nil
}
