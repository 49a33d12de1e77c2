/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * String-keyed hash map; keys are copied, values are the caller's. Not thread-safe. Aborts when
 * malloc fails; the caller bounds the number of entries.
 */
struct mlc_map {
        struct mlc_map_slot *slots;
        size_t n, n_slots;
        uint64_t seed[2]; /* of the hash, random for each map: keys may come from outside */
};

void mlc_map_init(struct mlc_map *m);
/* free_value may be NULL. */
void mlc_map_done(struct mlc_map *m, void (*free_value)(void *));
void *mlc_map_get(const struct mlc_map *m, const char *key); /* NULL when absent */
/* Returns the value replaced, or NULL. */
void *mlc_map_set(struct mlc_map *m, const char *key, void *value);
void *mlc_map_remove(struct mlc_map *m, const char *key);
/* Iterates in no order: start with *pos = 0; false at the end. The map must not change meanwhile.
 */
bool mlc_map_next(const struct mlc_map *m, size_t *pos, const char **ret_key, void **ret_value);
