/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#define MLC_DECIMAL_MAX 24

/* Numbers that decide are written as decimal strings of 9 significant digits: 0.951 is
 * "0.951000000", 12.5 "12.5000000", 0 "0.00000000", 1e-5 "1.00000000e-05". d is finite. */
void mlc_decimal(double d, char ret[MLC_DECIMAL_MAX]);
/* What mlc_decimal wrote, or any finite decimal number; asserts that it is one (for strings that
 * were validated before). */
double mlc_decimal_value(const char *s);
