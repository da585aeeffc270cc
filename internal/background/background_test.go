// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package background

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

func TestSleep(t *testing.T) {
	for name, test := range map[string]struct {
		wakeAfter, endAfter time.Duration
		slept               bool
		took                time.Duration
	}{
		"waits_for_the_duration": {time.Hour, time.Hour, true, time.Minute},
		"returns_when_woken":     {time.Second, time.Hour, true, time.Second},
		"ends_with_the_context":  {time.Hour, time.Second, false, time.Second},
		"ended_context_wins":     {time.Second, time.Second, false, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				wake, began := make(chan struct{}), time.Now()
				time.AfterFunc(test.endAfter, cancel)
				end := time.AfterFunc(test.wakeAfter, func() {
					if test.wakeAfter == test.endAfter {
						<-ctx.Done()
					}
					close(wake)
				})
				defer end.Stop()
				require.Equal(t, test.slept, SleepOrWake(ctx, time.Minute, wake))
				require.Equal(t, test.took, time.Since(began))
			})
		})
	}
}

func TestDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		caller, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		ctx, release := Detached(caller)
		defer release()
		cancel()
		require.NoError(t, ctx.Err(), "it outlives its caller")
		require.Equal(t, "value", ctx.Value(key{}))
		began := time.Now()
		<-ctx.Done()
		require.Equal(t, detachedTimeout, time.Since(began))
	})
}

func TestBackoff(t *testing.T) {
	backoff := Backoff{Shortest: 5 * time.Second, Longest: 4 * time.Minute}
	t.Run("doubles_to_the_longest", func(t *testing.T) {
		for attempts, want := range []time.Duration{5, 10, 20, 40, 80, 160, 240, 240} {
			require.Equal(t, want*time.Second, backoff.Exact(attempts))
		}
		require.Equal(t, backoff.Longest, backoff.Exact(1<<30), "it does not overflow")
	})
	t.Run("is_spread_over_the_upper_half", func(t *testing.T) {
		seen := make(map[time.Duration]bool)
		for range 200 {
			pause := backoff.Jittered(2)
			require.GreaterOrEqual(t, pause, 10*time.Second)
			require.LessOrEqual(t, pause, 20*time.Second)
			seen[pause] = true
		}
		require.Greater(t, len(seen), 100)
	})
}

func TestRecover(t *testing.T) {
	var log strings.Builder
	logger := hclog.New(&hclog.LoggerOptions{Output: &log})
	t.Run("returns_the_type_and_not_the_value", func(t *testing.T) {
		err := Contain(logger, "the test", func() { panic("a secret") })
		var panicked *PanicError
		require.ErrorAs(t, err, &panicked)
		require.Equal(t, "the test failed (string); the engine's log has the stack", err.Error())
		require.Contains(t, log.String(), "TestRecover")
		require.NotContains(t, log.String(), "a secret")
	})
	t.Run("no_panic_is_no_error", func(t *testing.T) {
		require.NoError(t, Contain(logger, "the test", func() {}))
	})
	t.Run("keeps_running_after_a_pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			runs, began := 0, time.Now()
			KeepRunning(t.Context(), logger, "the test", func() {
				if runs++; runs < 3 {
					panic(runs)
				}
			})
			require.Equal(t, 3, runs)
			require.Equal(t, 2*panicPause, time.Since(began))
		})
	})
}

// startLoop returns the moments since now at which the work of a loop was done. The loop ends with
// the test.
func startLoop(t *testing.T, options LoopOptions) (loop *Loop, runs *[]time.Duration) {
	t.Helper()
	began, work := time.Now(), options.RunOnce
	runs = new([]time.Duration)
	options.Name, options.Logger = "the test", hclog.NewNullLogger()
	options.RunOnce = func(ctx context.Context) time.Time {
		*runs = append(*runs, time.Since(began))
		return work(ctx)
	}
	loop = NewLoop(options)
	loop.Start()
	t.Cleanup(loop.Stop)
	synctest.Wait()
	return loop, runs
}

func idle(context.Context) time.Time { return time.Time{} }

// elapse lets time pass, and what is due then be done.
func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestLoop(t *testing.T) {
	const step = time.Second
	for name, test := range map[string]func(t *testing.T){
		"runs_at_once_and_after_the_interval": func(t *testing.T) {
			_, runs := startLoop(t, LoopOptions{Interval: time.Hour, RunOnce: idle})
			elapse(2*time.Hour + step)
			require.Equal(t, []time.Duration{0, time.Hour, 2 * time.Hour}, *runs)
		},
		"runs_when_due_but_no_later_than_the_interval": func(t *testing.T) {
			pauses := []time.Duration{time.Minute, 2 * time.Hour, -time.Minute}
			_, runs := startLoop(t, LoopOptions{Interval: time.Hour, RunOnce: func(context.Context) time.Time {
				if len(pauses) == 0 {
					return time.Time{}
				}
				next := time.Now().Add(pauses[0])
				pauses = pauses[1:]
				return next
			}})
			elapse(time.Minute + time.Hour + 2*shortestPause)
			require.Equal(t, []time.Duration{0, time.Minute, time.Minute + time.Hour, time.Minute + time.Hour + shortestPause}, *runs)
		},
		"runs_when_woken": func(t *testing.T) {
			loop, runs := startLoop(t, LoopOptions{Interval: time.Hour, RunOnce: idle})
			elapse(step)
			loop.Wake()
			elapse(step)
			require.Equal(t, []time.Duration{0, step}, *runs)
		},
		"runs_again_when_woken_during_a_run": func(t *testing.T) {
			loop, runs := startLoop(t, LoopOptions{Interval: time.Hour, RunOnce: func(ctx context.Context) time.Time {
				Sleep(ctx, 10*step)
				return time.Time{}
			}})
			loop.Wake()
			loop.Wake()
			elapse(time.Minute)
			require.Equal(t, []time.Duration{0, 10 * step}, *runs)
		},
		"is_woken_when_late_only": func(t *testing.T) {
			loop, runs := startLoop(t, LoopOptions{Interval: time.Hour, RunOnce: idle})
			loop.WakeIfLate()
			synctest.Wait()
			require.Len(t, *runs, 1)
			loop.mu.Lock()
			loop.next = time.Now().Add(-time.Second) // the machine has slept, and the timer with it
			loop.mu.Unlock()
			loop.WakeIfLate()
			synctest.Wait()
			require.Len(t, *runs, 2)
		},
		"bounds_a_run": func(t *testing.T) {
			var took []time.Duration
			startLoop(t, LoopOptions{Interval: time.Hour, Timeout: time.Minute, RunOnce: func(ctx context.Context) time.Time {
				began := time.Now()
				<-ctx.Done()
				took = append(took, time.Since(began))
				return time.Time{}
			}})
			elapse(time.Minute + step)
			require.Equal(t, []time.Duration{time.Minute}, took)
		},
		"goes_on_after_panics_with_growing_pauses": func(t *testing.T) {
			_, runs := startLoop(t, LoopOptions{Interval: time.Minute, RunOnce: func(context.Context) time.Time { panic("a secret") }})
			elapse(2*time.Minute + 11*step)
			require.Equal(t, []time.Duration{0, 10 * step, 30 * step, 70 * step, 130 * step}, *runs)
		},
		"stops_and_waits_for_the_run": func(t *testing.T) {
			ended := false
			loop, runs := startLoop(t, LoopOptions{Interval: time.Hour, RunOnce: func(ctx context.Context) time.Time {
				<-ctx.Done()
				time.Sleep(step)
				ended = true
				return time.Time{}
			}})
			require.True(t, loop.Running())
			loop.Stop()
			require.True(t, ended)
			require.False(t, loop.Running())
			loop.Start()
			loop.Wake()
			synctest.Wait()
			require.Len(t, *runs, 1, "a stopped loop does not start")
		},
		"starts_once": func(t *testing.T) {
			loop, runs := startLoop(t, LoopOptions{Interval: time.Hour, RunOnce: idle})
			loop.Start()
			synctest.Wait()
			require.Len(t, *runs, 1)
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}
