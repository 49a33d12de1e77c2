/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "client/call.h"

#define FILE_BYTES_MAX 65536
#define VALUE_BYTES_MAX 8192

/* OPT_PATHS, OPT_HOSTS: given several times; absolute paths, HOST:PORT. */
enum option_type { OPT_TEXT, OPT_BOOL, OPT_INT, OPT_PATHS, OPT_HOSTS };

struct option_row {
        const char *name;
        const char *value; /* what the help calls it; NULL for a switch */
        enum option_type type;
        size_t offset; /* in struct app_config */
        const char *fallback; /* NULL: none */
        int64_t min, max; /* of OPT_INT */
        const char *help;
};

#define TEXTS_MAX 256

static int check_path(const char *value, struct mlc_err *err)
{
        return *value == '/' && strstr(value, "/../") == NULL && !mlc_ends_with(value, "/..")
                       ? 0
                       : mlc_fail(err, MLC_E_USAGE, "'%.200s' is no absolute path without '..'",
                                  value);
}

#define ROW(member) offsetof(struct app_config, member)

static const struct option_row OPTIONS[] = {
        {"data", "DIR", OPT_TEXT, ROW(data), NULL, 0, 0,
         "where everything is kept; made at first start; required"},
        {"listen", "HOST:PORT", OPT_TEXT, ROW(listen), "127.0.0.1:8080", 0, 0,
         "address to serve on; port 0 takes a free one, DIR/address tells which"},
        {"postgres", "CONNINFO", OPT_TEXT, ROW(postgres), NULL, 0, 0,
         "use this PostgreSQL (13 or newer) instead of a private one below DIR; the role owns its "
         "database and "
         "needs no more; with a password in it use the environment or the file"},
        {"gateway", "HOST:PORT", OPT_TEXT, ROW(gateway), NULL, 0, 0,
         "run nginx with our module as a child, which serves models here; port 0 takes a free one, "
         "DIR/gateway-address tells which"},
        {"mirror-listen", "HOST:PORT", OPT_TEXT, ROW(mirror_listen), NULL, 0, 0,
         "take copies of requests here, from a proxy that mirrors but cannot copy answers; port 0 "
         "takes a free one, DIR/mirror-address tells which"},
        {"origin", "NAME", OPT_TEXT, ROW(origin), NULL, 0, 0,
         "name of the audit log, fixed at first start; default HOSTNAME/log- and 8 hex digits of "
         "its key"},
        {"reason", "TEXT", OPT_TEXT, ROW(reason), NULL, 0, 0,
         "why, for `log succeed`; kept beside the log, which holds its commitment"},
        {"public", NULL, OPT_BOOL, ROW(public_log), NULL, 0, 0,
         "let everybody read log entries and /metrics without a token"},
        {"max-connections", "N", OPT_INT, ROW(max_connections), "512", 8, 65536,
         "connections served at once"},
        {"db-connections", "N", OPT_INT, ROW(db_connections), "16", 2, 256,
         "connections to PostgreSQL for requests; four more are used beside them"},
        {"serving-root", "DIR", OPT_PATHS, ROW(serving_roots), NULL, 0, 0,
         "repositories of inference servers lie below such a directory, and the server writes "
         "nowhere else; may be given several times (environment: separated by commas)"},
        {"egress-allow", "HOST:PORT", OPT_HOSTS, ROW(egress_allow), NULL, 0, 0,
         "whom the server may call: inference servers, webhooks, metrics; may be given several "
         "times (environment: separated by commas); without it only loopback addresses"},
};

#define N_OPTIONS ARRAY_LEN(OPTIONS)

static const struct option_row CONFIG = {
        "config", "FILE",
        OPT_TEXT, 0,
        NULL,     0,
        0,        "read settings from this file: name = value, one a line, # comments"};

static void *slot(struct app_config *c, const struct option_row *o)
{
        return (char *)c + o->offset;
}

static void set_text(struct app_config *c, const struct option_row *o, const char *value)
{
        char *copy = strdup(value);
        char **at = slot(c, o);

        if (copy == NULL)
                abort();
        free(*at);
        *at = copy;
}

static bool is_list(const struct option_row *o)
{
        return o->type == OPT_PATHS || o->type == OPT_HOSTS;
}

static void texts_clear(struct app_texts *t)
{
        for (size_t i = 0; i < t->n; i++)
                free((void *)(uintptr_t)t->items[i]);
        free(t->items);
        *t = (struct app_texts){0};
}

static int texts_add(struct app_texts *t, const struct option_row *o, const char *value,
                     const char *where, struct mlc_err *err)
{
        const char **items;
        int r = o->type == OPT_PATHS ? check_path(value, err) : mlc_egress_entry_check(value, err);

        if (r < 0)
                return mlc_wrap(err, "%s", where);
        if (t->stale)
                texts_clear(t);
        if (t->n == TEXTS_MAX)
                return mlc_fail(err, MLC_E_USAGE, "%s is given more than %d times", where,
                                TEXTS_MAX);
        items = reallocarray(t->items, t->n + 1, sizeof(*items));
        if (items == NULL || (items[t->n] = strdup(value)) == NULL)
                abort();
        t->items = items;
        t->n++;
        return 0;
}

/* What the next source sets replaces what the ones before set. */
static void next_source(struct app_config *c)
{
        for (size_t i = 0; i < N_OPTIONS; i++)
                if (is_list(&OPTIONS[i]))
                        ((struct app_texts *)slot(c, &OPTIONS[i]))->stale = true;
}

void config_done(struct app_config *c)
{
        for (size_t i = 0; i < N_OPTIONS; i++) {
                if (is_list(&OPTIONS[i]))
                        texts_clear(slot(c, &OPTIONS[i]));
                if (OPTIONS[i].type != OPT_TEXT)
                        continue;
                free(*(char **)slot(c, &OPTIONS[i]));
                *(char **)slot(c, &OPTIONS[i]) = NULL;
        }
}

/* `where` names the source in messages: "--listen", "MLCTL_LISTEN", "FILE:3: listen" */
static int set(struct app_config *c, const struct option_row *o, const char *value,
               const char *where, struct mlc_err *err)
{
        unsigned long long n;

        if (strlen(value) > VALUE_BYTES_MAX)
                return mlc_fail(err, MLC_E_USAGE, "%s is too long", where);
        if (o->type == OPT_TEXT) {
                if (*value == '\0')
                        return mlc_fail(err, MLC_E_USAGE, "%s is empty", where);
                set_text(c, o, value);
        } else if (is_list(o)) {
                return texts_add(slot(c, o), o, value, where, err);
        } else if (o->type == OPT_BOOL) {
                if (!mlc_streq(value, "true") && !mlc_streq(value, "false"))
                        return mlc_fail(err, MLC_E_USAGE, "%s is true or false, not '%s'", where,
                                        value);
                *(bool *)slot(c, o) = mlc_streq(value, "true");
        } else {
                if (!mlc_parse_u64(value, &n) || n < (unsigned long long)o->min ||
                    n > (unsigned long long)o->max)
                        return mlc_fail(err, MLC_E_USAGE,
                                        "%s is a number from %lld to %lld, not '%s'", where,
                                        (long long)o->min, (long long)o->max, value);
                *(int64_t *)slot(c, o) = (int64_t)n;
        }
        return 0;
}

static const struct option_row *find(const char *name, size_t len)
{
        for (size_t i = 0; i < N_OPTIONS; i++)
                if (strlen(OPTIONS[i].name) == len && strncmp(OPTIONS[i].name, name, len) == 0)
                        return &OPTIONS[i];
        if (len == strlen(CONFIG.name) && strncmp(CONFIG.name, name, len) == 0)
                return &CONFIG;
        return NULL;
}

static int read_defaults(struct app_config *c, struct mlc_err *err)
{
        for (size_t i = 0; i < N_OPTIONS; i++) {
                const struct option_row *o = &OPTIONS[i];
                int r = o->fallback == NULL ? 0 : set(c, o, o->fallback, o->name, err);

                if (r < 0)
                        return r;
        }
        return 0;
}

static char *trim(char *s)
{
        size_t n;

        while (isspace((unsigned char)*s))
                s++;
        for (n = strlen(s); n > 0 && isspace((unsigned char)s[n - 1]);)
                s[--n] = '\0';
        return s;
}

static int read_line(struct app_config *c, const char *path, int number, char *line,
                     struct mlc_err *err)
{
        char where[512];
        char *equals, *name;
        const struct option_row *o;

        line = trim(line);
        if (*line == '\0' || *line == '#')
                return 0;
        equals = strchr(line, '=');
        if (equals == NULL)
                return mlc_fail(err, MLC_E_USAGE, "%s:%d: expected name = value", path, number);
        *equals = '\0';
        name = trim(line);
        o = find(name, strlen(name));
        if (o == NULL || o == &CONFIG)
                return mlc_fail(err, MLC_E_USAGE, "%s:%d: no setting is called '%s'", path, number,
                                name);
        (void)snprintf(where, sizeof(where), "%s:%d: %s", path, number, name);
        return set(c, o, trim(equals + 1), where, err);
}

static int read_config_file(struct app_config *c, const char *path, struct mlc_err *err)
{
        _cleanup_(free_p) char *text = NULL;
        char *rest, *line;
        size_t len;
        int number = 0;
        int r;

        r = mlc_read_file(path, FILE_BYTES_MAX, &text, &len, err);
        if (r < 0) {
                err->code = MLC_E_USAGE;
                return mlc_wrap(err, "--config");
        }
        rest = text;
        while (r == 0 && (line = strsep(&rest, "\n")) != NULL)
                r = read_line(c, path, ++number, line, err);
        return r;
}

static void env_name(const struct option_row *o, char *ret, size_t size)
{
        (void)snprintf(ret, size, "MLCTL_%s", o->name);
        for (char *p = ret; *p != '\0'; p++)
                *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
}

static int set_each(struct app_config *c, const struct option_row *o, const char *values,
                    const char *where, struct mlc_err *err)
{
        _cleanup_(free_p) char *copy = strdup(values);
        char *rest = copy, *one;
        int r = 0;

        if (copy == NULL)
                abort();
        while (r == 0 && (one = strsep(&rest, ",")) != NULL)
                r = set(c, o, trim(one), where, err);
        return r;
}

static int read_env(struct app_config *c, struct mlc_err *err)
{
        for (size_t i = 0; i < N_OPTIONS; i++) {
                char name[64];
                const char *value;
                int r = 0;

                env_name(&OPTIONS[i], name, sizeof(name));
                value = getenv(name);
                if (value == NULL || *value == '\0')
                        continue;
                r = is_list(&OPTIONS[i]) ? set_each(c, &OPTIONS[i], value, name, err)
                                         : set(c, &OPTIONS[i], value, name, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* One argument of argv; c is NULL in the first pass, which only looks for --config. */
static int read_flag(struct app_config *c, char *const argv[], int *i, const char **ret_config,
                     struct mlc_err *err)
{
        const char *arg = argv[*i] + 2, *equals = strchr(arg, '=');
        const struct option_row *o =
                find(arg, equals == NULL ? strlen(arg) : (size_t)(equals - arg));
        const char *value = equals == NULL ? NULL : equals + 1;
        char where[64];

        if (o == NULL)
                return mlc_fail(err, MLC_E_USAGE, "unknown option '%s', see mlctld --help",
                                argv[*i]);
        if (o->type == OPT_BOOL && value == NULL)
                value = "true";
        if (value == NULL && (value = argv[++*i]) == NULL)
                return mlc_fail(err, MLC_E_USAGE, "--%s needs %s", o->name, o->value);
        if (o == &CONFIG) {
                *ret_config = value;
                return 0;
        }
        (void)snprintf(where, sizeof(where), "--%s", o->name);
        return c == NULL ? 0 : set(c, o, value, where, err);
}

static int read_flags(struct app_config *c, char *const argv[], struct config_args *args,
                      const char **ret_config, struct mlc_err *err)
{
        bool only_positional = false;

        *args = (struct config_args){0};
        for (int i = 1; argv[i] != NULL; i++) {
                int r;

                if (!only_positional && mlc_streq(argv[i], "--")) {
                        only_positional = true;
                } else if (!only_positional && mlc_starts_with(argv[i], "--")) {
                        r = read_flag(c, argv, &i, ret_config, err);
                        if (r < 0)
                                return r;
                } else if (args->n_positional < (int)ARRAY_LEN(args->positional)) {
                        args->positional[args->n_positional++] = argv[i];
                } else {
                        return mlc_fail(err, MLC_E_USAGE, "too many arguments at '%s'", argv[i]);
                }
        }
        return 0;
}

static int resolve_data(struct app_config *c, bool create, struct mlc_err *err)
{
        _cleanup_(free_p) char *path = NULL;
        int r;

        if (c->data == NULL)
                return mlc_fail(err, MLC_E_USAGE, "--data DIR is missing");
        if (create) {
                r = mlc_mkdirs(c->data, 0700, err);
                if (r < 0)
                        return r;
        }
        path = realpath(c->data, NULL);
        if (path == NULL)
                return mlc_fail_errno(err, "find", c->data);
        set_text(c, &OPTIONS[0], path);
        return 0;
}

int config_read(int argc, char *const argv[], bool create, struct app_config *ret,
                struct config_args *ret_args, struct mlc_err *err)
{
        const char *file = getenv("MLCTL_CONFIG");
        struct app_config c = {0};
        struct config_args args;
        int r;

        assert(argc >= 1 && argv[argc] == NULL &&
               OPTIONS[0].offset == offsetof(struct app_config, data));
        r = read_flags(NULL, argv, &args, &file, err);
        if (r == 0)
                r = read_defaults(&c, err);
        if (r == 0 && file != NULL && *file != '\0')
                r = read_config_file(&c, file, err);
        next_source(&c);
        if (r == 0)
                r = read_env(&c, err);
        next_source(&c);
        if (r == 0)
                r = read_flags(&c, argv, &args, &file, err);
        if (r == 0)
                r = resolve_data(&c, create, err);
        if (r < 0) {
                config_done(&c);
                return r;
        }
        *ret = c;
        *ret_args = args;
        return 0;
}

static void print_row(FILE *f, const struct option_row *o)
{
        char left[64], env[64];

        (void)snprintf(left, sizeof(left), "--%s%s%s", o->name, o->value == NULL ? "" : " ",
                       o->value == NULL ? "" : o->value);
        env_name(o, env, sizeof(env));
        (void)fprintf(f, "  %-22s %s", left, o->help);
        if (o->fallback != NULL)
                (void)fprintf(f, " (default %s)", o->fallback);
        (void)fprintf(f, " [%s]\n", env);
}

void config_print_help(FILE *f)
{
        for (size_t i = 0; i < N_OPTIONS; i++)
                print_row(f, &OPTIONS[i]);
        print_row(f, &CONFIG);
}

static void man_row(FILE *f, const struct option_row *o)
{
        char env[64];

        env_name(o, env, sizeof(env));
        (void)fprintf(f, ".It Fl Fl %s", o->name);
        if (o->value != NULL)
                (void)fprintf(f, " Ar %s", o->value);
        (void)fprintf(f, "\n%c%s.\n", toupper((unsigned char)o->help[0]), o->help + 1);
        if (o->fallback != NULL)
                (void)fprintf(f, "Default: %s.\n", o->fallback);
        (void)fprintf(f, "Environment:\n.Ev %s .\n", env);
}

void config_print_man(FILE *f)
{
        (void)fprintf(f, ".Bl -tag -width Ds\n");
        for (size_t i = 0; i < N_OPTIONS; i++)
                man_row(f, &OPTIONS[i]);
        man_row(f, &CONFIG);
        (void)fprintf(f, ".El\n");
}
