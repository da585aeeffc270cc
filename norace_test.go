// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build !race

package ksef

const raceDivisor = 1
