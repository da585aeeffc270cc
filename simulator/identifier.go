// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import "vault-plugin-secrets-ksef/simulator/internal/ksef"

// Identifier is a taxpayer, a person, a certificate or a login context, as KSeF's JSON has it. It
// has a Type and a Value.
type Identifier = ksef.Identifier

// Types of identifiers. A context is a Nip, InternalId, NipVatUe or PeppolId. The author of a token
// is a Nip, Pesel or Fingerprint. A Peppol provider logs in as its PeppolId.
const (
	TypeNIP         = ksef.TypeNIP
	TypeInternalID  = ksef.TypeInternalID
	TypeNIPVatUE    = ksef.TypeNIPVatUE
	TypePeppolID    = ksef.TypePeppolID
	TypePESEL       = ksef.TypePESEL
	TypeFingerprint = ksef.TypeFingerprint
)
