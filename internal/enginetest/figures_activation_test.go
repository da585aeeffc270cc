// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestFigureALoneReadEndsSoonAfterTheActivation(t *testing.T) {
	var worst activationReads
	for _, delay := range []time.Duration{300 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second} {
		InCluster(t, simulator.Options{ActivationDelay: delay, Limits: NoLimits()}, func(_ *testing.T, c *Cluster) {
			c.readAlone(delay, 10)
			measured := c.readAlone(delay, 100)
			worst.latest = max(worst.latest, measured.latest)
			worst.polls = max(worst.polls, measured.polls)
		})
	}
	attribute(t, "latest-seconds", worst.latest.Seconds())
	attribute(t, "looks-per-read", worst.polls)
	require.LessOrEqual(t, worst.latest, 500*time.Millisecond)
	require.LessOrEqual(t, worst.polls, 1.6)
}
