// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"fmt"
	"math/rand/v2"
	"time"

	"vault-plugin-secrets-ksef/internal/background"

	"github.com/hashicorp/vault/sdk/rotation"
)

// afterFailure spaces the attempts at a new token that fail.
var afterFailure = background.Backoff{Shortest: 15 * time.Second, Longest: time.Hour}

// spreadPart is the part of a period by which Spread shortens it at most.
const spreadPart = 10

// schedule identifies what the next rotation is computed from.
func (s *Spec) schedule() string {
	if s.Schedule == "" && s.Period == 0 {
		return ""
	}
	return fmt.Sprintf("%s %s", s.Period, s.Schedule)
}

// next returns when to rotate after a moment, by the schedule alone; zero for never.
func (s *Spec) next(after time.Time) (time.Time, error) {
	switch {
	case s.Schedule != "":
		schedule, err := rotation.DefaultScheduler.Parse(s.Schedule)
		if err != nil {
			return time.Time{}, fmt.Errorf("reading the rotation_schedule: %w", err)
		}
		return schedule.Next(after.UTC()), nil
	case s.Period == 0:
		return time.Time{}, nil
	case s.Spread:
		after = after.Add(-rand.N(s.Period/spreadPart + 1)) //nolint:gosec // spreads load, guards nothing
	}
	return after.Add(s.Period).UTC(), nil
}

// rotateBy is when a token must be rotated for KSeF ends it by itself: at two thirds of its life.
// It is zero where KSeF does not end it.
func (n *named) rotateBy() time.Time {
	if n.ValidUntil.IsZero() {
		return time.Time{}
	}
	return n.Made.Add(n.ValidUntil.Sub(n.Made) / 3 * 2).UTC()
}

// plan sets the next rotation of the token in force after a moment.
func (s *state) plan(spec *Spec, after time.Time) error {
	next, err := spec.next(after)
	if err != nil {
		return err
	}
	s.NextRotation, s.Schedule = next, spec.schedule()
	if s.Current != nil {
		s.NextRotation = background.Earlier(next, s.Current.rotateBy())
	}
	return nil
}

// replan plans the next rotation where the schedule has changed, or where its window was missed. It
// returns true where that changes the state.
func (s *state) replan(spec *Spec, now time.Time) (changed bool, err error) {
	after := now
	switch {
	case s.Schedule != spec.schedule():
		if spec.Schedule == "" {
			after = s.LastRotation
		}
	case !s.missedWindow(spec, now):
		return false, nil
	}
	before := *s
	err = s.plan(spec, after)
	return before.Schedule != s.Schedule || !before.NextRotation.Equal(s.NextRotation), err
}

func (s *state) missedWindow(spec *Spec, now time.Time) bool {
	return spec.Schedule != "" && spec.Window > 0 && !s.NextRotation.IsZero() && !now.Before(s.NextRotation.Add(spec.Window))
}

// nextRotation is when the token in force is rotated by itself; zero for never.
func (s *state) nextRotation(spec *Spec) time.Time {
	if !spec.Automatic || s.Current == nil {
		return time.Time{}
	}
	return s.NextRotation
}
