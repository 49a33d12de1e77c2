/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Compares in time that depends on len only. */
bool mlc_ct_equal(const void *a, const void *b, size_t len);
/* Overwrites; the compiler does not remove it. */
void mlc_wipe(void *p, size_t len);
