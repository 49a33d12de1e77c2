/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What {secret: NAME}, {file: PATH} and {env: VAR} of a document stand for. Who writes documents is
 * not to read this machine through them: only files that were put aside for that, and only
 * variables that say so in their name.
 */
#include <stdlib.h>

#include "app.h"
#include "base/io.h"
#include "rollout/rollout_internal.h"

#define SECRET_MAX 4096
#define VARIABLE "MLCTL_SECRET_"

static int add_file(const char *path, struct mlc_str *ret, struct mlc_err *err)
{
        _cleanup_(free_p) char *text = NULL;
        size_t len = 0;
        int r = mlc_read_file(path, SECRET_MAX, &text, &len, err);

        if (r < 0)
                return r;
        while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
                len--;
        mlc_str_addn(ret, text, len);
        return mlc_str_check(ret, err);
}

static int add_variable(const char *name, struct mlc_str *ret, struct mlc_err *err)
{
        const char *value = mlc_starts_with(name, VARIABLE) ? getenv(name) : NULL;

        if (value == NULL)
                return mlc_fail(err, MLC_E_NOT_FOUND,
                                "variable '%s' is not set for the server, or does not begin "
                                "with " VARIABLE,
                                name);
        mlc_str_add(ret, value);
        return mlc_str_check(ret, err);
}

int serving_secret(void *userdata, const struct json_t *ref, struct mlc_str *ret,
                   struct mlc_err *err)
{
        const struct mlc_ctx *ctx = userdata;
        const char *secret = json_string_value(json_object_get(ref, "secret"));
        const char *file = json_string_value(json_object_get(ref, "file"));
        const char *env = json_string_value(json_object_get(ref, "env"));
        char path[8192];

        if (env != NULL)
                return add_variable(env, ret, err);
        if (secret != NULL)
                (void)snprintf(path, sizeof(path), "%s/secrets/%s", ctx->app->config.data, secret);
        else if (file != NULL &&
                 (mlc_starts_with(file, "/etc/mlctl/") || mlc_starts_with(file, "/run/secrets/")))
                (void)snprintf(path, sizeof(path), "%s", file);
        else
                return mlc_fail(err, MLC_E_FORBIDDEN,
                                "a secret's file lies below /etc/mlctl or /run/secrets; or name "
                                "one of DIR/secrets by {secret: NAME}");
        return add_file(path, ret, err);
}
