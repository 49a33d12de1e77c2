/* SPDX-License-Identifier: Apache-2.0 */
/* traffic_drive DRIVER CONTROL in_force|put|stats, traffic_drive SALT KEY bucket: the traffic
 * drivers by hand. A table is read from standard input; what came of it is one JSON document. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "rollout/bucket.h"
#include "rollout/drivers/traffic.h"

#define TABLE_MAX ((size_t)4 << 20)

static int read_table(json_t **ret, struct mlc_err *err)
{
        _cleanup_(free_p) char *text = NULL;
        size_t len;
        int r = mlc_read_file("/dev/stdin", TABLE_MAX, &text, &len, err);

        return r < 0 ? r : mlc_json_parse(text, len, ret, err);
}

static int run(const struct traffic_ops *ops, const char *control, const char *what, json_t *out,
               struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *table = NULL;
        json_t *stats = NULL;
        int64_t generation = 0;
        int r;

        if (strcmp(what, "in_force") == 0) {
                r = ops->in_force(control, &generation, err);
                (void)json_object_set_new(out, "generation", json_integer(generation));
                return r;
        }
        if (strcmp(what, "stats") == 0) {
                r = ops->stats(control, NULL, &stats, err);
                if (r == 0)
                        (void)json_object_set_new(out, "stats", stats);
                return r;
        }
        r = read_table(&table, err);
        return r < 0 ? r : ops->put(control, table, err);
}

int main(int argc, char **argv)
{
        _cleanup_(json_decref_p) json_t *out = json_object();
        const struct traffic_ops *ops;
        struct mlc_err err = {0};
        int r;

        if (argc != 4)
                return 2;
        if (strcmp(argv[3], "bucket") == 0) {
                (void)printf("%u\n",
                             mlc_bucket(argv[1], strlen(argv[1]), argv[2], strlen(argv[2])));
                return 0;
        }
        ops = traffic_find(argv[1]);
        if (ops == NULL)
                return 2;
        r = run(ops, argv[2], argv[3], out, &err);
        if (r < 0) {
                (void)json_object_set_new(out, "error", json_string(mlc_error_slug(err.code)));
                (void)json_object_set_new(out, "message", json_string(err.msg));
        }
        (void)json_dumpf(out, stdout, JSON_COMPACT);
        (void)putchar('\n');
        return r < 0;
}
