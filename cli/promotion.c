/* SPDX-License-Identifier: Apache-2.0 */
#include "promotion.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "judge.h"
#include "resource.h"

#define POLL_S 25 /* below the client's own limit for a silent transfer */
#define RETRY_MS 500

int promotion_get(struct cli *cli, const char *id, json_t **ret)
{
        _cleanup_(mlc_str_done) struct mlc_str path;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_add(&path, "/api/v1/promotions/");
        mlc_url_encode(&path, id);
        return mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, ret, &cli->err);
}

/* Waiting */

bool promotion_may_retry(int code)
{
        return code == MLC_E_UNREACHABLE || code == MLC_E_UNAVAILABLE || code == MLC_E_TIMEOUT ||
               code == MLC_E_TOO_MANY;
}

bool promotion_ended(const char *state)
{
        static const char *const states[] = {"rejected", "rolled_back", "failed",    "replaced",
                                             "expired",  "cancelled",   "superseded"};

        for (size_t i = 0; i < ARRAY_LEN(states); i++)
                if (strcmp(state, states[i]) == 0)
                        return true;
        return false;
}

static int ask(struct cli *cli, const char *path, int64_t left_ms, struct promotion_decision *ret)
{
        _cleanup_(mlc_response_done) struct mlc_response reply = {0};
        _cleanup_(json_decref_p) json_t *j = NULL;
        int64_t wait_s = left_ms / 1000 < POLL_S ? left_ms / 1000 : POLL_S;
        char prefer[32];
        const char *headers[] = {prefer, NULL};
        struct mlc_request request = {.method = "GET", .path = path, .headers = headers};
        const char *state;
        int r;

        (void)snprintf(prefer, sizeof(prefer), "Prefer: wait=%d", (int)wait_s);
        if (wait_s < 1)
                headers[0] = NULL;
        r = mlc_client_do(cli->client, &request, &reply, &cli->err);
        if (r == 0)
                r = mlc_json_parse(mlc_str_cstr(&reply.body), reply.body.len, &j, &cli->err);
        if (r == 0)
                r = mlc_json_get_bool(j, "", "ok", &ret->ok, &cli->err);
        if (r == 0)
                r = mlc_json_get_str(j, "", "state", &state, &cli->err);
        if (r == 0)
                (void)snprintf(ret->state, sizeof(ret->state), "%s", state);
        return r;
}

int promotion_wait(struct cli *cli, const char *id, enum promotion_until until, int64_t deadline,
                   struct promotion_decision *ret)
{
        static const char *const names[] = {"evaluated", "approved", "live"};
        _cleanup_(mlc_str_done) struct mlc_str path;
        struct promotion_decision now = {0};

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_add(&path, "/api/v1/promotions/");
        mlc_url_encode(&path, id);
        mlc_str_addf(&path, "/decision?until=%s", names[until]);
        for (;;) {
                int64_t left = deadline - mlc_monotonic_ms();
                int r = ask(cli, mlc_str_cstr(&path), left > 0 ? left : 0, &now);

                if (r < 0 && (!promotion_may_retry(r) || left <= 0))
                        return r;
                if (r == 0 && (now.ok || left <= 0 || strcmp(now.state, "held") == 0 ||
                               promotion_ended(now.state)))
                        break;
                mlc_err_clear(&cli->err);
                if (r < 0 || left < 1000)
                        mlc_sleep_ms(left > 0 && left < RETRY_MS ? left : RETRY_MS);
        }
        *ret = now;
        return 0;
}

/* As people read it */

static void print_names(const json_t *people)
{
        const json_t *one;
        size_t i;

        json_array_foreach (people, i, one) {
                const char *name = json_string_value(json_object_get(one, "name"));
                const char *id = json_string_value(json_object_get(one, "id"));

                (void)printf("%s", i > 0 ? ", " : "");
                out_text(name != NULL ? name : id != NULL ? id : "?");
        }
}

static void print_waiting(struct cli *cli, const json_t *list)
{
        const json_t *one;
        size_t i;

        json_array_foreach (list, i, one) {
                const char *rule = json_string_value(json_object_get(one, "rule"));

                (void)printf("%swaits for%s    ", out_dim(cli), out_reset(cli));
                out_text(json_string_value(json_object_get(one, "kind")));
                if (rule != NULL) {
                        (void)printf(" ");
                        out_text(rule);
                }
                (void)printf(" (%" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT ")",
                             json_integer_value(json_object_get(one, "have")),
                             json_integer_value(json_object_get(one, "need")));
                if (json_array_size(json_object_get(one, "eligible")) > 0) {
                        (void)printf(": ");
                        print_names(json_object_get(one, "eligible"));
                }
                (void)printf("\n");
        }
}

static void print_approvals(struct cli *cli, const json_t *list)
{
        static const struct out_column columns[] = {
                {"APPROVAL", "id", OUT_TEXT},       {"DECISION", "decision", OUT_TEXT},
                {"BY", "signer.name", OUT_TEXT},    {"ID", "signer.id", OUT_TEXT},
                {"SIGNED (UTC)", "time", OUT_TIME}, {"VOID", "void", OUT_TEXT},
                {"REASON", "reason", OUT_TEXT},     {0},
        };

        if (json_array_size(list) == 0)
                return;
        (void)printf("\n");
        out_table(cli, list, columns);
}

void promotion_print(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"version", "version", OUT_TEXT},
                {"digest", "digest", OUT_TEXT},
                {"live before", "from", OUT_TEXT},
                {"verdict", "verdict", OUT_TEXT},
                {"asked by", "requested_by.name", OUT_TEXT},
                {"reason", "reason", OUT_TEXT},
                {"created", "created", OUT_TIME},
                {"expires", "expires", OUT_TIME},
                {"rollout", "rollout", OUT_TEXT},
                {"rollback of", "rollback_of", OUT_TEXT},
                {"superseded", "superseded_by", OUT_TEXT},
                {"live since", "live_since", OUT_TIME},
                {"ended", "ended", OUT_TIME},
                {0},
        };
        const char *state = json_string_value(json_object_get(j, "state"));
        bool good = mlc_streq(state, "live") || mlc_streq(state, "approved");

        (void)printf("%s", out_bold(cli));
        out_text(json_string_value(json_object_get(j, "id")));
        (void)printf("%s  ", out_reset(cli));
        out_text(json_string_value(json_object_get(j, "model")));
        (void)printf(":%" JSON_INTEGER_FORMAT " to ",
                     json_integer_value(json_object_get(j, "version")));
        out_text(json_string_value(json_object_get(j, "environment")));
        (void)printf("%s: %s",
                     json_is_true(json_object_get(j, "protected")) ? "" : " (unprotected)",
                     good                                          ? out_green(cli)
                     : promotion_ended(state != NULL ? state : "") ? out_red(cli)
                                                                   : "");
        out_text(state != NULL ? state : "?");
        (void)printf("%s\n", out_reset(cli));
        out_fields(cli, j, fields);
        print_waiting(cli, json_object_get(j, "waiting_for"));
        if (json_array_size(json_object_get(j, "checks")) > 0) {
                (void)printf("\n");
                judge_print_checks(cli, json_object_get(j, "checks"));
        }
        print_approvals(cli, json_object_get(j, "approvals"));
}
