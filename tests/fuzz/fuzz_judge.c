/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bundles as a server shows them: a verdict, always the same, or a refusal that says where. What
 * binds the parts to each other (policy_digest, ids of evaluations) is computed anew, so that what
 * lies behind those checks is reached.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "codec/jcs.h"
#include "crypto/hash.h"
#include "policy/evaluation.h"
#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char csv[2][80] = {"id,label,prediction\na,1,1\nb,0,0\nc,1,0\n",
                                "id,label,prediction\na,1,0\nb,0,0\nc,1,1\n"};

static int open_examples(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err)
{
        (void)userdata;
        for (int i = 0; i < 2; i++) {
                struct mlc_digest d;
                char text[MLC_DIGEST_STR];

                mlc_sha256(csv[i], strlen(csv[i]), &d);
                mlc_digest_format(&d, text);
                if (strcmp(text, digest) != 0)
                        continue;
                *ret_fd = memfd_create("examples", 0);
                assert(*ret_fd >= 0 &&
                       write(*ret_fd, csv[i], strlen(csv[i])) == (ssize_t)strlen(csv[i]));
                assert(lseek(*ret_fd, 0, SEEK_SET) == 0);
                return 0;
        }
        return mlc_fail(err, MLC_E_NOT_FOUND, "there is no such blob");
}

static bool digest_at(const json_t *j, const char *key, struct mlc_digest *ret)
{
        const char *s = json_string_value(json_object_get(j, key));
        struct mlc_err ignored = {0};

        return s != NULL && mlc_digest_parse(s, ret, &ignored) == 0;
}

static void mend_records(json_t *side)
{
        json_t *record;
        size_t i;

        json_array_foreach (json_object_get(side, "evaluations"), i, record) {
                struct mlc_digest m, s, x, id;
                char text[MLC_DIGEST_STR];
                bool examples = digest_at(record, "examples", &x);

                if (!json_is_object(record) || !digest_at(record, "manifest", &m) ||
                    !digest_at(record, "submitted", &s))
                        continue;
                mlc_evaluation_id(&m, &s, examples ? &x : NULL, &id);
                mlc_digest_format(&id, text);
                json_object_set_new(record, "id", json_string(text));
        }
}

static void mend(json_t *b)
{
        struct mlc_digest d;
        struct mlc_err ignored = {0};
        char text[MLC_DIGEST_STR];

        if (json_is_object(json_object_get(b, "policy")) &&
            mlc_policy_digest(json_object_get(b, "policy"), &d, &ignored) == 0) {
                mlc_digest_format(&d, text);
                json_object_set_new(b, "policy_digest", json_string(text));
        }
        mend_records(b);
        mend_records(json_object_get(b, "champion"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct mlc_policy_examples examples = {open_examples, NULL};
        _cleanup_(json_decref_p) json_t *b = NULL, *one = NULL, *two = NULL;
        struct mlc_digest d[2];
        struct mlc_err err = {0};

        if (mlc_json_parse(size > 0 ? (const char *)data : "", size, &b, &err) < 0)
                return 0;
        if (json_is_object(b))
                mend(b);
        if (mlc_policy_judge(b, &examples, &one, &err) < 0) {
                assert(err.code < 0 && err.msg[0] != '\0' && one == NULL);
                return 0;
        }
        assert(mlc_policy_judge(b, &examples, &two, &err) == 0);
        assert(mlc_verdict_digest(one, &d[0], &err) == 0);
        assert(mlc_verdict_digest(two, &d[1], &err) == 0);
        assert(mlc_digest_equal(&d[0], &d[1]));
        assert(mlc_policy_wake_ms(b) >= 0);
        return 0;
}
