/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * SipHash-2-4 (Aumasson and Bernstein 2012): who does not know the key cannot choose inputs that
 * collide. For hash tables whose keys others choose; not a message digest.
 */
uint64_t mlc_siphash(const uint64_t key[2], const void *data, size_t len);
