/* SPDX-License-Identifier: Apache-2.0 */
#include "tlog/leaf.h"

#include <assert.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "codec/jcs.h"
#include "crypto/hash.h"
#include "tlog/tile.h"

static const char *const members[] = {"type", "log",    "time",  "actor", "action", "kind",
                                      "id",   "before", "after", "state", "detail", NULL};

static bool is_word(const char *s, size_t max, char dot)
{
        size_t n = strlen(s), dots = 0;

        if (n == 0 || n > max || s[0] < 'a' || s[0] > 'z' || s[n - 1] == dot)
                return false;
        for (size_t i = 0; i < n; i++) {
                if (dot != '\0' && s[i] == dot)
                        dots++;
                else if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') ||
                           s[i] == '_' || s[i] == '-'))
                        return false;
        }
        return dot == '\0' || dots == 1;
}

static bool is_visible(const char *s, size_t max)
{
        size_t n = strlen(s);

        for (size_t i = 0; i < n; i++)
                if (s[i] < 0x21 || s[i] > 0x7e)
                        return false;
        return n > 0 && n <= max;
}

static int check_names(const struct mlc_leaf *l, struct mlc_err *err)
{
        if (!is_visible(l->origin, 255))
                return mlc_fail_field(err, MLC_E_INVALID, "/log", "not the name of a log");
        if (!is_word(l->actor, MLC_LEAF_ACTOR_MAX, '\0'))
                return mlc_fail_field(err, MLC_E_INVALID, "/actor", "not the id of an actor");
        if (!is_word(l->action, MLC_LEAF_ACTION_MAX, '.'))
                return mlc_fail_field(err, MLC_E_INVALID, "/action", "not an action, noun.verb");
        if (!is_word(l->kind, MLC_LEAF_KIND_MAX, '\0'))
                return mlc_fail_field(err, MLC_E_INVALID, "/kind", "not a kind");
        if (!is_visible(l->id, MLC_LEAF_ID_MAX))
                return mlc_fail_field(err, MLC_E_INVALID, "/id", "not an id");
        return 0;
}

static int check_time(struct mlc_leaf *l, struct mlc_err *err)
{
        char again[MLC_TIME_MAX];

        if (mlc_time_parse(l->time, &l->time_ms)) {
                mlc_time_format(l->time_ms, again);
                if (mlc_streq(again, l->time))
                        return 0;
        }
        return mlc_fail_field(err, MLC_E_INVALID, "/time",
                              "not a time as 2026-11-24T06:47:36.123Z");
}

static int get_digest(const json_t *doc, const char *key, bool *ret_has, struct mlc_digest *ret,
                      struct mlc_err *err)
{
        const json_t *v = json_object_get(doc, key);
        const char *s;
        int r;

        *ret_has = !json_is_null(v);
        if (json_is_null(v))
                return 0;
        r = mlc_json_get_str(doc, "", key, &s, err);
        if (r < 0)
                return r;
        return mlc_digest_parse(s, ret, err);
}

static int get_strings(struct mlc_leaf *l, struct mlc_err *err)
{
        const char *type;
        const struct {
                const char *key;
                const char **ret;
        } want[] = {{"type", &type},       {"log", &l->origin}, {"time", &l->time},
                    {"actor", &l->actor},  {"kind", &l->kind},  {"id", &l->id},
                    {"action", &l->action}};
        int r;

        for (size_t i = 0; i < ARRAY_LEN(want); i++) {
                r = mlc_json_get_str(l->doc, "", want[i].key, want[i].ret, err);
                if (r < 0)
                        return r;
        }
        if (!mlc_streq(type, MLC_LEAF_TYPE))
                return mlc_fail_field(err, MLC_E_INVALID, "/type", "not '" MLC_LEAF_TYPE "'");
        return 0;
}

static int check_state(struct mlc_leaf *l, struct mlc_err *err)
{
        const json_t *state = json_object_get(l->doc, "state");
        struct mlc_digest d;
        int r;

        l->detail = json_object_get(l->doc, "detail");
        if (!json_is_object(l->detail))
                return mlc_fail_field(err, MLC_E_INVALID, "/detail", "not an object");
        if (json_is_null(state)) {
                if (l->has_after)
                        return mlc_fail_field(err, MLC_E_INVALID, "/state", "missing");
                return 0;
        }
        if (!json_is_object(state) || !l->has_after)
                return mlc_fail_field(err, MLC_E_INVALID, "/state", "does not fit \"after\"");
        r = mlc_leaf_state_digest(state, &d, err);
        if (r < 0)
                return r;
        if (!mlc_digest_equal(&d, &l->after))
                return mlc_fail_field(err, MLC_E_INVALID, "/after", "not the digest of the state");
        l->state = state;
        return 0;
}

static int check_members(struct mlc_leaf *l, struct mlc_err *err)
{
        int r;

        if (!json_is_object(l->doc))
                return mlc_fail(err, MLC_E_INVALID, "not an object");
        r = mlc_json_only(l->doc, "", members, err);
        if (r < 0)
                return r;
        if (json_object_size(l->doc) != ARRAY_LEN(members) - 1)
                return mlc_fail(err, MLC_E_INVALID, "a member is missing");
        r = get_strings(l, err);
        if (r < 0)
                return r;
        r = check_names(l, err);
        if (r < 0)
                return r;
        r = check_time(l, err);
        if (r < 0)
                return r;
        r = get_digest(l->doc, "before", &l->has_before, &l->before, err);
        if (r < 0)
                return r;
        r = get_digest(l->doc, "after", &l->has_after, &l->after, err);
        if (r < 0)
                return r;
        return check_state(l, err);
}

int mlc_leaf_parse(const void *data, size_t len, struct mlc_leaf *ret, struct mlc_err *err)
{
        _cleanup_(mlc_leaf_done) struct mlc_leaf l = {0};
        _cleanup_(mlc_str_done) struct mlc_str again;
        int r;

        mlc_str_init(&again, MLC_ENTRY_MAX);
        if (len > MLC_ENTRY_MAX)
                return mlc_fail(err, MLC_E_INVALID, "the leaf is longer than %u bytes",
                                MLC_ENTRY_MAX);
        r = mlc_json_parse(data, len, &l.doc, err);
        if (r < 0)
                return r;
        r = check_members(&l, err);
        if (r < 0)
                return r;
        r = mlc_jcs_signed(l.doc, &again, err);
        if (r < 0)
                return r;
        if (again.len != len || memcmp(again.data, data, len) != 0)
                return mlc_fail(err, MLC_E_INVALID, "the leaf is not in canonical form");
        *ret = l;
        l.doc = NULL;
        return 0;
}

void mlc_leaf_done(struct mlc_leaf *leaf)
{
        json_decref(leaf->doc);
        leaf->doc = NULL;
}

int mlc_leaf_state_digest(const json_t *state, struct mlc_digest *ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        int r;

        mlc_str_init(&text, MLC_ENTRY_MAX);
        r = mlc_jcs_signed(state, &text, err);
        if (r < 0)
                return r;
        mlc_sha256(text.data, text.len, ret);
        return 0;
}

static json_t *digest_or_null(const json_t *state, struct mlc_err *err)
{
        char text[MLC_DIGEST_STR];
        struct mlc_digest d;

        if (state == NULL)
                return json_null();
        if (mlc_leaf_state_digest(state, &d, err) < 0)
                return NULL;
        mlc_digest_format(&d, text);
        return json_string(text);
}

int mlc_leaf_build(const struct mlc_leaf_in *in, struct mlc_str *ret, struct mlc_err *err)
{
        _cleanup_(mlc_leaf_done) struct mlc_leaf l = {0};
        char time[MLC_TIME_MAX];
        int r;

        assert(ret->len == 0);
        mlc_time_format(in->time_ms, time);
        l.doc = json_pack("{ss,ss,ss,ss,ss,ss,ss,so*,so*,sO?,sO?}", "type", MLC_LEAF_TYPE, "log",
                          in->origin, "time", time, "actor", in->actor, "action", in->action,
                          "kind", in->kind, "id", in->id, "before", digest_or_null(in->before, err),
                          "after", digest_or_null(in->after, err), "state", in->after, "detail",
                          in->detail);
        if (err->code != 0)
                return err->code;
        if (l.doc != NULL && in->detail == NULL)
                (void)json_object_set_new(l.doc, "detail", json_object());
        if (l.doc == NULL)
                return mlc_fail(err, MLC_E_INVALID, "the leaf holds text that is not UTF-8");
        r = check_members(&l, err);
        if (r < 0)
                return r;
        r = mlc_jcs_signed(l.doc, ret, err);
        if (r < 0)
                return r;
        if (ret->len > MLC_ENTRY_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "the leaf of '%s' would be longer than %u bytes",
                                in->action, MLC_ENTRY_MAX);
        return 0;
}
