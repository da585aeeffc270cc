// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// process is one that runs now.
type process struct{ pid, parent int }

// processesOf finds the processes that run a program, as Linux shows them under /proc. One that
// ends meanwhile is left out.
func processesOf(program string) []process {
	links, _ := filepath.Glob("/proc/[0-9]*/exe") // the pattern is well formed
	var found []process
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != program {
			continue
		}
		if one, err := readProcess(filepath.Dir(link)); err == nil {
			found = append(found, one)
		}
	}
	return found
}

// readProcess reads "pid (name) state parent ...", where the name may hold anything.
func readProcess(folder string) (process, error) {
	pid, err := strconv.Atoi(filepath.Base(folder))
	if err != nil {
		return process{}, err
	}
	stat, err := os.ReadFile(filepath.Join(folder, "stat"))
	if err != nil {
		return process{}, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return process{}, fmt.Errorf("%s/stat is not understood: %q", folder, stat)
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return process{pid: pid, parent: parent}, err
}

// childrenOf narrows processes down to those that one process has started.
func childrenOf(parent int, among []process) []process {
	var children []process
	for _, one := range among {
		if one.parent == parent {
			children = append(children, one)
		}
	}
	return children
}
