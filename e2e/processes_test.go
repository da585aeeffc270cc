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

// process is a running process.
type process struct{ pid, parent int }

// processesOf finds the processes of a program under Linux's /proc, without those that end during
// the search.
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

// readProcess reads "pid (name) state parent ...", where the name may contain anything.
func readProcess(dir string) (process, error) {
	pid, err := strconv.Atoi(filepath.Base(dir))
	if err != nil {
		return process{}, err
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return process{}, fmt.Errorf("%s/stat is not understood: %q", dir, stat)
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return process{pid: pid, parent: parent}, err
}

// childrenOf returns those processes that the parent has started.
func childrenOf(parent int, among []process) []process {
	var children []process
	for _, one := range among {
		if one.parent == parent {
			children = append(children, one)
		}
	}
	return children
}
