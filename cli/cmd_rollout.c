/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli.h"
#include "codec/ref.h"
#include "promotion.h"
#include "resource.h"
#include "rollout.h"
#include "rollout/bucket.h"

#define LIST_MAX 100000
#define POLL_S 25
#define RETRY_MS 500

static const char *text_of(const json_t *j, const char *key)
{
        const char *text = json_string_value(json_object_get(j, key));

        return text != NULL ? text : "";
}

static json_int_t int_of(const json_t *j, const char *key)
{
        return json_integer_value(json_object_get(j, key));
}

static void rollout_path(struct mlc_str *path, const char *id, const char *what)
{
        mlc_str_init(path, RESOURCE_PATH_MAX);
        mlc_str_add(path, "/api/v1/rollouts/");
        mlc_url_encode(path, id);
        mlc_str_add(path, what);
}

/* plan */

static void print_plan(struct cli *cli, const json_t *j)
{
        const json_t *plan = json_object_get(j, "plan"), *route, *told;
        size_t i;

        (void)printf("%s", out_bold(cli));
        out_text(text_of(j, "model"));
        (void)printf("%s:%" JSON_INTEGER_FORMAT " to ", out_reset(cli), int_of(j, "version"));
        out_text(text_of(j, "environment"));
        (void)printf(": ");
        out_text(text_of(plan, "strategy"));
        (void)printf("\n");
        if (json_array_size(json_object_get(j, "routes")) == 0)
                rollout_print_steps(cli, json_object_get(plan, "steps"), NULL);
        json_array_foreach (json_object_get(j, "routes"), i, route) {
                (void)printf("\nroute ");
                out_text(text_of(route, "route"));
                (void)printf(" of target ");
                out_text(text_of(route, "target"));
                (void)printf(", %s requests/s now\n", json_is_string(json_object_get(route, "rate"))
                                                              ? text_of(route, "rate")
                                                              : "unknown");
                rollout_print_steps(cli, json_object_get(plan, "steps"),
                                    json_object_get(route, "expected"));
        }
        json_array_foreach (json_object_get(j, "validation"), i, told) {
                (void)printf("\nroute ");
                out_text(text_of(told, "route"));
                (void)printf(" (%s): ",
                             strcmp(text_of(told, "mode"), "reject") == 0 ? "reject" : "flag");
                out_text(text_of(told, "text"));
                (void)printf("\n");
        }
}

static int run_plan(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *body = NULL, *j = NULL;
        const char *to = cli_opt(cli, "to");
        char version[MLC_ALIAS_MAX + 1];
        struct mlc_ref ref;
        int r = mlc_ref_parse(cli->args[0], &ref, &cli->err);

        if (r < 0)
                return r;
        if (to == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "rollout plan needs --to ENVIRONMENT");
        resource_version_name(&ref, version);
        body = json_pack("{s:o, s:s, s:s}", "model", json_sprintf("%s/%s", ref.ns, ref.model),
                         "version", version, "environment", to);
        if (body == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "the environment is not valid UTF-8");
        r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "POST", "/api/v1/rollout-plans", body, &j,
                                    &cli->err);
        if (r == 0)
                out_result(cli, j, print_plan);
        return r;
}

/* list, show */

static void print_list(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"ROLLOUT", "id", OUT_TEXT},
                {"MODEL", "model", OUT_TEXT},
                {"VERSION", "version", OUT_TEXT},
                {"TO", "environment", OUT_TEXT},
                {"STRATEGY", "strategy", OUT_TEXT},
                {"STATE", "state", OUT_TEXT},
                {"BEGAN (UTC)", "created", OUT_TIME},
                {"WAITS FOR", "hold", OUT_TEXT},
                {0},
        };

        out_table(cli, j, columns);
}

static int run_list(struct cli *cli)
{
        static const char *const filters[] = {"model", "environment"};
        _cleanup_(json_decref_p) json_t *list = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_add(&path, "/api/v1/rollouts?limit=1000");
        for (size_t i = 0; i < ARRAY_LEN(filters); i++)
                resource_query(&path, filters[i], cli_opt(cli, filters[i]));
        if (cli_opt(cli, "active") != NULL)
                resource_query(&path, "active", "true");
        r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_list(cli->client, mlc_str_cstr(&path), LIST_MAX, &list, &cli->err);
        if (r == 0)
                out_result(cli, list, print_list);
        return r;
}

static int run_show(struct cli *cli)
{
        _cleanup_(mlc_str_done) struct mlc_str path;
        _cleanup_(json_decref_p) json_t *j = NULL;
        int r;

        rollout_path(&path, cli->args[0], "");
        r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &j, &cli->err);
        if (r == 0)
                out_result(cli, j, rollout_print);
        return r;
}

/* watch */

static bool ended(const json_t *j)
{
        return json_is_string(json_object_get(j, "ended"));
}

static void print_watched(struct cli *cli, const json_t *j)
{
        (void)printf("\033[H\033[2J");
        rollout_print(cli, j);
}

static void print_line(struct cli *cli, const json_t *j)
{
        char line[ROLLOUT_LINE_MAX];

        (void)cli;
        rollout_line(j, line);
        out_text(line);
        (void)printf("\n");
}

/* On a terminal the whole screen anew, elsewhere a line for each step and each reason to wait. */
static void show_watched(struct cli *cli, const json_t *j, char last[ROLLOUT_LINE_MAX])
{
        char line[ROLLOUT_LINE_MAX];

        if (cli->output != CLI_TABLE || cli->color) {
                out_line(cli, j, print_watched);
                return;
        }
        rollout_line(j, line);
        if (strcmp(line, last) != 0)
                out_line(cli, j, print_line);
        memcpy(last, line, sizeof(line));
}

/* The rollout once it is another than `etag` says, or NULL when time passed without a change. */
static int next(struct cli *cli, const char *path, char etag[80], json_t **ret)
{
        _cleanup_(mlc_response_done) struct mlc_response reply = {0};
        char match[112], prefer[32], now[80];
        const char *headers[] = {prefer, match, NULL};
        struct mlc_request request = {.method = "GET", .path = path, .headers = headers};
        int r;

        (void)snprintf(prefer, sizeof(prefer), "Prefer: wait=%d", POLL_S);
        (void)snprintf(match, sizeof(match), "If-None-Match: %s", etag);
        if (etag[0] == '\0')
                headers[0] = NULL;
        r = mlc_client_do(cli->client, &request, &reply, &cli->err);
        if (r < 0 || reply.status == 304)
                return r;
        if (mlc_response_header(&reply, "etag", now, sizeof(now)))
                (void)snprintf(etag, 80, "%s", now);
        return mlc_json_parse(mlc_str_cstr(&reply.body), reply.body.len, ret, &cli->err);
}

static int run_watch(struct cli *cli)
{
        _cleanup_(mlc_str_done) struct mlc_str path;
        char etag[80] = "", last[ROLLOUT_LINE_MAX] = "";
        int r;

        rollout_path(&path, cli->args[0], "");
        r = cli_connect(cli);
        while (r == 0) {
                _cleanup_(json_decref_p) json_t *j = NULL;

                r = next(cli, mlc_str_cstr(&path), etag, &j);
                if (r < 0 && etag[0] != '\0' && promotion_may_retry(r)) {
                        mlc_err_clear(&cli->err);
                        mlc_sleep_ms(RETRY_MS);
                        r = 0;
                        continue;
                }
                if (j == NULL)
                        continue;
                show_watched(cli, j, last);
                if (ended(j)) {
                        cli->exit = strcmp(text_of(j, "state"), "completed") == 0 ? 0 : 1;
                        return 0;
                }
        }
        return r;
}

/* pause, resume, abort, retry, advance */

/* `more`: members of the body beside the reason, or NULL. */
static int act_with(struct cli *cli, const char *what, json_t *more)
{
        const char *reason = cli_opt(cli, "reason");
        _cleanup_(json_decref_p) json_t *body = NULL, *j = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r;

        rollout_path(&path, cli->args[0], what);
        if (reason == NULL || reason[0] == '\0')
                return mlc_fail(&cli->err, MLC_E_USAGE, "%s needs --reason TEXT",
                                cli->command->name);
        body = json_pack("{s:s}", "reason", reason);
        if (body == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "the reason is not valid UTF-8");
        (void)json_object_update(body, more);
        r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "POST", mlc_str_cstr(&path), body, &j, &cli->err);
        if (r == 0)
                out_result(cli, j, rollout_print);
        return r;
}

static int act(struct cli *cli, const char *what)
{
        return act_with(cli, what, NULL);
}

static int run_pause(struct cli *cli)
{
        return act(cli, "/pause");
}

static int run_resume(struct cli *cli)
{
        return act(cli, "/resume");
}

static int run_abort(struct cli *cli)
{
        const char *over = cli_opt(cli, "over");
        _cleanup_(json_decref_p) json_t *more = json_object();
        int64_t ms;

        if (over != NULL && !mlc_duration_parse(over, &ms))
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "--over takes a time such as 30s, 10m or 2h, not '%s'", over);
        if (over != NULL)
                (void)json_object_set_new(more, "over_ms", json_integer(ms));
        return act_with(cli, "/abort", more);
}

static int run_retry(struct cli *cli)
{
        return act(cli, "/retry");
}

static int run_advance(struct cli *cli)
{
        return act(cli, "/advance");
}

/* explain */

/* What --key asks: the bucket, and which variant of each split it falls to. */
static void explain_key(json_t *j, const json_t *rollout, const char *key)
{
        const char *salt = text_of(rollout, "id");
        unsigned bucket = mlc_bucket(salt, strlen(salt), key, strlen(key));
        const json_t *split, *variant;
        json_t *answers = json_array();
        size_t i, k;

        json_array_foreach (json_object_get(rollout, "splits"), i, split) {
                json_int_t bound = 0;

                json_array_foreach (json_object_get(split, "variants"), k, variant) {
                        bound += int_of(variant, "weight");
                        if ((json_int_t)bucket >= bound)
                                continue;
                        (void)json_array_append_new(answers,
                                                    json_pack("{s:s, s:s, s:s, s:I}", "route",
                                                              text_of(split, "route"), "target",
                                                              text_of(split, "target"), "variant",
                                                              text_of(variant, "name"), "version",
                                                              int_of(variant, "version")));
                        break;
                }
        }
        (void)json_object_set_new(
                j, "key",
                json_pack("{s:s, s:i, s:o}", "key", key, "bucket", (int)bucket, "gets", answers));
}

static void print_explained(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"ROUTE", "route", OUT_TEXT},
                {"TARGET", "target", OUT_TEXT},
                {"VARIANT", "variant", OUT_TEXT},
                {"VERSION", "version", OUT_TEXT},
                {0},
        };
        const json_t *key = json_object_get(j, "key");

        (void)printf("%s", out_bold(cli));
        out_text(text_of(j, "rollout"));
        (void)printf("%s, step %" JSON_INTEGER_FORMAT
                     ": computed again here from the stored statistics\n",
                     out_reset(cli), int_of(j, "step") + 1);
        rollout_print_decision(cli, json_object_get(j, "decision"));
        if (key == NULL)
                return;
        (void)printf("\nkey ");
        out_text(text_of(key, "key"));
        (void)printf(" is in bucket %" JSON_INTEGER_FORMAT " of 10000\n", int_of(key, "bucket"));
        if (json_array_size(json_object_get(key, "gets")) == 0)
                (void)printf("the rollout splits no traffic now: every key gets what is live\n");
        else
                out_table(cli, json_object_get(key, "gets"), columns);
}

static int run_explain(struct cli *cli)
{
        const char *key = cli_opt(cli, "key");
        _cleanup_(mlc_str_done) struct mlc_str path, whole;
        _cleanup_(json_decref_p) json_t *j = NULL, *rollout = NULL, *decision = NULL;
        int r;

        rollout_path(&path, cli->args[0], "/explain");
        rollout_path(&whole, cli->args[0], "");
        r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &j, &cli->err);
        if (r == 0 && key != NULL)
                r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&whole), NULL, &rollout,
                                    &cli->err);
        if (r < 0)
                return r;
        if (!json_is_object(json_object_get(j, "decision")))
                return mlc_fail(&cli->err, MLC_E_CONFLICT, "nothing was decided in '%s' yet",
                                cli->args[0]);
        r = rollout_decide_again(cli, j, &decision);
        if (r < 0)
                return r;
        if (key != NULL)
                explain_key(j, rollout, key);
        out_result(cli, j, print_explained);
        return 0;
}

/* the line */

static void print_lines(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"ENVIRONMENT", "environment", OUT_TEXT}, {"STOPPED", "stopped", OUT_TEXT},
                {"SINCE (UTC)", "since", OUT_TIME},       {"BY", "by.name", OUT_TEXT},
                {"REASON", "reason", OUT_TEXT},           {0},
        };

        out_table(cli, j, columns);
}

static int set_line(struct cli *cli, bool stopped)
{
        const char *environment = cli_opt(cli, "environment"), *reason = cli_opt(cli, "reason");
        _cleanup_(json_decref_p) json_t *body = NULL, *j = NULL;
        int r;

        if (reason == NULL || reason[0] == '\0')
                return mlc_fail(&cli->err, MLC_E_USAGE, "%s needs --reason TEXT",
                                cli->command->name);
        body = json_pack("{s:b, s:s}", "stopped", stopped, "reason", reason);
        if (body != NULL && environment != NULL)
                (void)json_object_set_new(body, "environment", json_string(environment));
        if (body == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "the reason is not valid UTF-8");
        r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "POST", "/api/v1/line", body, &j, &cli->err);
        if (r == 0)
                out_result(cli, json_object_get(j, "items"), print_lines);
        return r;
}

static int run_stop(struct cli *cli)
{
        return set_line(cli, true);
}

static int run_release(struct cli *cli)
{
        return set_line(cli, false);
}

static const struct cli_option PLAN_OPTIONS[] = {
        {"to", "ENVIRONMENT", "where", false},
        {0},
};

static const struct cli_option LIST_OPTIONS[] = {
        {"model", "NS/MODEL", "only of this model", false},
        {"environment", "NAME", "only in this environment", false},
        {"active", NULL, "only those that go on", false},
        {0},
};

static const struct cli_option REASON_OPTIONS[] = {
        {"reason", "TEXT", "why; it is logged", false},
        {0},
};

static const struct cli_option ABORT_OPTIONS[] = {
        {"reason", "TEXT", "why; it is logged", false},
        {"over", "TIME", "little by little over 30s, 10m or 2h; default at once", false},
        {0},
};

static const struct cli_option EXPLAIN_OPTIONS[] = {
        {"key", "KEY", "say which variant the user with this key gets", false},
        {0},
};

static const struct cli_option LINE_OPTIONS[] = {
        {"environment", "NAME", "only there; default everywhere", false},
        {"reason", "TEXT", "why; it is logged", false},
        {0},
};

const struct cli_command CMD_ROLLOUT[] = {
        {"rollout plan", "REF", 1, 1, "what a promotion would do to traffic, step by step", NULL,
         PLAN_OPTIONS, run_plan},
        {"rollout list", "", 0, 0, "rollouts, newest first", NULL, LIST_OPTIONS, run_list},
        {"rollout show", "ID", 1, 1, "a rollout: steps, weights, checks", NULL, NULL, run_show},
        {"rollout watch", "ID", 1, 1, "follow a rollout until it ends",
         "Exit 0: completed, 1: it went back. With --output json one object a line.", NULL,
         run_watch},
        {"rollout pause", "ID", 1, 1, "keep it where it is; harm still takes it back", NULL,
         REASON_OPTIONS, run_pause},
        {"rollout resume", "ID", 1, 1, "let a paused one go on", NULL, REASON_OPTIONS, run_resume},
        {"rollout abort", "ID", 1, 1, "take it back, the new version to 0 first", NULL,
         ABORT_OPTIONS, run_abort},
        {"rollout retry", "ID", 1, 1, "try again at once what could not be loaded", NULL,
         REASON_OPTIONS, run_retry},
        {"rollout advance", "ID", 1, 1, "let a step that waits for a person go on", NULL,
         REASON_OPTIONS, run_advance},
        {"rollout explain", "ID", 1, 1, "compute the last decision again from what was counted",
         NULL, EXPLAIN_OPTIONS, run_explain},
        {"rollout stop-line", "", 0, 0, "nothing advances or begins any more",
         "Going back is always possible.", LINE_OPTIONS, run_stop},
        {"rollout release-line", "", 0, 0, "end of stop-line", NULL, LINE_OPTIONS, run_release},
        {0},
};
