/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/siphash.h"

struct mlc_map_slot {
        char *key;
        void *value;
        uint64_t hash;
};

void mlc_map_init(struct mlc_map *m)
{
        *m = (struct mlc_map){0};
}

static uint64_t hash_of(const struct mlc_map *m, const char *key)
{
        return mlc_siphash(m->seed, key, strlen(key));
}

/* The slot that holds the key, or the free one where it goes. */
static size_t probe(const struct mlc_map *m, const char *key, uint64_t h)
{
        size_t i = h & (m->n_slots - 1);

        while (m->slots[i].key != NULL &&
               (m->slots[i].hash != h || strcmp(m->slots[i].key, key) != 0))
                i = (i + 1) & (m->n_slots - 1);
        return i;
}

void *mlc_map_get(const struct mlc_map *m, const char *key)
{
        if (m->n == 0)
                return NULL;
        return m->slots[probe(m, key, hash_of(m, key))].value;
}

static void grow(struct mlc_map *m)
{
        struct mlc_map bigger = *m;

        /* others choose the keys, so each map hashes in its own way */
        if (m->n_slots == 0 &&
            getrandom(bigger.seed, sizeof(bigger.seed), 0) != (ssize_t)sizeof(bigger.seed))
                abort();
        bigger.n_slots = m->n_slots == 0 ? 16 : m->n_slots * 2;
        bigger.slots = calloc(bigger.n_slots, sizeof(*bigger.slots));
        if (bigger.slots == NULL)
                abort();
        for (size_t i = 0; i < m->n_slots; i++)
                if (m->slots[i].key != NULL)
                        bigger.slots[probe(&bigger, m->slots[i].key, m->slots[i].hash)] =
                                m->slots[i];
        free(m->slots);
        *m = bigger;
}

void *mlc_map_set(struct mlc_map *m, const char *key, void *value)
{
        void *old;
        uint64_t h;
        size_t i;

        if ((m->n + 1) * 4 > m->n_slots * 3)
                grow(m);
        h = hash_of(m, key);
        i = probe(m, key, h);
        old = m->slots[i].value;
        if (m->slots[i].key == NULL) {
                m->slots[i].key = strdup(key);
                if (m->slots[i].key == NULL)
                        abort();
                m->slots[i].hash = h;
                m->n++;
        }
        m->slots[i].value = value;
        return old;
}

void *mlc_map_remove(struct mlc_map *m, const char *key)
{
        size_t i, j;
        void *old;

        if (m->n == 0)
                return NULL;
        i = probe(m, key, hash_of(m, key));
        if (m->slots[i].key == NULL)
                return NULL;
        old = m->slots[i].value;
        free(m->slots[i].key);
        m->slots[i] = (struct mlc_map_slot){0};
        m->n--;
        /* close the gap, so that probing never meets a hole inside a run */
        for (j = (i + 1) & (m->n_slots - 1); m->slots[j].key != NULL;
             j = (j + 1) & (m->n_slots - 1)) {
                struct mlc_map_slot s = m->slots[j];

                m->slots[j] = (struct mlc_map_slot){0};
                m->slots[probe(m, s.key, s.hash)] = s;
        }
        return old;
}

bool mlc_map_next(const struct mlc_map *m, size_t *pos, const char **ret_key, void **ret_value)
{
        for (; *pos < m->n_slots; (*pos)++)
                if (m->slots[*pos].key != NULL) {
                        *ret_key = m->slots[*pos].key;
                        *ret_value = m->slots[*pos].value;
                        (*pos)++;
                        return true;
                }
        return false;
}

void mlc_map_done(struct mlc_map *m, void (*free_value)(void *))
{
        for (size_t i = 0; i < m->n_slots; i++) {
                if (m->slots[i].key != NULL && free_value != NULL)
                        free_value(m->slots[i].value);
                free(m->slots[i].key);
        }
        free(m->slots);
        mlc_map_init(m);
}
