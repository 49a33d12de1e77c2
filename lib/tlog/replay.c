/* SPDX-License-Identifier: Apache-2.0 */
#include "tlog/replay.h"

#include <assert.h>

#include "base/cleanup.h"
#include "base/map.h"

#define KINDS_MAX 32

struct object {
        struct mlc_digest digest;
        uint64_t last; /* index of the leaf that set it */
        bool gone; /* that leaf removed it */
        bool seen; /* a row was compared */
};

struct mlc_replay {
        struct mlc_map objects; /* "kind id" -> struct object */
        char origin[MLC_KEY_NAME_MAX + 1];
        uint64_t next;
        struct mlc_replay_key keys[MLC_REPLAY_KEYS_MAX];
        size_t n_keys;
        struct mlc_map kinds; /* listed ones */
        char kind_names[KINDS_MAX][MLC_LEAF_KIND_MAX + 1];
        size_t n_kinds;
        struct mlc_tlog_finding first; /* difference of the lowest index */
        bool differs;
        bool partial; /* the log before this one is not known */
        bool unaccounted; /* `first` is a row without a leaf: its index is the size */
};

struct mlc_replay *mlc_replay_new(void)
{
        struct mlc_replay *r = calloc(1, sizeof(*r));

        if (r == NULL)
                abort();
        mlc_map_init(&r->objects);
        mlc_map_init(&r->kinds);
        return r;
}

void mlc_replay_free(struct mlc_replay **r)
{
        if (*r == NULL)
                return;
        mlc_map_done(&(*r)->objects, free);
        mlc_map_done(&(*r)->kinds, NULL);
        free(TAKE_PTR(*r));
}

#define KEY_MAX (MLC_LEAF_KIND_MAX + 1 + MLC_LEAF_ID_MAX + 1)

static bool object_key(const char *kind, const char *id, char ret[KEY_MAX])
{
        int n = snprintf(ret, KEY_MAX, "%s %s", kind, id);

        return n > 0 && n < KEY_MAX;
}

/* The rotation's note: the old key vouches for the new one. */
static int check_rotation(const struct mlc_replay *r, const struct mlc_leaf *l,
                          const char *new_vkey, struct mlc_err *err)
{
        const struct mlc_vkeys old = {&r->keys[r->n_keys - 1].vkey, 1};
        _cleanup_(mlc_str_done) struct mlc_str want;
        const char *text = NULL;
        struct mlc_note note;
        int code;

        mlc_str_init(&want, 4096);
        code = mlc_json_get_str(l->detail, "/detail", "note", &text, err);
        if (code < 0)
                return code;
        code = mlc_note_open(text, strlen(text), &old, &note, err);
        if (code < 0)
                return mlc_wrap(err, "the rotation of the log's key");
        mlc_str_addf(&want, MLC_LOG_ROTATE_TYPE "\n%s\n%s\n", l->origin, new_vkey);
        if (note.text_len != want.len || memcmp(note.text, want.data, want.len) != 0)
                return mlc_fail(err, MLC_E_VERIFY,
                                "the old key of the log did not sign the new one");
        return 0;
}

/* Keys of a leaf of kind log: those that we know, and at most one more at the end. */
static int log_leaf(struct mlc_replay *r, uint64_t index, const struct mlc_leaf *l,
                    struct mlc_err *err)
{
        const json_t *keys = json_object_get(l->state, "keys");
        struct mlc_vkey vkey;
        const char *s;
        int code;

        if (!mlc_streq(l->id, r->origin) || !json_is_array(keys))
                return mlc_fail(err, MLC_E_VERIFY, "not a state of this log");
        if (json_array_size(keys) != r->n_keys + 1 || r->n_keys == MLC_REPLAY_KEYS_MAX)
                return mlc_fail(err, MLC_E_VERIFY, "the keys of the log change without rotation");
        for (size_t i = 0; i <= r->n_keys; i++) {
                s = json_string_value(json_array_get(keys, i));
                code = s == NULL ? mlc_fail(err, MLC_E_INVALID, "a key of the log is no string")
                                 : mlc_vkey_parse(s, &vkey, err);
                if (code < 0)
                        return code;
                if (!mlc_streq(vkey.name, r->origin))
                        return mlc_fail(err, MLC_E_VERIFY, "a key of the log has another name");
                if (i < r->n_keys && memcmp(vkey.pub, r->keys[i].vkey.pub, sizeof(vkey.pub)) != 0)
                        return mlc_fail(err, MLC_E_VERIFY, "an old key of the log was replaced");
        }
        code = r->n_keys == 0 ? 0 : check_rotation(r, l, s, err);
        if (code < 0)
                return code;
        r->keys[r->n_keys].vkey = vkey;
        r->keys[r->n_keys++].from = index;
        return 0;
}

static int check_before(const struct mlc_replay *r, const struct object *o,
                        const struct mlc_leaf *l, struct mlc_err *err)
{
        if (o == NULL || o->gone) {
                if (!l->has_before || (o == NULL && r->partial))
                        return 0;
                return mlc_fail(err, MLC_E_VERIFY,
                                "the leaf changes %s '%s', which no leaf before made", l->kind,
                                l->id);
        }
        if (l->has_before && mlc_digest_equal(&o->digest, &l->before))
                return 0;
        return mlc_fail(err, MLC_E_VERIFY,
                        "the leaf does not start from what leaf %llu made of %s '%s'",
                        (unsigned long long)o->last, l->kind, l->id);
}

static int fold_leaf(struct mlc_replay *r, uint64_t index, const struct mlc_leaf *l,
                     struct mlc_err *err)
{
        char key[KEY_MAX];
        struct object *o;
        int code;

        if (index == 0) {
                if (!mlc_streq(l->kind, MLC_REPLAY_KIND_LOG))
                        return mlc_fail(err, MLC_E_VERIFY, "the first leaf does not found the log");
                (void)snprintf(r->origin, sizeof(r->origin), "%s", l->origin);
                r->partial = r->objects.n == 0 &&
                             json_is_string(json_object_get(l->state, "predecessor"));
        }
        if (!mlc_streq(l->origin, r->origin))
                return mlc_fail(err, MLC_E_VERIFY, "the leaf is of another log, '%s'", l->origin);
        if (mlc_streq(l->kind, MLC_REPLAY_KIND_LOG)) {
                code = log_leaf(r, index, l, err);
                if (code < 0)
                        return code;
        }
        if (!object_key(l->kind, l->id, key))
                return mlc_fail(err, MLC_E_VERIFY, "the leaf's id is too long");
        o = mlc_map_get(&r->objects, key);
        code = check_before(r, o, l, err);
        if (code < 0)
                return code;
        if (o == NULL) {
                o = calloc(1, sizeof(*o));
                if (o == NULL)
                        abort();
                (void)mlc_map_set(&r->objects, key, o);
        }
        o->digest = l->after;
        o->gone = !l->has_after;
        o->last = index;
        return 0;
}

int mlc_replay_leaf(struct mlc_replay *r, uint64_t index, const void *leaf, size_t len,
                    struct mlc_err *err)
{
        _cleanup_(mlc_leaf_done) struct mlc_leaf l = {0};
        int code;

        assert(index == r->next);
        code = mlc_leaf_parse(leaf, len, &l, err);
        if (code == 0)
                code = fold_leaf(r, index, &l, err);
        if (code < 0) {
                (void)mlc_wrap(err, "leaf %llu", (unsigned long long)index);
                err->code = MLC_E_VERIFY;
                return MLC_E_VERIFY;
        }
        r->next++;
        return 0;
}

void mlc_replay_succeed(struct mlc_replay *r)
{
        size_t pos = 0;
        const char *key;
        void *o;

        /* the successor's first leaf carries them over */
        while (mlc_map_next(&r->objects, &pos, &key, &o))
                ((struct object *)o)->last = 0;
        r->next = 0;
        r->n_keys = 0;
        r->origin[0] = '\0';
}

bool mlc_replay_partial(const struct mlc_replay *r)
{
        return r->partial;
}

size_t mlc_replay_keys(const struct mlc_replay *r, const struct mlc_replay_key **ret)
{
        *ret = r->keys;
        return r->n_keys;
}

void mlc_replay_kind(struct mlc_replay *r, const char *kind)
{
        assert(r->n_kinds < KINDS_MAX && strlen(kind) <= MLC_LEAF_KIND_MAX);
        (void)snprintf(r->kind_names[r->n_kinds], sizeof(r->kind_names[0]), "%s", kind);
        (void)mlc_map_set(&r->kinds, kind, r->kind_names[r->n_kinds]);
        r->n_kinds++;
}

static void differ(struct mlc_replay *r, const struct object *o, const char *what, const char *key)
{
        const char *sp = strchr(key, ' ');
        int kind_len = (int)(sp - key);

        if (r->differs && (o == NULL || (!r->unaccounted && r->first.index <= o->last)))
                return;
        r->differs = true;
        r->unaccounted = o == NULL;
        r->first.index = o == NULL ? 0 : o->last;
        (void)snprintf(r->first.what, sizeof(r->first.what), "%.*s '%.200s' %s", kind_len, key,
                       sp + 1, what);
}

static bool row_digest(const char *state_json, struct mlc_digest *ret)
{
        _cleanup_(json_decref_p) json_t *state = NULL;
        struct mlc_err err = {0};

        return mlc_json_parse(state_json, strlen(state_json), &state, &err) == 0 &&
               mlc_leaf_state_digest(state, ret, &err) == 0;
}

void mlc_replay_row(struct mlc_replay *r, const char *kind, const char *id, const char *state_json)
{
        struct mlc_digest digest;
        char key[KEY_MAX];
        struct object *o;

        if (!object_key(kind, id, key) || mlc_map_get(&r->kinds, kind) == NULL) {
                (void)snprintf(key, sizeof(key), "%.*s ?", MLC_LEAF_KIND_MAX, kind);
                differ(r, NULL, "is of a kind that is not listed, or its id is too long", key);
                return;
        }
        o = mlc_map_get(&r->objects, key);
        if (o == NULL) {
                if (!r->partial)
                        differ(r, NULL, "is in the database, but no leaf made it", key);
                return;
        }
        if (o->gone)
                differ(r, o, "is in the database, but its last leaf removed it", key);
        else if (o->seen)
                differ(r, o, "is in the database twice", key);
        else if (!row_digest(state_json, &digest) || !mlc_digest_equal(&digest, &o->digest))
                differ(r, o, "is not in the database as its last leaf left it", key);
        o->seen = true;
}

int mlc_replay_finish(struct mlc_replay *r, uint64_t size, struct mlc_tlog_finding *finding,
                      struct mlc_err *err)
{
        char kind[MLC_LEAF_KIND_MAX + 1];
        const struct object *o;
        const char *key;
        size_t pos = 0;
        void *value;

        while (mlc_map_next(&r->objects, &pos, &key, &value)) {
                o = value;
                (void)snprintf(kind, sizeof(kind), "%.*s", (int)(strchr(key, ' ') - key), key);
                if (!o->gone && !o->seen && mlc_map_get(&r->kinds, kind) != NULL)
                        differ(r, o, "is gone from the database without a leaf", key);
                else if (!o->gone && mlc_map_get(&r->kinds, kind) == NULL)
                        differ(r, o, "is of a kind that is not listed", key);
        }
        if (!r->differs)
                return 0;
        return mlc_tlog_found(finding, r->unaccounted ? size : r->first.index, err, "%s",
                              r->first.what);
}
