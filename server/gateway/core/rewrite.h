/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The answer of an inference server (one JSON object) on its way to the client: says which model
 * answered, and puts the route's name and the version's number in place of the server's own. Works
 * on pieces of any size and keeps none of them. Syntax is checked as far as the structure goes:
 * strings, nesting, members of the outer object; not the form of numbers.
 */
#define GW_REWRITE_VALUE_MAX 256
#define GW_REWRITE_KEY_MAX 32
#define GW_REWRITE_DEPTH_MAX 64

struct gw_rewrite_rule {
        const char *name_key; /* "model_name" */
        const char *name_from; /* what must stand there */
        const char *name_to; /* without quotes */
        const char *version_key; /* "model_version" */
        const char *version_to; /* as JSON */
        bool name_needed;
        bool version_added; /* when the member is missing */
};

enum gw_rewrite_result {
        GW_REWRITE_OK,
        GW_REWRITE_WRONG, /* another model answered, or it does not say which */
        GW_REWRITE_BAD, /* no JSON object, or not a whole one */
};

struct gw_rewrite {
        struct gw_rewrite_rule rule; /* strings are borrowed */
        int state;
        bool bad, wrong, have_name, have_version, any_member;
        bool in_string, escaped; /* within a value */
        bool skipping; /* the value is replaced */
        bool naming; /* the value is the model's name */
        bool overflow;
        uint8_t key_len;
        uint16_t value_len;
        unsigned depth;
        uint64_t brackets; /* bit per level: [ or { */
        char key[GW_REWRITE_KEY_MAX];
        char value[GW_REWRITE_VALUE_MAX];
};

/* Gets what is to be sent, piece by piece: parts of the input of that call or of the rule. */
typedef void (*gw_emit_fn)(void *userdata, const char *data, size_t len);

void gw_rewrite_init(struct gw_rewrite *w, const struct gw_rewrite_rule *rule);
void gw_rewrite_feed(struct gw_rewrite *w, const char *in, size_t len, gw_emit_fn emit,
                     void *userdata);
/* Whether it is already known that the answer must not go to the client. */
bool gw_rewrite_failed(const struct gw_rewrite *w);
/* After the last piece. */
enum gw_rewrite_result gw_rewrite_end(const struct gw_rewrite *w);
