// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"strconv"
	"strings"

	"vault-plugin-secrets-ksef/simulator"
)

var errWindows = errors.New("use three numbers such as 60,-1,1000; -1 is no limit")

// parseWindows reads the most requests in any second, minute and hour.
func parseWindows(text string) (simulator.Windows, error) {
	numbers := strings.Split(text, ",")
	if len(numbers) != 3 {
		return simulator.Windows{}, errWindows
	}
	var limits [3]int
	for i, number := range numbers {
		limit, err := strconv.Atoi(number)
		if err != nil || limit == 0 {
			return simulator.Windows{}, errWindows
		}
		limits[i] = limit
	}
	return simulator.Windows{PerSecond: limits[0], PerMinute: limits[1], PerHour: limits[2]}, nil
}
