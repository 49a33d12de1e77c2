/* SPDX-License-Identifier: Apache-2.0 */
#include "drift.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"

int drift_look(const struct drift_in *in, struct mlc_arena *a, struct drift_seen *ret,
               struct mlc_err *err)
{
        struct drift_seen seen = {.listing = {.outcome = MLC_SERVING_OK}};
        struct mlc_err disk = {0};

        seen.ready = mlc_arena_array(a, in->n_expected, sizeof(*seen.ready), err);
        if (seen.ready != NULL)
                seen.retired = mlc_arena_array(a, in->n_retired, sizeof(*seen.retired), err);
        if (seen.retired == NULL)
                return err->code;
        in->ops->list(in->call, a, &seen.list, &seen.listing);
        for (size_t i = 0; i < in->n_expected; i++)
                in->ops->ready(in->call, &in->expected[i].model, &seen.ready[i]);
        for (size_t i = 0; i < in->n_retired; i++)
                in->ops->ready(in->call, &in->retired[i], &seen.retired[i]);
        if (in->place != NULL &&
            mat_scan(in->place, in->cache, a, &seen.found, &seen.n_found, &disk) < 0)
                (void)snprintf(seen.repository, sizeof(seen.repository), "%.255s", disk.msg);
        *ret = seen;
        return 0;
}

/* --- comparing --- */

struct finding {
        const char *name; /* NULL: of the instance itself */
        const char *expected; /* digest, or NULL */
        const char *digest; /* what is there, or NULL */
        const char *state, *reason;
};

static void report(json_t *to, const struct drift_in *in, const struct finding *f)
{
        char model[MLC_SERVING_NAME_MAX];
        unsigned long long version = 0;
        bool ours = f->name != NULL && mlc_serving_name_parse(f->name, model, &version);
        json_t *j = json_pack("{s:s, s:s?, s:s?, s:o, s:s?, s:s?, s:s, s:s?}", "instance",
                              in->call->url, "name", f->name, "model", ours ? model : NULL,
                              "version", ours ? json_integer((json_int_t)version) : json_null(),
                              "digest", f->digest, "expected", f->expected, "state", f->state,
                              "reason", f->reason != NULL && *f->reason != '\0' ? f->reason : NULL);

        if (j == NULL || json_array_append_new(to, j) < 0)
                abort();
}

static const struct mat_found *found_as(const struct drift_seen *seen, const char *name)
{
        for (size_t i = 0; i < seen->n_found; i++)
                if (mlc_streq(seen->found[i].name, name))
                        return &seen->found[i];
        return NULL;
}

/* Once, and with its version: two folders may claim one name. */
static const char *odd_listing(const struct drift_seen *seen, const struct mlc_serving_model *m)
{
        char version[32];
        size_t n = 0;
        bool other = false;

        (void)snprintf(version, sizeof(version), "%llu", m->version);
        for (size_t i = 0; i < seen->list.n; i++) {
                const struct mlc_serving_listed *l = &seen->list.items[i];

                if (!mlc_streq(l->name, m->name))
                        continue;
                n++;
                other = other || (l->version[0] != '\0' && !mlc_streq(l->version, version));
        }
        if (n > 1)
                return "the server lists the name more than once";
        return other ? "the server lists another version under the name" : NULL;
}

static bool is_other(const struct drift_expected *e, const struct mat_found *folder)
{
        return e->unknown ? !mlc_streq(folder->digest, e->model.digest)
                          : !mlc_digest_equal(&folder->tree, &e->tree);
}

static void judge_expected(json_t *to, const struct drift_in *in, const struct drift_seen *seen,
                           size_t i)
{
        const struct drift_expected *e = &in->expected[i];
        const struct mlc_serving_result *ready = &seen->ready[i];
        const struct mat_found *folder = found_as(seen, e->model.name);
        struct finding f = {.name = e->model.name, .expected = e->model.digest};
        const char *odd = odd_listing(seen, &e->model);

        if (ready->outcome == MLC_SERVING_OK || folder != NULL || odd != NULL || !e->optional) {
                /* there, or must be */
        } else {
                return;
        }
        if (folder != NULL && folder->what[0] != '\0') {
                f.state = "changed";
                f.reason = folder->what;
        } else if (folder != NULL && is_other(e, folder)) {
                f.state = "changed";
                f.reason = "its files are not those that were approved";
        } else if (odd != NULL) {
                f.state = "changed";
                f.reason = odd;
        } else if (ready->outcome == MLC_SERVING_NOT_FOUND ||
                   ready->outcome == MLC_SERVING_NOT_READY) {
                f.state = e->optional ? "ok" : "missing";
                f.reason = ready->text;
        } else if (ready->outcome != MLC_SERVING_OK) {
                f.state = "unreachable";
                f.reason = ready->text;
        } else if (in->place != NULL && seen->repository[0] != '\0') {
                f.state = "unreachable";
                f.reason = seen->repository;
        } else if (in->place != NULL && folder == NULL && !e->optional) {
                f.state = "missing";
                f.reason = "is loaded, but its folder is gone: it would not survive a restart";
        } else {
                f.state = "ok";
                f.digest = e->model.digest;
        }
        report(to, in, &f);
}

static bool is_expected(const struct drift_in *in, const char *name)
{
        for (size_t i = 0; i < in->n_expected; i++)
                if (mlc_streq(in->expected[i].model.name, name))
                        return true;
        return false;
}

static bool reported(const json_t *to, const char *name)
{
        for (size_t i = 0; i < json_array_size(to); i++)
                if (mlc_streq(json_string_value(json_object_get(json_array_get(to, i), "name")),
                              name))
                        return true;
        return false;
}

static void judge_others(json_t *to, const struct drift_in *in, const struct drift_seen *seen)
{
        for (size_t i = 0; i < in->n_retired; i++) {
                struct finding f = {.name = in->retired[i].name, .state = "unapproved"};

                if (seen->retired[i].outcome != MLC_SERVING_OK || is_expected(in, f.name))
                        continue;
                f.reason = "was taken down, but still answers that it is ready";
                report(to, in, &f);
        }
        for (size_t i = 0; i < seen->list.n; i++) {
                const struct mlc_serving_listed *l = &seen->list.items[i];
                char reason[96];
                struct finding f = {.name = l->name, .state = "unapproved", .reason = reason};

                if (is_expected(in, l->name) || reported(to, l->name))
                        continue;
                (void)snprintf(reason, sizeof(reason), "the server lists it%s%s",
                               l->state[0] != '\0' ? " as " : "", l->state);
                report(to, in, &f);
        }
        for (size_t i = 0; i < seen->n_found; i++) {
                const struct mat_found *d = &seen->found[i];
                struct finding f = {.name = d->name, .state = "unapproved"};

                if (is_expected(in, d->name) || reported(to, d->name))
                        continue;
                f.reason = d->folder ? "its folder lies in the repository"
                                     : "something that is no folder lies in the repository";
                report(to, in, &f);
        }
}

static int by_name(const void *a, const void *b)
{
        const char *x = json_string_value(json_object_get(*(json_t *const *)a, "name"));
        const char *y = json_string_value(json_object_get(*(json_t *const *)b, "name"));

        return strcmp(x != NULL ? x : "", y != NULL ? y : "");
}

static json_t *sorted(json_t *list)
{
        size_t n = json_array_size(list);
        json_t **items = calloc(n + 1, sizeof(*items)), *ret = json_array();

        if (items == NULL || ret == NULL)
                abort();
        for (size_t i = 0; i < n; i++)
                items[i] = json_array_get(list, i);
        qsort(items, n, sizeof(json_t *), by_name);
        for (size_t i = 0; i < n; i++)
                if (json_array_append(ret, items[i]) < 0)
                        abort();
        free(items);
        json_decref(list);
        return ret;
}

json_t *drift_compare(const struct drift_in *in, const struct drift_seen *seen)
{
        json_t *to = json_array();
        struct finding f = {.state = "unreachable"};
        bool unreachable = false;

        if (to == NULL)
                abort();
        for (size_t i = 0; i < in->n_expected; i++) {
                judge_expected(to, in, seen, i);
                unreachable = unreachable || seen->ready[i].outcome == MLC_SERVING_UNREACHABLE;
        }
        judge_others(to, in, seen);
        /* what could not be asked is not clean, even where nothing is expected */
        if (seen->listing.outcome != MLC_SERVING_OK && !unreachable) {
                f.reason = seen->listing.text;
                report(to, in, &f);
        }
        if (in->place != NULL && seen->repository[0] != '\0' && in->n_expected == 0) {
                f.reason = seen->repository;
                report(to, in, &f);
        }
        return sorted(to);
}

bool drift_clean(const json_t *list)
{
        for (size_t i = 0; i < json_array_size(list); i++)
                if (!mlc_streq(json_string_value(json_object_get(json_array_get(list, i), "state")),
                               "ok"))
                        return false;
        return true;
}
