/* SPDX-License-Identifier: Apache-2.0 */
/* kind: Policy, and the checks in it. */
#include <string.h>

#include "base/cleanup.h"
#include "policy/document.h"
#include "policy/read.h"

#define ALPHA "0.0500000000"
#define COUNT_MAX INT64_C(1000000000)

static const struct pol_range ANY = {-1e300, 1e300, false, false};
static const struct pol_range MARGIN = {0, 1, false, true};
static const struct pol_range ALPHAS = {0, 0.5, true, true};
static const struct pol_range LEVEL = {0.5, 1, true, true};

/* metric, dataset, slice, minimum_n */
static int subject(const struct pol_in *in, struct mlc_err *err)
{
        static const int64_t range[2] = {1, COUNT_MAX};
        int r = pol_need(in, "metric", err);

        if (r == 0)
                r = pol_text(in, "metric", pol_metric, err);
        if (r == 0)
                r = pol_text(in, "dataset", pol_dataset, err);
        if (r == 0)
                r = pol_labels(in, "slice", 8, err);
        return r < 0 ? r : pol_int(in, "minimum_n", range, 1, err);
}

static int threshold(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const bounds[] = {"value", "interval", NULL};
        int r = subject(in, err);

        if (r < 0)
                return r;
        if (pol_has(in, "at_least") == pol_has(in, "at_most"))
                return pol_fail(in, NULL, err, "a threshold needs either 'at_least' or 'at_most'");
        r = pol_number(in, "at_least", &ANY, NULL, err);
        if (r == 0)
                r = pol_number(in, "at_most", &ANY, NULL, err);
        if (r == 0)
                r = pol_enum(in, "bound", bounds, "value", err);
        if (r == 0)
                r = pol_number(in, "confidence", &LEVEL, "0.950000000", err);
        return r < 0 ? r : pol_text(in, "unit", NULL, err);
}

/* Shares of right answers can be compared; of these names it is known that they are none. */
static int comparable(const char *s, struct mlc_err *err)
{
        static const char *const others[] = {"auc", "rmse", "mae", "mse", "r2", "f1", "log_loss"};

        for (size_t i = 0; i < ARRAY_LEN(others); i++)
                if (strcmp(s, others[i]) == 0)
                        return mlc_fail(err, MLC_E_INVALID,
                                        "'%s' is no share of right answers, which is what compare "
                                        "is for: use a threshold",
                                        s);
        return pol_metric(s, err);
}

static int compare(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const tests[] = {"non-inferiority", "superiority", NULL};
        static const char *const against[] = {"champion", NULL};
        int r = subject(in, err);

        if (r == 0)
                r = pol_text(in, "metric", comparable, err);
        if (r == 0)
                r = pol_enum(in, "against", against, NULL, err);
        if (r == 0)
                r = pol_enum(in, "test", tests, NULL, err);
        if (r < 0)
                return r;
        if (!pol_has(in, "margin"))
                return pol_fail(in, NULL, err,
                                "key 'margin' is missing: a test says how much matters (margin: "
                                "0.02; for superiority by anything at all: margin: 0)");
        r = pol_number(in, "margin", &MARGIN, NULL, err);
        return r < 0 ? r : pol_number(in, "alpha", &ALPHAS, ALPHA, err);
}

static int freshness(const struct pol_in *in, struct mlc_err *err)
{
        int r = pol_need(in, "at_most", err);

        if (r == 0)
                r = pol_duration(in, "at_most", err);
        return r < 0 ? r : pol_text(in, "dataset", pol_dataset, err);
}

static int import_name(const char *s, struct mlc_err *err)
{
        const char *dot = strrchr(s, '.');

        if (dot == NULL || dot == s || dot[1] == '\0' || strpbrk(s, " :*") != NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "module.name is expected, as in sklearn.pipeline.Pipeline");
        return 0;
}

static int imports(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const unsafe[] = {"none", NULL};
        int r = pol_enum(in, "unsafe", unsafe, "none", err);

        return r < 0 ? r : pol_texts(in, "allow", import_name, 1000, err);
}

static int card(const struct pol_in *in, struct mlc_err *err)
{
        return pol_texts(in, "sections", NULL, 50, err);
}

static int link_name(const char *s, struct mlc_err *err)
{
        static const char *const links[] = {"dataset", "code", "run", "base"};

        for (size_t i = 0; i < ARRAY_LEN(links); i++)
                if (strcmp(links[i], s) == 0)
                        return 0;
        return mlc_fail(err, MLC_E_INVALID, "use dataset, code, run and base");
}

static int lineage(const struct pol_in *in, struct mlc_err *err)
{
        int r = pol_need(in, "requires", err);

        if (r == 0)
                r = pol_texts(in, "requires", link_name, 4, err);
        if (r == 0 && json_array_size(json_object_get(in->out, "requires")) == 0)
                return pol_fail(in, "requires", err, "use dataset, code, run and base");
        return r;
}

static const struct {
        const char *name;
        pol_item *read;
        const char *keys[16];
} TYPES[] = {
        {"threshold",
         threshold,
         {"id", "type", "mode", "metric", "dataset", "slice", "at_least", "at_most", "bound",
          "confidence", "minimum_n", "unit", NULL}},
        {"compare",
         compare,
         {"id", "type", "mode", "metric", "dataset", "slice", "against", "test", "margin", "alpha",
          "minimum_n", NULL}},
        {"freshness", freshness, {"id", "type", "mode", "at_most", "dataset", NULL}},
        {"imports", imports, {"id", "type", "mode", "unsafe", "allow", NULL}},
        {"card", card, {"id", "type", "mode", "sections", NULL}},
        {"lineage", lineage, {"id", "type", "mode", "requires", NULL}},
};

int pol_read_check(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const modes[] = {"enforce", "warn", "observe", NULL};
        static const char *const types[] = {"threshold", "compare", "freshness", "imports",
                                            "card",      "lineage", NULL};
        const char *type;
        int r;

        if (!json_is_object(in->obj))
                return pol_fail(in, NULL, err, "a check is {id: …, type: …, …}");
        r = pol_enum(in, "type", types, NULL, err);
        if (r == 0)
                r = pol_need(in, "id", err);
        if (r == 0)
                r = pol_text(in, "id", pol_id, err);
        if (r == 0)
                r = pol_enum(in, "mode", modes, "enforce", err);
        if (r < 0)
                return r;
        type = json_string_value(json_object_get(in->out, "type"));
        for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
                if (strcmp(TYPES[i].name, type) != 0)
                        continue;
                r = pol_only(in, TYPES[i].keys, NULL, err);
                return r < 0 ? r : TYPES[i].read(in, err);
        }
        return pol_fail(in, "type", err, "is not known");
}

int pol_read_approval(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"name", "from", "count", "request_ttl", NULL};
        static const char *const later[] = {"valid_for", "standing", NULL};
        static const int64_t range[2] = {1, MLC_APPROVAL_COUNT_MAX};
        int r = pol_only(in, keys, later, err);

        for (size_t i = 0; r == 0 && i < 2; i++)
                r = pol_need(in, keys[i], err);
        if (r == 0)
                r = pol_text(in, "name", pol_id, err);
        if (r == 0)
                r = pol_texts(in, "from", pol_principal, 50, err);
        if (r == 0 && json_array_size(json_object_get(in->out, "from")) == 0)
                return pol_fail(in, "from", err, "say who may approve: role:approver, group:…");
        if (r == 0)
                r = pol_int(in, "count", range, 1, err);
        return r < 0 ? r : pol_duration(in, "request_ttl", err);
}

int pol_read_policy(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"apiVersion", "kind",      "name",
                                           "checks",     "approvals", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r == 0)
                r = pol_text(in, "name", pol_name, err);
        if (r == 0)
                r = pol_items(in, "checks", pol_read_check, MLC_CHECKS_MAX, err);
        if (r == 0)
                r = pol_distinct(in, "checks", "id", err);
        if (r == 0)
                r = pol_items(in, "approvals", pol_read_approval, MLC_APPROVAL_RULES_MAX, err);
        return r < 0 ? r : pol_distinct(in, "approvals", "name", err);
}
