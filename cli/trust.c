/* SPDX-License-Identifier: Apache-2.0 */
#include "trust.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "client/pin.h"
#include "client/proof.h"
#include "codec/base64.h"
#include "codec/ref.h"
#include "config.h"
#include "log.h"

#define TRUST_MAX ((size_t)4 << 20)
#define FOUNDINGS "/api/v1/audit/entries?action=environment.protect&limit=1000"
#define FOUNDINGS_MAX 10000

void trust_done(struct trust *t)
{
        for (size_t i = 0; i < t->n_environments; i++) {
                struct mlc_custody_environment *e = &t->environments[i];
                _cleanup_(free_p) char *name = (char *)(uintptr_t)e->name;
                _cleanup_(free_p) void *keys = (void *)(uintptr_t)e->keys;

                (void)name;
                (void)keys;
        }
        free(t->environments);
        *t = (struct trust){0};
}

/* Reading */

struct reading {
        struct cli *cli;
        const char *file;
        char *rest; /* what was not read yet */
        int line;
        struct trust t;
};

static void reading_done(struct reading *in)
{
        trust_done(&in->t);
}

static int bad_line(struct reading *in, const char *what)
{
        return mlc_fail(&in->cli->err, MLC_E_INVALID, "line %d of '%s': %s", in->line, in->file,
                        what);
}

/* The line that comes next, which is then taken. */
static char *take_line(struct reading *in)
{
        char *line = in->rest, *end = strchr(line, '\n');

        in->line++;
        if (end != NULL)
                *end++ = '\0';
        in->rest = end != NULL ? end : line + strlen(line);
        return line;
}

static int read_environment(struct reading *in)
{
        char *line = take_line(in), *name = line + strlen("environment "), *threshold;
        struct mlc_custody_environment *grown;
        unsigned long long n;
        struct mlc_err why = {0};

        threshold = strchr(name, ' ');
        if (threshold != NULL)
                *threshold++ = '\0';
        if (threshold == NULL || !mlc_parse_u64(threshold, &n) || n < 1 || n > 32 ||
            mlc_model_check(name, &why) < 0)
                return bad_line(in, "an environment is 'environment NAME THRESHOLD'");
        if (in->t.n_environments == MLC_CUSTODY_ENVIRONMENTS_MAX)
                return bad_line(in, "too many environments");
        for (size_t i = 0; i < in->t.n_environments; i++)
                if (mlc_streq(in->t.environments[i].name, name))
                        return bad_line(in, "the environment is there twice");
        grown = reallocarray(in->t.environments, in->t.n_environments + 1, sizeof(*grown));
        if (grown == NULL)
                abort();
        in->t.environments = grown;
        grown[in->t.n_environments++] =
                (struct mlc_custody_environment){.name = strdup(name), .threshold = (unsigned)n};
        return 0;
}

static int read_key(struct reading *in)
{
        struct mlc_custody_environment *e;
        struct mlc_sshkey *keys, key;
        struct mlc_err why = {0};

        if (mlc_sshkey_parse(take_line(in), &key, &why) < 0)
                return bad_line(in, why.msg);
        if (in->t.n_environments == 0)
                return bad_line(in, "a public key comes after its environment");
        e = &in->t.environments[in->t.n_environments - 1];
        for (size_t i = 0; i < e->n_keys; i++)
                if (mlc_sshkey_equal(&e->keys[i], &key))
                        return bad_line(in, "the key is there twice");
        if (e->n_keys == MLC_CUSTODY_KEYS_MAX)
                return bad_line(in, "too many keys");
        keys = reallocarray((void *)(uintptr_t)e->keys, e->n_keys + 1, sizeof(*keys));
        if (keys == NULL)
                abort();
        keys[e->n_keys++] = key;
        e->keys = keys;
        return 0;
}

static bool is_key(const char *line)
{
        return mlc_starts_with(line, "ssh-") || mlc_starts_with(line, "ecdsa-") ||
               mlc_starts_with(line, "sk-");
}

/* The checkpoint's first line is the log's name. */
static bool is_checkpoint(const struct reading *in)
{
        size_t n = strlen(in->t.key.name);

        return strncmp(in->rest, in->t.key.name, n) == 0 && in->rest[n] == '\n';
}

static int read_rest(struct reading *in)
{
        int r = 0;

        while (r == 0 && in->rest[0] != '\0' && !is_checkpoint(in)) {
                if (mlc_starts_with(in->rest, "environment "))
                        r = read_environment(in);
                else if (is_key(in->rest))
                        r = read_key(in);
                else
                        break; /* a checkpoint of another log: that says so */
        }
        for (size_t i = 0; r == 0 && i < in->t.n_environments; i++)
                if (in->t.environments[i].n_keys < in->t.environments[i].threshold)
                        return mlc_fail(&in->cli->err, MLC_E_INVALID,
                                        "environment '%s' in '%s' has fewer keys than its "
                                        "threshold",
                                        in->t.environments[i].name, in->file);
        if (r < 0 || in->rest[0] == '\0')
                return r;
        r = mlc_checkpoint_open(in->rest, strlen(in->rest), &in->t.key, &in->t.seen, &in->cli->err);
        return r < 0 ? mlc_wrap(&in->cli->err, "the checkpoint in '%s' (line %d)", in->file,
                                in->line + 1)
                     : 0;
}

int trust_read(struct cli *cli, const char *file, struct trust *ret)
{
        _cleanup_(reading_done) struct reading in = {.cli = cli, .file = file};
        _cleanup_(free_p) char *text = NULL;
        size_t len;
        int r = mlc_read_file(file, TRUST_MAX, &text, &len, &cli->err);

        if (r < 0)
                return r;
        in.rest = text;
        in.t.n_keys = 1;
        in.t.file = true;
        r = mlc_vkey_parse(take_line(&in), &in.t.key, &cli->err);
        if (r < 0)
                return mlc_wrap(&cli->err, "line 1 of '%s'", file);
        r = read_rest(&in);
        if (r < 0)
                return r;
        *ret = in.t;
        in.t = (struct trust){0};
        return 0;
}

/* Printing */

static int print_environment(const struct mlc_leaf *leaf, struct mlc_str *text, struct mlc_err *err)
{
        const json_t *owner, *key;
        size_t i, k;

        mlc_str_addf(text, "environment %s %" JSON_INTEGER_FORMAT "\n",
                     leaf->id + strlen("Environment/"),
                     json_integer_value(json_object_get(leaf->detail, "threshold")));
        json_array_foreach (json_object_get(leaf->detail, "owners"), i, owner)
                json_array_foreach (json_object_get(owner, "keys"), k, key) {
                        const char *b64 = json_string_value(key);
                        _cleanup_(mlc_str_done) struct mlc_str blob;
                        struct mlc_sshkey parsed;
                        int r;

                        mlc_str_init(&blob, MLC_SSHKEY_BLOB_MAX);
                        if (b64 == NULL)
                                return mlc_fail(err, MLC_E_INVALID, "a key is no text");
                        r = mlc_base64_decode(MLC_BASE64_STD, b64, strlen(b64), &blob, err);
                        if (r == 0)
                                r = mlc_sshkey_from_blob(mlc_str_cstr(&blob), blob.len, &parsed,
                                                         err);
                        if (r < 0)
                                return r;
                        mlc_sshkey_format(&parsed, text);
                        mlc_str_addf(text, " %s\n",
                                     json_string_value(json_object_get(owner, "user")));
                }
        return mlc_str_check(text, err);
}

/* Entries of a log before this one stay listed; its successor has a founding of its own. */
static bool of_this_log(const json_t *entry, const struct mlc_log *log)
{
        const char *text = json_string_value(json_object_get(entry, "leaf"));
        _cleanup_(json_decref_p) json_t *leaf = NULL;
        struct mlc_err none = {0};

        return text != NULL && mlc_json_parse(text, strlen(text), &leaf, &none) == 0 &&
               mlc_streq(json_string_value(json_object_get(leaf, "log")), log->pin.keys[0].name);
}

/* Environments that have owners now, by the server: only so that the leaf of one that has just got
 * them is waited for. */
static bool all_listed(const json_t *environments, const json_t *entries)
{
        const json_t *environment, *entry;
        size_t i, k;

        json_array_foreach (environments, i, environment) {
                const char *name = json_string_value(json_object_get(environment, "environment"));
                bool found = !json_is_true(json_object_get(environment, "protected"));

                json_array_foreach (entries, k, entry) {
                        const char *id = json_string_value(json_object_get(entry, "id"));

                        found = found || (id != NULL && mlc_starts_with(id, "Environment/") &&
                                          mlc_streq(id + strlen("Environment/"), name));
                }
                if (!found)
                        return false;
        }
        return true;
}

static int list_foundings(struct cli *cli, json_t **ret)
{
        int64_t until = mlc_monotonic_ms() + MLC_PROOF_WAIT_MS;
        _cleanup_(json_decref_p) json_t *environments = NULL;
        int r = mlc_client_list(cli->client, "/api/v1/environments?limit=1000", FOUNDINGS_MAX,
                                &environments, &cli->err);

        while (r == 0) {
                _cleanup_(json_decref_p) json_t *list = NULL;

                r = mlc_client_list(cli->client, FOUNDINGS, FOUNDINGS_MAX, &list, &cli->err);
                if (r == 0 && (all_listed(environments, list) || mlc_monotonic_ms() >= until)) {
                        *ret = TAKE_PTR(list);
                        return 0;
                }
                mlc_sleep_ms(100);
        }
        return r;
}

/* Each environment by the leaf that first named owners: later ones are the owners' own affair. */
static int print_environments(struct cli *cli, struct mlc_log *log, struct mlc_str *text)
{
        _cleanup_(json_decref_p) json_t *list = NULL;
        _cleanup_(json_decref_p) json_t *seen = json_object();
        int r = list_foundings(cli, &list);

        if (r < 0)
                return r;
        for (size_t i = json_array_size(list); i-- > 0;) { /* the oldest first */
                const json_t *entry = json_array_get(list, i);
                const char *hash = json_string_value(json_object_get(entry, "leaf_hash"));
                _cleanup_(mlc_proven_done) struct mlc_proven p = {0};

                if (!of_this_log(entry, log))
                        continue;
                r = mlc_log_prove(log, hash != NULL ? hash : "", &p, &cli->err);
                if (r < 0)
                        return r;
                if (!mlc_streq(p.leaf.action, "environment.protect") ||
                    !mlc_starts_with(p.leaf.id, "Environment/") ||
                    json_object_get(seen, p.leaf.id) != NULL)
                        continue;
                (void)json_object_set_new(seen, p.leaf.id, json_true());
                r = print_environment(&p.leaf, text, &cli->err);
                if (r < 0)
                        return mlc_wrap(&cli->err, "the founding of '%s'", p.leaf.id);
        }
        return 0;
}

int trust_print(struct cli *cli)
{
        _cleanup_(mlc_log_done) struct mlc_log log = {0};
        _cleanup_(mlc_str_done) struct mlc_str text;
        int r = cli_connect(cli);

        mlc_str_init(&text, TRUST_MAX);
        if (r < 0)
                return r;
        r = cli_log_open(cli, &log);
        if (r < 0)
                return r;
        mlc_vkey_format(&log.pin.keys[0], &text);
        mlc_str_addc(&text, '\n');
        r = print_environments(cli, &log, &text);
        if (r < 0)
                return r;
        if (log.pin.note != NULL)
                mlc_str_add(&text, log.pin.note);
        r = mlc_str_check(&text, &cli->err);
        if (r == 0)
                (void)fputs(mlc_str_cstr(&text), stdout);
        return r;
}

/* The first line of the checkpoint in the directory: which log it says it is. */
static int read_origin(struct cli *cli, const char *dir, char ret[MLC_KEY_NAME_MAX + 1])
{
        _cleanup_(free_p) char *note = NULL;
        char path[PATH_MAX];
        size_t len;
        int r;

        if (snprintf(path, sizeof(path), "%s/checkpoint", dir) >= (int)sizeof(path))
                return mlc_fail(&cli->err, MLC_E_LIMIT, "path '%.64s…' is too long", dir);
        r = mlc_read_file(path, MLC_NOTE_MAX, &note, &len, &cli->err);
        if (r < 0)
                return r;
        note[strcspn(note, "\n")] = '\0';
        (void)snprintf(ret, MLC_KEY_NAME_MAX + 1, "%s", note);
        return 0;
}

static void close_dir(DIR **d)
{
        if (*d != NULL)
                (void)closedir(*d);
}

/* One pin file; true when it is of the log of that name. */
static bool read_pin(const char *state_dir, const char *name, const char *origin, struct trust *ret)
{
        _cleanup_(mlc_pin_done) struct mlc_pin pin = {0};
        char path[PATH_MAX];
        struct mlc_err none = {0};

        if (!mlc_starts_with(name, "log-") || !mlc_ends_with(name, ".json") ||
            snprintf(path, sizeof(path), "%s/%s", state_dir, name) >= (int)sizeof(path) ||
            mlc_pin_read(path, &pin, &none) < 0 || strcmp(pin.keys[0].name, origin) != 0)
                return false;
        ret->key = pin.keys[0];
        ret->seen = pin.seen;
        ret->n_keys = 1;
        return true;
}

int trust_by_pins(struct cli *cli, const char *dir, struct trust *ret)
{
        char origin[MLC_KEY_NAME_MAX + 1];
        int r = read_origin(cli, dir, origin);

        return r < 0 ? r : trust_by_name(cli, origin, ret);
}

int trust_by_name(struct cli *cli, const char *origin, struct trust *ret)
{
        _cleanup_(close_dir) DIR *d = NULL;
        _cleanup_(free_p) char *state_dir = NULL;
        struct dirent *e;
        int r = config_state_dir(&state_dir, &cli->err);

        if (r < 0)
                return r;
        d = opendir(state_dir);
        while (d != NULL && (e = readdir(d)) != NULL)
                if (read_pin(state_dir, e->d_name, origin, ret))
                        return 0;
        return mlc_fail(&cli->err, MLC_E_USAGE,
                        "no key of the log '%s' is pinned here; give --trust FILE with its key",
                        origin);
}
