// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
)

// flow is one that a crash or a failed write can stop, with what must hold after it.
type flow struct {
	prepare func(e *env)
	do      func(e *env) error
	// settled is called when all has been finished.
	settled func(t *testing.T, e *env)
}

func crashFlows() map[string]flow {
	inForce := func(key Key) func(t *testing.T, e *env) {
		return func(t *testing.T, e *env) {
			number := e.number(key)
			require.Equal(t, []string{number}, e.ledger.alive())
		}
	}
	apply := func(e *env) { e.mustApply(static) }
	gone := func(t *testing.T, e *env) {
		require.Empty(t, e.ledger.alive())
		require.Nil(t, e.stored(static))
	}
	var imported string
	return map[string]flow{
		"first": {
			do:      func(e *env) error { _, err := e.Token(e.t.Context(), access); return err },
			settled: inForce(access),
		},
		"apply": {
			prepare: func(e *env) {
				apply(e)
				e.write(static, func(spec *Spec) { spec.Fingerprint = "write" })
			},
			do:      func(e *env) error { _, err := e.Apply(e.t.Context(), static); return err },
			settled: inForce(static),
		},
		"rotate": {
			prepare: apply,
			do: func(e *env) error {
				_, err := e.Rotate(e.t.Context(), static, RotateOptions{RevokePrevious: true})
				return err
			},
			settled: inForce(static),
		},
		"replace": {
			prepare: func(e *env) {
				apply(e)
				e.ledger.setStatus("token-1", client.StatusRevoked)
			},
			do: func(e *env) error {
				_, err := e.Replace(e.t.Context(), static, Dead{ReferenceNumber: "token-1"})
				return err
			},
			settled: func(t *testing.T, e *env) {
				e.elapse(replaceInterval)
				inForce(static)(t, e)
			},
		},
		"import": {
			do: func(e *env) error {
				request := e.imported()
				imported = request.ReferenceNumber
				_, err := e.Import(e.t.Context(), static, request)
				return err
			},
			settled: func(t *testing.T, e *env) {
				require.Equal(t, client.StatusActive, e.ledger.find(imported).status, "a token in use elsewhere is not revoked")
			},
		},
		"import_beside_one_in_force": {
			prepare: apply,
			do:      func(e *env) error { _, err := e.Import(e.t.Context(), static, e.imported()); return err },
			settled: func(t *testing.T, e *env) {
				require.Equal(t, client.StatusActive, e.ledger.find("token-2").status)
				require.Equal(t, 1, e.ledger.count("issue"))
			},
		},
		"delete": {
			prepare: apply,
			do: func(e *env) error {
				if _, err := e.Delete(e.t.Context(), static, false); err != nil {
					return err
				}
				e.write(static, nil)
				return nil
			},
			settled: func(t *testing.T, e *env) {
				if e.spec(static) == nil || e.stored(static) == nil {
					gone(t, e)
				}
			},
		},
		"keep": {
			prepare: apply,
			do:      func(e *env) error { _, err := e.Delete(e.t.Context(), static, true); return err },
			settled: func(t *testing.T, e *env) {
				require.Equal(t, client.StatusActive, e.ledger.find("token-1").status)
			},
		},
		"role_gone": {
			prepare: apply,
			do: func(e *env) error {
				e.write(static, nil)
				e.Invalidate()
				synctest.Wait()
				return nil
			},
			settled: gone,
		},
		"unused": {
			prepare: func(e *env) { e.number(access) },
			do: func(e *env) error {
				return e.MarkUnused(e.t.Context(), access, time.Now().Add(-unusedLife))
			},
			settled: func(t *testing.T, e *env) { require.LessOrEqual(t, len(e.ledger.alive()), 1) },
		},
	}
}

// TestCrash stops each flow at each of its writes: before or after the write, with the process or
// without. Afterwards exactly the tokens live that the states name.
func TestCrash(t *testing.T) {
	for name, flow := range crashFlows() {
		for _, crash := range []bool{true, false} {
			for _, written := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/crash=%t_written=%t", name, crash, written), func(t *testing.T) {
					for at := 1; stopAt(t, flow, at, crash, written); at++ {
						require.Less(t, at, 20, "it ends")
					}
				})
			}
		}
	}
}

// stopAt returns false where the flow has fewer writes.
func stopAt(t *testing.T, flow flow, at int, crash, written bool) (stopped bool) {
	t.Helper()
	bubble(t, func(t *testing.T, e *env) {
		if flow.prepare != nil {
			flow.prepare(e)
		}
		e.disk.mu.Lock()
		e.disk.writes, e.disk.written = 0, written
		if crash {
			e.disk.crashAt = at
		} else {
			e.disk.failAt = at
		}
		e.disk.mu.Unlock()
		err := flow.do(e)
		e.elapse(time.Second)
		e.disk.mu.Lock()
		stopped = e.disk.writes >= at
		e.disk.mu.Unlock()
		if !stopped {
			require.NoError(t, err)
		}
		if crash {
			e.restart()
		}
		e.elapse(2 * time.Hour)
		flow.settled(t, e)
		e.elapse(2 * time.Hour)
		e.requireSettled()
	})
	return stopped
}
