/* SPDX-License-Identifier: Apache-2.0 */
#include "trust.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "client/pin.h"
#include "config.h"

#define TRUST_MAX ((size_t)4 << 20)

int trust_read(struct cli *cli, const char *file, struct trust *ret)
{
        _cleanup_(free_p) char *text = NULL;
        struct trust t = {.n_keys = 1};
        char *rest;
        size_t len;
        int r = mlc_read_file(file, TRUST_MAX, &text, &len, &cli->err);

        if (r < 0)
                return r;
        rest = strchr(text, '\n');
        if (rest != NULL)
                *rest++ = '\0';
        r = mlc_vkey_parse(text, &t.key, &cli->err);
        if (r < 0)
                return mlc_wrap(&cli->err, "line 1 of '%s'", file);
        if (rest != NULL && mlc_starts_with(rest, "environment "))
                return mlc_fail(&cli->err, MLC_E_NOT_SUPPORTED,
                                "'%s' names environments: that is not supported yet", file);
        if (rest != NULL && rest[0] != '\0') {
                r = mlc_checkpoint_open(rest, strlen(rest), &t.key, &t.seen, &cli->err);
                if (r < 0)
                        return mlc_wrap(&cli->err, "the checkpoint in '%s'", file);
        }
        *ret = t;
        return 0;
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
