// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// fieldErrors are the invalid fields of a request. Like KSeF's validator, it reports all of them.
type fieldErrors []string

// refusal returns the error for a request with invalid fields, or nil.
func (f fieldErrors) refusal() *apiError {
	if len(f) == 0 {
		return nil
	}
	refused := badInput("%s", f[0])
	refused.Details = f
	return refused
}

func (f *fieldErrors) add(format string, arguments ...any) {
	*f = append(*f, fmt.Sprintf(format, arguments...))
}

// notEmpty, between and notNegative have the sentences of KSeF's validator (FluentValidation),
// because official tests look for them.
func (f *fieldErrors) notEmpty(field string) { f.add("'%s' must not be empty.", field) }

func (f *fieldErrors) between(field string, value, least, most int) {
	if value < least || value > most {
		f.add("'%s' must be between %d and %d. You entered %d.", field, least, most, value)
	}
}

// notNegative checks a number of the format int32 that may be left out.
func (f *fieldErrors) notNegative(field string, value *int) {
	switch {
	case value == nil:
	case *value < 0:
		f.add("'%s' must be greater than or equal to '0'.", field)
	case *value > math.MaxInt32:
		f.add("Pole %s ma nieprawidłowy typ.", field)
	}
}

func (f *fieldErrors) length(field, value string, least, most int) {
	if count := utf8.RuneCountInString(value); count < least || count > most {
		f.add("Pole %s musi mieć od %d do %d znaków.", field, least, most)
	}
}

func (f *fieldErrors) pattern(field, value string, pattern *regexp.Regexp) {
	if !pattern.MatchString(value) {
		f.add("Pole %s jest nieprawidłowe.", field)
	}
}

func (f *fieldErrors) oneOf(field, value string, known []string) {
	if !slices.Contains(known, value) {
		f.add("Pole %s ma nieznaną wartość %q.", field, value)
	}
}

func (f *fieldErrors) nip(field, value string) {
	if !ksef.ValidNIP(value) {
		f.add("Pole %s nie jest prawidłowym numerem NIP.", field)
	}
}

// distinct checks a list of distinct known values that must not be empty. It does not examine a
// list longer than the known values, because the time would grow with the square of its length.
func (f *fieldErrors) distinct(field string, values, known []string) {
	switch {
	case len(values) == 0:
		f.add("Pole %s musi zawierać co najmniej jedną wartość.", field)
	case len(values) > len(known):
		f.add("Pole %s może zawierać najwyżej %d wartości, każdą raz.", field, len(known))
		return
	}
	for i, value := range values {
		f.oneOf(fmt.Sprintf("%s[%d]", field, i), value, known)
		if slices.Contains(values[:i], value) {
			f.add("Pole %s zawiera wartość %q więcej niż raz.", field, value)
		}
	}
}

// identifier checks a required identifier of one of the types.
func (f *fieldErrors) identifier(field string, value *ksef.Identifier, types ...string) {
	switch {
	case value == nil:
		f.add("Pole %s jest wymagane.", field)
	case !slices.Contains(types, value.Type):
		f.add("Pole %s.type ma nieznaną wartość %q.", field, value.Type)
	case !value.Correct():
		f.add("Pole %s.value jest nieprawidłowe.", field)
	}
}

// moment reads an optional time. It refuses years that four digits in UTC cannot express, and the
// first year, which has the zero time.
func (f *fieldErrors) moment(field string, text *string) time.Time {
	if text == nil {
		return time.Time{}
	}
	read, err := time.Parse(time.RFC3339, *text)
	read = read.UTC()
	if year := read.Year(); err != nil || year < 2 || year > 9999 {
		f.add("Pole %s nie jest datą i godziną.", field)
	}
	return read
}
