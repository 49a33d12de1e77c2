/* SPDX-License-Identifier: Apache-2.0 */
/* kind: Environment. */
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "codec/ref.h"
#include "policy/read.h"

#define ITEMS_MAX 64

int pol_url(const char *s, struct mlc_err *err)
{
        const char *host = mlc_starts_with(s, "http://")    ? s + 7
                           : mlc_starts_with(s, "https://") ? s + 8
                                                            : NULL;

        if (host == NULL || *host == '\0' || *host == '/' || strpbrk(s, " @?#") != NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "http://HOST:PORT is expected, without user name and query");
        return 0;
}

static int absolute(const char *s, struct mlc_err *err)
{
        if (*s != '/' || strstr(s, "/../") != NULL || mlc_ends_with(s, "/.."))
                return mlc_fail(err, MLC_E_INVALID, "an absolute path without '..' is expected");
        return 0;
}

static int control(const char *s, struct mlc_err *err)
{
        if (!mlc_starts_with(s, "unix:"))
                return mlc_fail(err, MLC_E_INVALID, "unix:PATH is expected");
        return absolute(s + 5, err);
}

/* module.Class */
static int dotted(const char *s, struct mlc_err *err)
{
        size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.");

        if (s[n] != '\0' || *s == '.' || mlc_ends_with(s, ".") || strstr(s, "..") != NULL ||
            strchr(s, '.') == NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "module.Class is expected, as in mlserver_sklearn.SKLearnModel");
        return 0;
}

static int repository(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"dir", NULL}, *const later[] = {"agent", "s3", "oci",
                                                                           NULL};
        int r = pol_only(in, keys, later, err);

        if (r == 0)
                r = pol_need(in, "dir", err);
        return r < 0 ? r : pol_text(in, "dir", absolute, err);
}

static int instance(const struct pol_in *in, bool needs_repository, struct mlc_err *err)
{
        static const char *const keys[] = {"url", "repository", NULL};
        int r = pol_only(in, keys, NULL, err);

        for (size_t i = 0; r == 0 && i < (needs_repository ? 2 : 1); i++)
                r = pol_need(in, keys[i], err);
        if (r == 0)
                r = pol_text(in, "url", pol_url, err);
        return r < 0 ? r : pol_object(in, "repository", repository, err);
}

static int instance_with(const struct pol_in *in, struct mlc_err *err)
{
        return instance(in, true, err);
}

static int instance_plain(const struct pol_in *in, struct mlc_err *err)
{
        return instance(in, false, err);
}

/* {secret: NAME}, {file: PATH} or {env: VAR} */
static int secret(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"secret", "file", "env", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r == 0 && pol_has(in, "secret") + pol_has(in, "file") + pol_has(in, "env") != 1)
                return pol_fail(in, NULL, err, "one of 'secret', 'file' and 'env' is needed");
        if (r == 0 && pol_has(in, "secret"))
                r = pol_text(in, "secret", pol_id, err);
        if (r == 0 && pol_has(in, "file"))
                r = pol_text(in, "file", absolute, err);
        if (r == 0 && pol_has(in, "env"))
                r = pol_text(in, "env", NULL, err);
        return r;
}

/* What each driver understands beside driver and instances; another's is refused. */
static const struct {
        const char *name;
        const char *keys[8];
        bool repository; /* instances need one */
} SERVING[] = {
        {"oip", {"driver", "instances", "ready_timeout", "drain", "implementation", NULL}, true},
        {"triton", {"driver", "instances", "ready_timeout", "drain", "backend", NULL}, true},
        {"webhook", {"driver", "instances", "ready_timeout", "drain", "token", NULL}, false},
};

/* Keys that came later are in the normalised form only where they are written. */
static int serving_later(const struct pol_in *in, struct mlc_err *err)
{
        int r = 0;

        if (pol_has(in, "ready_timeout"))
                r = pol_duration(in, "ready_timeout", err);
        if (r == 0 && pol_has(in, "drain"))
                r = pol_duration(in, "drain", err);
        if (r == 0 && pol_has(in, "implementation"))
                r = pol_text(in, "implementation", dotted, err);
        if (r == 0 && pol_has(in, "backend"))
                r = pol_text(in, "backend", pol_id, err);
        if (r == 0 && pol_has(in, "token"))
                r = pol_object(in, "token", secret, err);
        return r;
}

static int serving(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const drivers[] = {"oip", "triton", "webhook", NULL};
        const char *driver;
        size_t i = 0;
        int r;

        if (!json_is_object(in->obj))
                return pol_only(in, SERVING[0].keys, NULL, err);
        r = pol_enum(in, "driver", drivers, NULL, err);
        if (r < 0)
                return r;
        driver = json_string_value(json_object_get(in->out, "driver"));
        while (strcmp(SERVING[i].name, driver) != 0)
                i++;
        r = pol_only(in, SERVING[i].keys, NULL, err);
        if (r == 0)
                r = pol_need(in, "instances", err);
        if (r == 0)
                r = pol_items(in, "instances",
                              SERVING[i].repository ? instance_with : instance_plain, ITEMS_MAX,
                              err);
        if (r == 0)
                r = pol_distinct(in, "instances", "url", err);
        return r < 0 ? r : serving_later(in, err);
}

static int traffic(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const nginx[] = {"driver", "control", NULL}, *const haproxy[] = {
                                                                                "driver", "control",
                                                                                "map", NULL};
        static const char *const drivers[] = {"nginx", "haproxy", NULL};
        bool maps;
        int r;

        if (!json_is_object(in->obj))
                return pol_only(in, haproxy, NULL, err);
        r = pol_enum(in, "driver", drivers, NULL, err);
        if (r < 0)
                return r;
        maps = strcmp(json_string_value(json_object_get(in->out, "driver")), "haproxy") == 0;
        r = pol_only(in, maps ? haproxy : nginx, NULL, err);
        if (r == 0)
                r = pol_need(in, "control", err);
        if (r == 0)
                r = pol_text(in, "control", control, err);
        if (r == 0 && maps)
                r = pol_need(in, "map", err);
        return r < 0 || !maps ? r : pol_text(in, "map", absolute, err);
}

static int metrics(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"prometheus", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r == 0)
                r = pol_need(in, "prometheus", err);
        return r < 0 ? r : pol_text(in, "prometheus", pol_url, err);
}

/* nginx asks an instance for /v2/models/… by plain HTTP. */
static int plain(const struct pol_in *in, struct mlc_err *err)
{
        const json_t *serving = json_object_get(in->out, "serving"), *v;
        const char *url, *path;
        char at[MLC_JSON_POINTER_MAX];
        size_t i;

        json_array_foreach (json_object_get(serving, "instances"), i, v) {
                struct pol_in item = {.at = at};
                int n = snprintf(at, sizeof(at), "%s/serving/instances/%zu", in->at, i);

                assert(n > 0 && (size_t)n < sizeof(at));
                url = json_string_value(json_object_get(v, "url"));
                if (mlc_starts_with(url, "https://"))
                        return pol_fail(&item, "url", err,
                                        "the gateway speaks plain HTTP to inference servers: "
                                        "http://HOST:PORT is expected");
                path = strchr(url + strlen("http://"), '/');
                if (path != NULL && path[1] != '\0' && json_object_get(v, "repository") != NULL &&
                    !json_is_null(json_object_get(v, "repository")))
                        return pol_fail(&item, "url", err,
                                        "the gateway asks inference servers for /v2/models/…: "
                                        "leave '%s' out",
                                        path);
        }
        return 0;
}

static int target(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"name", "serving", "traffic", NULL};
        int r = pol_only(in, keys, NULL, err);

        for (size_t i = 0; r == 0 && i < 2; i++)
                r = pol_need(in, keys[i], err);
        if (r == 0)
                r = pol_text(in, "name", pol_id, err);
        if (r == 0)
                r = pol_object(in, "serving", serving, err);
        if (r == 0)
                r = pol_object(in, "traffic", traffic, err);
        if (r == 0 && mlc_streq(json_string_value(json_object_get(
                                        json_object_get(in->out, "traffic"), "driver")),
                                "nginx"))
                r = plain(in, err);
        return r;
}

static int after(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"environment", "live_for", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r == 0)
                r = pol_need(in, "environment", err);
        if (r == 0)
                r = pol_text(in, "environment", pol_name, err);
        if (r == 0)
                r = pol_duration(in, "live_for", err);
        if (r == 0 && json_is_null(json_object_get(in->out, "live_for_ms")))
                json_object_set_new(in->out, "live_for_ms", json_integer(0));
        return r;
}

static bool whole(const char **s, long *ret)
{
        char *end;

        if (**s < '0' || **s > '9')
                return false;
        *ret = strtol(*s, &end, 10);
        *s = end;
        return *ret <= 99;
}

/* One field of a schedule: "*", "5", "1-5", each with "/2", comma-separated. */
static bool cron_field(const char *s, const char *end, long lo, long hi)
{
        while (s < end) {
                long from = lo, to = hi, step;

                if (*s == '*') {
                        s++;
                } else if (!whole(&s, &from)) {
                        return false;
                } else if (*s == '-') {
                        s++;
                        if (!whole(&s, &to))
                                return false;
                } else {
                        to = from;
                }
                if (from < lo || to > hi || from > to)
                        return false;
                if (*s == '/') {
                        s++;
                        if (!whole(&s, &step) || step == 0)
                                return false;
                }
                if (s == end)
                        return true;
                if (*s++ != ',')
                        return false;
        }
        return false;
}

static int schedule(const char *s, struct mlc_err *err)
{
        static const long ends[5][2] = {{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 7}};

        for (size_t i = 0; i < 5; i++) {
                const char *end = s + strcspn(s, " ");

                if (!cron_field(s, end, ends[i][0], ends[i][1]))
                        return mlc_fail(err, MLC_E_INVALID,
                                        "five fields are expected (minute hour day month weekday, "
                                        "numbers, '*', '-', ',' and '/'), as in 0 16 * * 5");
                s = end + (i < 4 ? strspn(end, " ") : 0);
        }
        return *s == '\0' ? 0 : mlc_fail(err, MLC_E_INVALID, "only five fields are expected");
}

static int zone(const char *s, struct mlc_err *err)
{
        size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/");

        if (s[n] != '\0' || *s == '/' || n > 64)
                return mlc_fail(err, MLC_E_INVALID, "a time zone is expected, as in Europe/Berlin");
        return 0;
}

static int moment(const char *s, struct mlc_err *err)
{
        int64_t ms;

        if (!mlc_time_parse(s, &ms))
                return mlc_fail(err, MLC_E_INVALID,
                                "a date or a time (RFC 3339) is expected, as in 2026-12-20");
        return 0;
}

static int window_dates(const struct pol_in *in, struct mlc_err *err)
{
        int64_t from, to;
        int r = pol_need(in, "from", err);

        if (r == 0)
                r = pol_need(in, "to", err);
        if (r == 0)
                r = pol_text(in, "from", moment, err);
        if (r == 0)
                r = pol_text(in, "to", moment, err);
        if (r < 0)
                return r;
        if (!mlc_time_parse(json_string_value(json_object_get(in->out, "from")), &from) ||
            !mlc_time_parse(json_string_value(json_object_get(in->out, "to")), &to) || to < from)
                return pol_fail(in, "to", err, "must not be before 'from'");
        return 0;
}

/* {schedule, duration, zone} or {from, to, zone}; left out members are null. */
static int window(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"schedule", "duration", "zone", "from", "to", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r < 0)
                return r;
        if (pol_has(in, "schedule") == (pol_has(in, "from") || pol_has(in, "to")))
                return pol_fail(in, NULL, err,
                                "either 'schedule' and 'duration', or 'from' and 'to'");
        r = pol_text(in, "zone", zone, err);
        if (r == 0 && !pol_has(in, "zone"))
                json_object_set_new(in->out, "zone", json_string("UTC"));
        if (r == 0 && !pol_has(in, "schedule"))
                return window_dates(in, err);
        if (r == 0)
                r = pol_need(in, "duration", err);
        if (r == 0)
                r = pol_text(in, "schedule", schedule, err);
        return r < 0 ? r : pol_duration(in, "duration", err);
}

static int windows(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"allow", "deny", NULL};
        int r = pol_only(in, keys, NULL, err);

        for (size_t i = 0; r == 0 && keys[i] != NULL; i++)
                r = pol_items(in, keys[i], window, ITEMS_MAX, err);
        return r;
}

/* Owners and threshold come together; groups' members are known to the server only. */
static int owners(const struct pol_in *in, struct mlc_err *err)
{
        static const int64_t range[2] = {1, 32};
        const json_t *list;
        size_t n, n_groups = 0;
        int r = pol_texts(in, "owners", pol_owner, ITEMS_MAX, err);

        if (r == 0)
                r = pol_int(in, "threshold", range, 0, err);
        if (r < 0)
                return r;
        list = json_object_get(in->out, "owners");
        n = json_array_size(list);
        for (size_t i = 0; i < n; i++)
                n_groups += mlc_starts_with(json_string_value(json_array_get(list, i)), "group:");
        if (n > 0 && !pol_has(in, "threshold"))
                return pol_fail(in, NULL, err,
                                "key 'threshold' is missing: how many owners must sign a change");
        if (n == 0 && pol_has(in, "threshold"))
                return pol_fail(in, "threshold", err, "needs owners");
        if (n_groups == 0 &&
            json_integer_value(json_object_get(in->out, "threshold")) > (json_int_t)n)
                return pol_fail(in, "threshold", err, "there are only %zu owners", n);
        return 0;
}

/* A gateway holds one table, in which a route stands once. */
static int one_control_each(const struct pol_in *in, struct mlc_err *err)
{
        const json_t *targets = json_object_get(in->out, "targets"), *a, *b;
        size_t i, j;

        json_array_foreach (targets, i, a)
                for (j = 0; j < i; j++) {
                        b = json_array_get(targets, j);
                        if (json_equal(json_object_get(json_object_get(a, "traffic"), "control"),
                                       json_object_get(json_object_get(b, "traffic"), "control")))
                                return pol_fail(in, "targets", err,
                                                "two targets have the same traffic control: name "
                                                "all instances of a gateway in one target");
                }
        return 0;
}

int pol_read_environment(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"apiVersion", "kind",    "name",    "policy",
                                           "alias",      "owners",  "after",   "threshold",
                                           "targets",    "windows", "metrics", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r == 0)
                r = pol_text(in, "name", pol_name, err);
        if (r == 0)
                r = pol_text(in, "policy", pol_name, err);
        if (r == 0)
                r = pol_text(in, "alias", mlc_alias_check, err);
        if (r == 0)
                r = owners(in, err);
        if (r == 0)
                r = pol_items(in, "after", after, ITEMS_MAX, err);
        if (r == 0)
                r = pol_distinct(in, "after", "environment", err);
        if (r == 0)
                r = pol_items(in, "targets", target, ITEMS_MAX, err);
        if (r == 0)
                r = pol_distinct(in, "targets", "name", err);
        if (r == 0)
                r = one_control_each(in, err);
        if (r == 0)
                r = pol_object(in, "windows", windows, err);
        if (r == 0 && json_is_null(json_object_get(in->out, "windows")))
                json_object_set_new(in->out, "windows", json_pack("{s:[], s:[]}", "allow", "deny"));
        if (r == 0 && pol_has(in, "metrics"))
                r = pol_object(in, "metrics", metrics, err);
        return r;
}
