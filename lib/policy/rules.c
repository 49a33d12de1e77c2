/* SPDX-License-Identifier: Apache-2.0 */
/* What a text must look like to be an id, a name, a principal, a dataset. */
#include <string.h>

#include "base/str.h"
#include "base/utf8.h"
#include "codec/ref.h"
#include "policy/evaluation.h"
#include "policy/read.h"

int pol_plain(const char *s, struct mlc_err *err)
{
        size_t len = strlen(s), n;
        uint32_t c;

        if (len == 0)
                return mlc_fail(err, MLC_E_INVALID, "text is expected, not nothing");
        if (len > POL_TEXT_MAX)
                return mlc_fail(err, MLC_E_INVALID, "at most %d bytes are allowed", POL_TEXT_MAX);
        if (s[0] == ' ' || s[len - 1] == ' ')
                return mlc_fail(err, MLC_E_INVALID, "blanks at the ends are not allowed");
        for (size_t i = 0; i < len; i += n) {
                n = mlc_utf8_next(s + i, len - i, &c);
                if (n == 0 || mlc_utf8_unsafe(c))
                        return mlc_fail(err, MLC_E_INVALID,
                                        "invisible and control characters are not allowed");
        }
        return 0;
}

int pol_id(const char *s, struct mlc_err *err)
{
        static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789";
        size_t len = strlen(s);

        if (len > 63 || strspn(s, first) == 0 ||
            strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != len)
                return mlc_fail(err, MLC_E_INVALID,
                                "lower-case letters, digits, '-', '_' and '.' are expected (at "
                                "most 63, the first a letter or digit)");
        return 0;
}

int pol_name(const char *s, struct mlc_err *err)
{
        return mlc_model_check(s, err);
}

static int user_name(const char *s, struct mlc_err *err)
{
        if (*s == '\0' || strlen(s) > 100 || strpbrk(s, " /:,") != NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "'%.100s' is no name of a person: without blanks, '/', ':' and "
                                "','",
                                s);
        return 0;
}

static int role_name(const char *s, struct mlc_err *err)
{
        static const char *const roles[] = {"approver", "contributor", "evaluator",
                                            "operator", "auditor",     "admin"};

        for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
                if (strcmp(s, roles[i]) == 0)
                        return 0;
        return mlc_fail(err, MLC_E_INVALID,
                        "there is no role '%.60s': approver, contributor, evaluator, operator, "
                        "auditor, admin",
                        s);
}

int pol_owner(const char *s, struct mlc_err *err)
{
        if (mlc_starts_with(s, "user:"))
                return user_name(s + 5, err);
        if (mlc_starts_with(s, "group:"))
                return pol_name(s + 6, err);
        return mlc_fail(err, MLC_E_INVALID, "user:NAME or group:NAME is expected");
}

int pol_member(const char *s, struct mlc_err *err)
{
        if (mlc_starts_with(s, "user:"))
                return user_name(s + 5, err);
        return mlc_fail(err, MLC_E_INVALID, "user:NAME is expected");
}

int pol_principal(const char *s, struct mlc_err *err)
{
        if (mlc_starts_with(s, "role:"))
                return role_name(s + 5, err);
        if (mlc_starts_with(s, "user:") || mlc_starts_with(s, "group:"))
                return pol_owner(s, err);
        return mlc_fail(err, MLC_E_INVALID, "role:ROLE, group:NAME or user:NAME is expected");
}

int pol_dataset(const char *s, struct mlc_err *err)
{
        static const char *const schemes[] = {
                "sha256:", "dvc:", "iceberg:", "delta:", "lakefs:", "mlflow:", "opaque:"};
        const char *at = strrchr(s, '@');
        struct mlc_dataset d;

        for (size_t i = 0; at != NULL && i < sizeof(schemes) / sizeof(schemes[0]); i++)
                if (mlc_starts_with(at + 1, schemes[i]))
                        return mlc_dataset_parse(s, &d, err);
        return 0;
}

int pol_metric(const char *s, struct mlc_err *err)
{
        if (strlen(s) > MLC_METRIC_NAME_MAX)
                return mlc_fail(err, MLC_E_INVALID, "at most %d bytes are allowed",
                                MLC_METRIC_NAME_MAX);
        return 0;
}
