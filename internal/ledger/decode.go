// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
)

var errUnreadableRecord = errors.New("is not a record that this version can read")

// decodeRecord reads an entry and refuses one that could lead to the wrong token: the ledger would
// rather stop and say so.
func decodeRecord(key string, data []byte) (*Record, error) {
	var record Record
	if err := json.Unmarshal(data, &record); err != nil {
		return nil, fmt.Errorf("the ledger's %s %w: %w", key, errUnreadableRecord, err)
	}
	if record.Version != recordVersion || !record.State.known() || len(record.Nonce) != nonceLength || record.Target.Context.IsZero() ||
		(record.State != Issuing && record.ReferenceNumber == "") || record.key() != key {
		return nil, fmt.Errorf("the ledger's %s %w", key, errUnreadableRecord)
	}
	return &record, nil
}
