/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

#define CREDENTIALS_MAX ((size_t)1 << 20)

static int home_dir(const char *variable, const char *below_home, char **ret, struct mlc_err *err)
{
        const char *xdg = getenv(variable), *home = getenv("HOME");
        char path[PATH_MAX];

        if (xdg != NULL && xdg[0] == '/')
                (void)snprintf(path, sizeof(path), "%s/mlctl", xdg);
        else if (home != NULL && home[0] == '/')
                (void)snprintf(path, sizeof(path), "%s/%s/mlctl", home, below_home);
        else
                return mlc_fail(err, MLC_E_USAGE, "neither %s nor HOME is set to an absolute path",
                                variable);
        *ret = strdup(path);
        if (*ret == NULL)
                abort();
        return 0;
}

int config_state_dir(char **ret, struct mlc_err *err)
{
        _cleanup_(free_p) char *dir = NULL;
        int r = home_dir("XDG_STATE_HOME", ".local/state", &dir, err);

        if (r < 0)
                return r;
        r = mlc_mkdirs(dir, 0700, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(dir);
        return 0;
}

static int credentials_path(char ret[PATH_MAX], bool create, struct mlc_err *err)
{
        _cleanup_(free_p) char *dir = NULL;
        int r = home_dir("XDG_CONFIG_HOME", ".config", &dir, err);

        if (r < 0)
                return r;
        if (create) {
                r = mlc_mkdirs(dir, 0700, err);
                if (r < 0)
                        return r;
        }
        if (snprintf(ret, PATH_MAX, "%s/credentials.json", dir) >= PATH_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "path '%.64s…' is too long", dir);
        return 0;
}

int config_load(json_t **ret, struct mlc_err *err)
{
        _cleanup_(free_p) char *text = NULL;
        struct mlc_err why = {0};
        char path[PATH_MAX];
        size_t len;
        int r = credentials_path(path, false, err);

        if (r < 0)
                return r;
        r = mlc_read_file(path, CREDENTIALS_MAX, &text, &len, &why);
        if (r == MLC_E_NOT_FOUND) {
                *ret = json_object();
                return 0;
        }
        if (r < 0)
                return mlc_fail(err, r, "%s", why.msg);
        r = mlc_json_parse(text, len, ret, err);
        return r < 0 ? mlc_wrap(err, "'%s'", path) : 0;
}

int config_save_login(const char *url, const char *token, const char *user, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *all = NULL;
        _cleanup_(free_p) char *text = NULL;
        char path[PATH_MAX];
        int r = config_load(&all, err);

        if (r < 0)
                return r;
        if (!json_is_object(json_object_get(all, "servers")))
                (void)json_object_set_new(all, "servers", json_object());
        (void)json_object_set_new(json_object_get(all, "servers"), url,
                                  json_pack("{s:s, s:s}", "token", token, "user", user));
        (void)json_object_set_new(all, "default", json_string(url));
        r = credentials_path(path, true, err);
        if (r < 0)
                return r;
        text = json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS);
        if (text == NULL)
                abort();
        return mlc_write_file_atomic(path, text, strlen(text), 0600, err);
}
