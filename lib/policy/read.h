/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "codec/json.h"

/*
 * Members of an object that a person wrote, checked and copied to its normalised form. Each reader
 * takes one key, writes `out` (under the key, or KEY_ms for durations) and fails with the pointer
 * of the member at fault and what to write instead. A null value counts as left out.
 */
struct pol_in {
        const json_t *obj;
        const char *at; /* its JSON pointer */
        json_t *out;
};

#define POL_TEXT_MAX 512

/* A further rule for a text: 0, or fails without field. */
typedef int pol_rule(const char *s, struct mlc_err *err);

static inline void pol_map_done(struct mlc_map *m)
{
        mlc_map_done(m, NULL);
}

int pol_fail(const struct pol_in *in, const char *key, struct mlc_err *err, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
/* The value must be an object with these keys only (NULL-terminated); `later` (may be NULL) are
 * those to be supported some day. */
int pol_only(const struct pol_in *in, const char *const *keys, const char *const *later,
             struct mlc_err *err) MLC_CHECK;
bool pol_has(const struct pol_in *in, const char *key);

int pol_need(const struct pol_in *in, const char *key, struct mlc_err *err) MLC_CHECK;
/* Left out: null. */
int pol_text(const struct pol_in *in, const char *key, pol_rule *rule,
             struct mlc_err *err) MLC_CHECK;
int pol_enum(const struct pol_in *in, const char *key, const char *const *values,
             const char *otherwise, struct mlc_err *err) MLC_CHECK;
/* 30d, 24h; left out: null. */
int pol_duration(const struct pol_in *in, const char *key, struct mlc_err *err) MLC_CHECK;
int pol_int(const struct pol_in *in, const char *key, const int64_t range[2], int64_t otherwise,
            struct mlc_err *err) MLC_CHECK;

struct pol_range {
        double lo, hi;
        bool open_lo, open_hi; /* the end itself is not allowed */
};
/* 0.02 or 2%; otherwise NULL: null when left out. */
int pol_number(const struct pol_in *in, const char *key, const struct pol_range *range,
               const char *otherwise, struct mlc_err *err) MLC_CHECK;
/* A list of different texts, left out: []. */
int pol_texts(const struct pol_in *in, const char *key, pol_rule *rule, size_t max,
              struct mlc_err *err) MLC_CHECK;
/* An object of texts (numbers and booleans become texts), left out: {}. */
int pol_labels(const struct pol_in *in, const char *key, size_t max, struct mlc_err *err) MLC_CHECK;
/* A list of objects, each read by `read` into a new object; left out: []. */
typedef int pol_item(const struct pol_in *in, struct mlc_err *err);
int pol_items(const struct pol_in *in, const char *key, pol_item *read, size_t max,
              struct mlc_err *err) MLC_CHECK;
/* One object; left out: null. */
int pol_object(const struct pol_in *in, const char *key, pol_item *read,
               struct mlc_err *err) MLC_CHECK;

/* Every item of the list in->out[key] has another value of `id`. */
int pol_distinct(const struct pol_in *in, const char *key, const char *id,
                 struct mlc_err *err) MLC_CHECK;

/* Rules. */
int pol_plain(const char *s, struct mlc_err *err); /* visible text of 1 to POL_TEXT_MAX bytes */
int pol_id(const char *s, struct mlc_err *err); /* [a-z0-9] and [a-z0-9_.-], at most 63 */
int pol_name(const char *s, struct mlc_err *err); /* of a document */
int pol_owner(const char *s, struct mlc_err *err); /* user:NAME, group:NAME */
int pol_member(const char *s, struct mlc_err *err); /* user:NAME */
int pol_principal(const char *s, struct mlc_err *err); /* role:, group:, user: */
int pol_dataset(const char *s, struct mlc_err *err); /* NAME or NAME@SCHEME:VALUE */
int pol_metric(const char *s, struct mlc_err *err);
int pol_url(const char *s, struct mlc_err *err); /* http(s), without user name and query */

/* The kinds: everything but apiVersion and kind, which are read already. */
pol_item pol_read_environment, pol_read_policy, pol_read_model, pol_read_group;
/* One check and one approval rule of a policy; the plan of a rollout. */
pol_item pol_read_check, pol_read_approval, pol_read_rollout;
