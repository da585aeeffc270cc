// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import "sync"

// maxCachedRoles bounds the memory of a cache.
const maxCachedRoles = 1000

// roleCache keeps roles as they were decoded, by what storage has of them: to decode a role and its
// template takes longer than to record a token. A role that has changed in storage is never found.
type roleCache struct {
	mu       sync.Mutex
	byStored map[string]role
}

func (c *roleCache) get(stored []byte) (cached role, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cached, found = c.byStored[string(stored)]
	return cached, found
}

func (c *roleCache) add(stored []byte, decoded role) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byStored == nil || len(c.byStored) >= maxCachedRoles {
		c.byStored = make(map[string]role)
	}
	c.byStored[string(stored)] = decoded
}
