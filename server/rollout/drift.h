/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "codec/json.h"
#include "materialise.h"

/*
 * What an inference server really has, against what was approved. Three questions to one instance:
 * what does it list, is each expected version ready, and what lies in its repository, hashed. None
 * of them is a proof alone: MLServer lists what lies on disk and not what is in memory, Triton the
 * reverse. What none of them can see: a model in memory whose folder was swapped and put back.
 */
struct drift_expected {
        struct mlc_serving_model model; /* name, model, version, digest */
        struct mlc_digest tree; /* from mat_make or mat_expected */
        bool unknown; /* no tree yet: its folder is only just being made, or there is none */
        bool optional; /* on its way in or out: may be there or not */
};

struct drift_in {
        const struct mlc_serving_ops *ops;
        const struct mlc_serving_call *call;
        const struct mat_place *place; /* NULL: the instance has no repository */
        struct mat_cache *cache; /* NULL: read every byte */
        const struct drift_expected *expected;
        size_t n_expected;
        const struct mlc_serving_model *retired; /* once loaded there; must not be ready any more */
        size_t n_retired;
};

/* Answers to those questions; everything in the arena. */
struct drift_seen {
        struct mlc_serving_result listing; /* how asking for the list went */
        struct mlc_serving_list list; /* when that is ok */
        struct mlc_serving_result *ready; /* of each expected version */
        struct mlc_serving_result *retired; /* of each retired one */
        struct mat_found *found;
        size_t n_found;
        char repository[256]; /* "", or why the folder could not be read */
};

/* Asks. MLC_E_LIMIT when the arena is full; whatever the server or the disk do is an answer. */
int drift_look(const struct drift_in *in, struct mlc_arena *a, struct drift_seen *ret,
               struct mlc_err *err) MLC_CHECK;
/*
 * Compares; pure. An array, sorted by name, of
 *   {"instance": URL, "name": server-side name|null, "model": "ns/model"|null, "version": N|null,
 *    "digest": found|null, "expected": digest|null, "state", "reason": text|null}
 * state: ok; missing (expected, but not ready or its folder is gone); changed (its folder is not
 * what was approved); unapproved (there, though nobody approved it); unreachable (not known).
 * Optional versions that are not there are left out.
 */
json_t *drift_compare(const struct drift_in *in, const struct drift_seen *seen);
/* Every state is ok. */
bool drift_clean(const json_t *report);
