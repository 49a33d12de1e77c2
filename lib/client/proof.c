/* SPDX-License-Identifier: Apache-2.0 */
#include "client/proof.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "codec/hex.h"

#define VKEYS_MAX ((size_t)64 << 10)
#define POLL_MS 100

/* Reading */

static int get_text(struct mlc_client *c, const char *path, size_t max, char **ret,
                    struct mlc_err *err)
{
        const struct mlc_request req = {.method = "GET", .path = path, .reply_max = max};
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        int r = mlc_client_do(c, &req, &res, err);

        if (r < 0)
                return r;
        if (memchr(mlc_str_cstr(&res.body), '\0', res.body.len) != NULL)
                return mlc_fail(err, MLC_E_VERIFY, "%s of %s is no text", path, mlc_client_url(c));
        *ret = mlc_str_take(&res.body);
        if (*ret == NULL)
                *ret = strdup("");
        if (*ret == NULL)
                abort();
        return 0;
}

static int http_read(void *userdata, const char *path, size_t max, struct mlc_tlog_file *ret,
                     struct mlc_err *err)
{
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        char full[MLC_TILE_PATH_MAX + 8];
        const struct mlc_request req = {.method = "GET", .path = full, .reply_max = max};
        int r;

        (void)snprintf(full, sizeof(full), "/log/%s", path);
        r = mlc_client_do(userdata, &req, &res, err);
        if (r < 0)
                return r;
        ret->len = res.body.len;
        ret->data = mlc_str_take(&res.body);
        if (ret->data == NULL)
                ret->data = strdup("");
        if (ret->data == NULL)
                abort();
        return 0;
}

struct mlc_tlog_source mlc_log_source(struct mlc_client *c)
{
        return (struct mlc_tlog_source){.read = http_read, .userdata = c};
}

struct mlc_vkeys mlc_log_keys(const struct mlc_log *l)
{
        return (struct mlc_vkeys){l->pin.keys, l->pin.n_keys};
}

/* Checkpoints */

int mlc_log_compare(const struct mlc_tlog_source *src, const char *url,
                    const struct mlc_checkpoint *seen, const struct mlc_checkpoint *now,
                    struct mlc_err *err)
{
        _cleanup_(free_p) struct mlc_tlog_hashes *hashes = NULL;
        struct mlc_merkle_consistency c = {seen->size, now->size, seen->root, now->root, NULL, 0};
        struct mlc_merkle_source tree;
        struct mlc_merkle_proof proof;
        struct mlc_err why = {0};
        int r;

        if (now->size < seen->size)
                return mlc_fail(err, MLC_E_VERIFY,
                                "the log at %s is shorter than the one seen before (%llu entries, "
                                "%llu seen)",
                                url, (unsigned long long)now->size, (unsigned long long)seen->size);
        if (seen->size == 0)
                return 0;
        if (now->size == seen->size && mlc_digest_equal(&now->root, &seen->root))
                return 0;
        if (now->size > seen->size) {
                hashes = calloc(1, sizeof(*hashes));
                if (hashes == NULL)
                        abort();
                hashes->src = *src;
                hashes->size = now->size;
                tree = mlc_tlog_merkle_source(hashes);
                r = mlc_merkle_prove_consistency(&tree, seen->size, now->size, &proof, &why);
                if (r == MLC_E_UNREACHABLE || r == MLC_E_UNAVAILABLE)
                        return mlc_fail(err, r, "%s", why.msg);
                c.proof = proof.h;
                c.n_proof = proof.n;
                if (r == 0 && mlc_merkle_check_consistency(&c, &why) == 0)
                        return 0;
        }
        return mlc_fail(err, MLC_E_VERIFY,
                        "the log at %s is forked: it has another history than the one seen before "
                        "(%llu entries%s%s)",
                        url, (unsigned long long)seen->size, why.code != 0 ? "; " : "", why.msg);
}

/* Verifies the note and makes it the checkpoint that counts. Under the pin's lock. */
static int accept_note(struct mlc_log *l, char **note, struct mlc_err *err)
{
        const char *url = mlc_client_url(l->client);
        const struct mlc_tlog_source src = mlc_log_source(l->client);
        struct mlc_checkpoint now;
        struct mlc_err why = {0};
        int r;

        r = mlc_checkpoint_open(*note, strlen(*note), &l->pin.keys[0], &now, &why);
        if (r < 0)
                return mlc_fail(
                        err, MLC_E_VERIFY,
                        "the checkpoint of the log at %s is not signed by the pinned key: %s", url,
                        why.msg);
        r = mlc_log_compare(&src, url, &l->pin.seen, &now, err);
        if (r < 0)
                return r;
        if (now.size == l->pin.seen.size && l->pin.note != NULL)
                return 0;
        free(l->pin.note);
        l->pin.note = TAKE_PTR(*note);
        l->pin.seen = now;
        return l->forget ? 0 : mlc_pin_save(&l->pin, url, err);
}

static bool same_text(const char *a, const char *b)
{
        return (a == NULL) == (b == NULL) && (a == NULL || strcmp(a, b) == 0);
}

/* What another process saw meanwhile counts as well. */
static int reload(struct mlc_log *l, struct mlc_err *err)
{
        struct mlc_pin fresh = {0};
        char dir[PATH_MAX];
        int r;

        (void)snprintf(dir, sizeof(dir), "%s", l->pin.file);
        *strrchr(dir, '/') = '\0';
        r = mlc_pin_load(dir, mlc_client_url(l->client), &fresh, err);
        if (r < 0)
                return r;
        if (fresh.n_keys > 0 && !mlc_vkey_equal(&fresh.keys[0], &l->pin.keys[0])) {
                mlc_pin_done(&fresh);
                return mlc_fail(err, MLC_E_VERIFY, "another process pinned another key for %s",
                                mlc_client_url(l->client));
        }
        if (fresh.n_keys > 0 && !same_text(fresh.note, l->pin.note)) {
                free(l->pin.note);
                l->pin.note = TAKE_PTR(fresh.note);
                l->pin.seen = fresh.seen;
        }
        mlc_pin_done(&fresh);
        return 0;
}

int mlc_log_refresh(struct mlc_log *l, struct mlc_err *err)
{
        _cleanup_(free_p) char *note = NULL;
        _cleanup_(close_fd) int lock = -1;
        struct mlc_err why = {0};
        int r;

        if (!l->forget) {
                r = mlc_pin_lock(&l->pin, &lock, err);
                if (r < 0)
                        return r;
                r = reload(l, err);
                if (r < 0)
                        return r;
        }
        r = get_text(l->client, "/log/checkpoint", MLC_NOTE_MAX, &note, &why);
        if (r == MLC_E_NOT_FOUND && l->pin.seen.size == 0)
                return 0;
        if (r == MLC_E_NOT_FOUND)
                return mlc_fail(err, MLC_E_VERIFY,
                                "the log at %s is shorter than the one seen before (no checkpoint, "
                                "%llu entries seen)",
                                mlc_client_url(l->client), (unsigned long long)l->pin.seen.size);
        if (r < 0)
                return mlc_fail(err, r, "%s", why.msg);
        return accept_note(l, &note, err);
}

/* Opening */

static int read_served(struct mlc_log *l, struct mlc_err *err)
{
        _cleanup_(free_p) char *text = NULL;
        char *save = NULL;
        int r = get_text(l->client, "/log/vkey", VKEYS_MAX, &text, err);

        if (r < 0)
                return r;
        for (char *line = strtok_r(text, "\n", &save); line != NULL;
             line = strtok_r(NULL, "\n", &save)) {
                if (l->n_served == MLC_REPLAY_KEYS_MAX)
                        return mlc_fail(err, MLC_E_VERIFY, "the log at %s shows too many keys",
                                        mlc_client_url(l->client));
                r = mlc_vkey_parse(line, &l->served[l->n_served], err);
                if (r < 0) {
                        (void)mlc_wrap(err, "the key of the log at %s", mlc_client_url(l->client));
                        err->code = MLC_E_VERIFY;
                        return MLC_E_VERIFY;
                }
                l->n_served++;
        }
        if (l->n_served == 0)
                return mlc_fail(err, MLC_E_VERIFY, "the log at %s shows no key",
                                mlc_client_url(l->client));
        return 0;
}

static int pin_or_compare(struct mlc_log *l, struct mlc_err *err)
{
        char pinned[MLC_SSHKEY_FP], shown[MLC_SSHKEY_FP];

        if (l->pin.n_keys == 0) {
                l->pin.keys[0] = l->served[0];
                l->pin.n_keys = 1;
                l->first = true;
                return mlc_pin_save(&l->pin, mlc_client_url(l->client), err);
        }
        if (mlc_vkey_equal(&l->pin.keys[0], &l->served[0]))
                return 0;
        mlc_vkey_fingerprint(&l->pin.keys[0], pinned);
        mlc_vkey_fingerprint(&l->served[0], shown);
        return mlc_fail(err, MLC_E_VERIFY,
                        "the log at %s has another key than the pinned one: %s '%s' was pinned, it "
                        "shows %s '%s'; if whoever runs it confirms that in person, remove '%s'",
                        mlc_client_url(l->client), pinned, l->pin.keys[0].name, shown,
                        l->served[0].name, l->pin.file);
}

int mlc_log_open(struct mlc_client *c, const char *state_dir, struct mlc_log *ret,
                 struct mlc_err *err)
{
        struct mlc_log l = {.client = c};
        int r = read_served(&l, err);

        if (r < 0)
                return r;
        r = mlc_pin_load(state_dir, mlc_client_url(c), &l.pin, err);
        if (r < 0)
                return r;
        r = pin_or_compare(&l, err);
        if (r == 0)
                r = mlc_log_refresh(&l, err);
        if (r < 0) {
                mlc_log_done(&l);
                return r;
        }
        *ret = l;
        return 0;
}

void mlc_log_done(struct mlc_log *l)
{
        mlc_pin_done(&l->pin);
}

/* Entries */

void mlc_proven_done(struct mlc_proven *p)
{
        if (p->leaf.doc != NULL)
                mlc_leaf_done(&p->leaf);
        json_decref(p->entry);
        p->entry = NULL;
}

/* Waits until the checkpoint covers the index. */
static int cover(struct mlc_log *l, uint64_t index, int64_t until, struct mlc_err *err)
{
        while (l->pin.seen.size <= index) {
                int r = mlc_log_refresh(l, err);

                if (r < 0)
                        return r;
                if (l->pin.seen.size > index)
                        return 0;
                if (mlc_monotonic_ms() >= until)
                        return mlc_fail(err, MLC_E_UNAVAILABLE,
                                        "no checkpoint of the log at %s covers entry %llu yet; try "
                                        "again",
                                        mlc_client_url(l->client), (unsigned long long)index);
                mlc_sleep_ms(POLL_MS);
        }
        return 0;
}

static int prove_inclusion(struct mlc_log *l, struct mlc_proven *p, struct mlc_err *err)
{
        _cleanup_(free_p) struct mlc_tlog_hashes *hashes = calloc(1, sizeof(*hashes));
        struct mlc_merkle_inclusion check = {p->index,         l->pin.seen.size, p->hash,
                                             l->pin.seen.root, p->path.h,        0};
        struct mlc_merkle_source tree;
        struct mlc_err why = {0};
        int r;

        if (hashes == NULL)
                abort();
        hashes->src = mlc_log_source(l->client);
        hashes->size = l->pin.seen.size;
        tree = mlc_tlog_merkle_source(hashes);
        r = mlc_merkle_prove_inclusion(&tree, p->index, l->pin.seen.size, &p->path, &why);
        if (r == MLC_E_UNREACHABLE || r == MLC_E_UNAVAILABLE)
                return mlc_fail(err, r, "%s", why.msg);
        check.n_proof = p->path.n;
        if (r == 0 && mlc_merkle_check_inclusion(&check, &why) == 0)
                return 0;
        return mlc_fail(err, MLC_E_VERIFY, "entry %llu is not in the log at %s: %s",
                        (unsigned long long)p->index, mlc_client_url(l->client), why.msg);
}

/* Checks what the server gave as the entry; takes p->entry as filled. */
static int prove_entry(struct mlc_log *l, struct mlc_proven *p, int64_t until, struct mlc_err *err)
{
        const char *text;
        int64_t index;
        int r;

        r = mlc_json_get_str(p->entry, "", "leaf", &text, err);
        if (r < 0)
                return r;
        r = mlc_json_get_i64(p->entry, "", "index", &index, err);
        if (r < 0)
                return r;
        if (index < 0)
                return mlc_fail(err, MLC_E_VERIFY, "the server gave an impossible index");
        p->index = (uint64_t)index;
        mlc_merkle_leaf(text, strlen(text), &p->hash);
        r = mlc_leaf_parse(text, strlen(text), &p->leaf, err);
        if (r < 0) {
                (void)mlc_wrap(err, "entry %llu", (unsigned long long)p->index);
                err->code = MLC_E_VERIFY;
                return MLC_E_VERIFY;
        }
        if (strcmp(p->leaf.origin, l->pin.keys[0].name) != 0)
                return mlc_fail(err, MLC_E_VERIFY, "entry %llu is of another log, '%s'",
                                (unsigned long long)p->index, p->leaf.origin);
        r = cover(l, p->index, until, err);
        if (r < 0)
                return r;
        return prove_inclusion(l, p, err);
}

static int get_entry(struct mlc_log *l, const char *path, json_t **ret, struct mlc_err *err)
{
        static const char *const headers[] = {"Prefer: wait=5", NULL};
        const struct mlc_request req = {.method = "GET", .path = path, .headers = headers};
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        int r = mlc_client_do(l->client, &req, &res, err);

        if (r < 0)
                return r;
        return mlc_json_parse(mlc_str_cstr(&res.body), res.body.len, ret, err);
}

int mlc_log_prove(struct mlc_log *l, const char *leaf_hash, struct mlc_proven *ret,
                  struct mlc_err *err)
{
        int64_t until = mlc_monotonic_ms() + MLC_PROOF_WAIT_MS;
        _cleanup_(mlc_proven_done) struct mlc_proven p = {0};
        struct mlc_digest wanted;
        char path[128];
        int r;

        if (!mlc_hex_decode(leaf_hash, wanted.b, sizeof(wanted.b)))
                return mlc_fail(err, MLC_E_VERIFY, "the server names an entry by '%s', no hash",
                                leaf_hash);
        (void)snprintf(path, sizeof(path), "/api/v1/audit/proof?leaf_hash=%s", leaf_hash);
        r = get_entry(l, path, &p.entry, err);
        if (r < 0)
                return mlc_wrap(err, "the log entry %.16s…", leaf_hash);
        r = prove_entry(l, &p, until, err);
        if (r < 0)
                return r;
        if (!mlc_digest_equal(&p.hash, &wanted))
                return mlc_fail(err, MLC_E_VERIFY,
                                "the server at %s gave another entry than the one asked for",
                                mlc_client_url(l->client));
        *ret = p;
        p = (struct mlc_proven){0};
        return 0;
}

int mlc_log_prove_index(struct mlc_log *l, uint64_t index, struct mlc_proven *ret,
                        struct mlc_err *err)
{
        int64_t until = mlc_monotonic_ms() + MLC_PROOF_WAIT_MS;
        _cleanup_(mlc_proven_done) struct mlc_proven p = {0};
        char path[128];
        int r;

        (void)snprintf(path, sizeof(path), "/api/v1/audit/entries/%llu", (unsigned long long)index);
        r = get_entry(l, path, &p.entry, err);
        if (r < 0)
                return r;
        r = prove_entry(l, &p, until, err);
        if (r < 0)
                return r;
        if (p.index != index)
                return mlc_fail(err, MLC_E_VERIFY,
                                "the server at %s gave another entry than the one asked for",
                                mlc_client_url(l->client));
        *ret = p;
        p = (struct mlc_proven){0};
        return 0;
}
