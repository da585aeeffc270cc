// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"time"

	"vault-plugin-secrets-ksef/simulator"
)

// sharingFlows use two mounts that share a context. After a crash the one that has sent nothing is
// loaded first, and sends as much as it may.
func sharingFlows() []flow {
	return []flow{{
		name:    "issue on one mount, and after a crash on another",
		options: simulator.Options{ActivationDelay: -1, Limits: simulator.Limits{Context: simulator.Windows{PerSecond: 3, PerMinute: 4, PerHour: 40}}},
		mounts:  2,
		prepare: func(c *Cluster) { c.Elapse(time.Hour); c.restart(); c.Engine.setLoadOrder(0, 10*time.Second) },
		run: func(c *Cluster) {
			for range 4 {
				_, _ = c.Vaults[1].Issue(context.Background(), "invoices", time.Hour)
			}
			c.Elapse(time.Second)
			for range 4 {
				c.tryIssue()
			}
		},
		kinds:     issuing("POST /auth/token/refresh", "put mount-id", "put budget/*"),
		checkSoon: (*Cluster).limitExceeded,
	}}
}
