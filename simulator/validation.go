// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import "fmt"

// KSeF answers a request whose fields are not valid with one error, which has one detail for each
// of them. The sentences are those of FluentValidation, as the official badRequestTest shows.

// badFields is the error for fields that do not pass validation, with one sentence for each.
func badFields(faults []string) *apiError {
	return &apiError{21405, "Błąd walidacji danych wejściowych.", faults}
}

func mustNotBeEmpty(field string) string {
	return fmt.Sprintf("'%s' must not be empty.", field)
}

// mustBeBetween returns a sentence where the value is outside of the range, else none.
func mustBeBetween(field string, value, least, most int) []string {
	if value >= least && value <= most {
		return nil
	}
	return []string{fmt.Sprintf("'%s' must be between %d and %d. You entered %d.", field, least, most, value)}
}

func mustNotBeNegative(field string, value *int) []string {
	if value == nil || *value >= 0 {
		return nil
	}
	return []string{fmt.Sprintf("'%s' must be greater than or equal to '0'.", field)}
}
