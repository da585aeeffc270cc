// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build race

package enginetest

// raceDivisor makes the large mount smaller: the race detector slows the filling of a storage many
// times over, and no count depends on it.
const raceDivisor = 10
