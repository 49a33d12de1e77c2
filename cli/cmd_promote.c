/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli.h"
#include "codec/ref.h"
#include "crypto/random.h"
#include "pending.h"
#include "promotion.h"
#include "resource.h"

#define LIST_MAX 100000
#define TIMEOUT_MS (60LL * 60 * 1000)
#define RETRY_MS 500

/* promote */

struct wish {
        bool wait;
        enum promotion_until until;
        int64_t deadline; /* of mlc_monotonic_ms */
};

static int read_wish(struct cli *cli, struct wish *ret)
{
        const char *wait = cli_opt(cli, "wait"), *timeout = cli_opt(cli, "timeout");
        int64_t ms = TIMEOUT_MS;

        if (timeout != NULL && wait == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "--timeout needs --wait");
        if (timeout != NULL && !mlc_duration_parse(timeout, &ms))
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "--timeout takes a duration such as 90s, 15m or 6h, not '%s'",
                                timeout);
        ret->wait = wait != NULL;
        ret->until = UNTIL_LIVE;
        if (wait != NULL && strcmp(wait, "approved") == 0)
                ret->until = UNTIL_APPROVED;
        else if (wait != NULL && wait[0] != '\0' && strcmp(wait, "live") != 0)
                return mlc_fail(&cli->err, MLC_E_USAGE, "--wait takes approved or live, not '%s'",
                                wait);
        ret->deadline = mlc_monotonic_ms() + ms;
        return 0;
}

static int make_body(struct cli *cli, json_t **ret)
{
        const char *to = cli_opt(cli, "to"), *reason = cli_opt(cli, "reason");
        char version[MLC_ALIAS_MAX + 1];
        struct mlc_ref ref;
        int r = mlc_ref_parse(cli->args[0], &ref, &cli->err);

        if (r < 0)
                return r;
        if (to == NULL || reason == NULL || reason[0] == '\0')
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "promote needs --to ENVIRONMENT and --reason TEXT");
        resource_version_name(&ref, version);
        *ret = json_pack("{s:o, s:s, s:s, s:s, s:b}", "model",
                         json_sprintf("%s/%s", ref.ns, ref.model), "version", version,
                         "environment", to, "reason", reason, "supersede",
                         cli_opt(cli, "supersede") != NULL);
        if (*ret == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "environment or reason is not valid UTF-8");
        return 0;
}

/* The same key each time, so that a request whose reply got lost is not made twice. */
static int request(struct cli *cli, const struct wish *wish, const json_t *body, json_t **ret)
{
        _cleanup_(free_p) char *text = json_dumps(body, JSON_COMPACT);
        char uuid[MLC_UUID_STR], header[64];
        const char *headers[] = {header, NULL};
        struct mlc_request req = {
                .method = "POST", .path = "/api/v1/promotions", .headers = headers, .body = text};

        if (text == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "the request is not valid UTF-8");
        req.body_len = strlen(text);
        mlc_uuid4(uuid);
        (void)snprintf(header, sizeof(header), "Idempotency-Key: %s", uuid);
        for (;;) {
                _cleanup_(mlc_response_done) struct mlc_response reply = {0};
                int r = mlc_client_do(cli->client, &req, &reply, &cli->err);

                if (r == 0)
                        return mlc_json_parse(mlc_str_cstr(&reply.body), reply.body.len, ret,
                                              &cli->err);
                if (!wish->wait || !promotion_may_retry(r) || mlc_monotonic_ms() >= wish->deadline)
                        return r;
                mlc_err_clear(&cli->err);
                mlc_sleep_ms(RETRY_MS);
        }
}

/* Until it is evaluated, and then for what is wished. */
static int wait_for(struct cli *cli, const char *id, struct wish *wish,
                    struct promotion_decision *now)
{
        int64_t soon = mlc_monotonic_ms() + EVALUATING_MS;
        int r = promotion_wait(cli, id, UNTIL_EVALUATED,
                               wish->wait && wish->deadline < soon ? wish->deadline : soon, now);

        if (r < 0 || !wish->wait)
                return r;
        if (strcmp(now->state, "held") == 0 || promotion_ended(now->state)) {
                now->ok = false;
                return 0;
        }
        out_note(cli, "%s is %s; waiting", id, now->state);
        return promotion_wait(cli, id, wish->until, wish->deadline, now);
}

static int exit_of(const struct wish *wish, const struct promotion_decision *now)
{
        if (strcmp(now->state, "held") == 0)
                return 4;
        if (!wish->wait)
                return promotion_ended(now->state) ? 1 : 0;
        if (now->ok)
                return 0;
        return promotion_ended(now->state) ? 1 : 3;
}

static int run_promote(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *body = NULL, *made = NULL, *shown = NULL;
        const char *id, *junit = cli_opt(cli, "junit");
        _cleanup_(pending_stop) struct pending pending = {0};
        struct promotion_decision now = {0};
        struct wish wish = {0};
        int r = read_wish(cli, &wish);

        if (r == 0)
                r = make_body(cli, &body);
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0 && wish.wait)
                r = pending_start(cli, &pending);
        if (r == 0)
                r = request(cli, &wish, body, &made);
        if (r == 0)
                r = mlc_json_get_str(made, "", "id", &id, &cli->err);
        if (r == 0)
                pending_name(&pending, id);
        if (r == 0)
                r = wait_for(cli, id, &wish, &now);
        if (r == 0)
                r = promotion_get(cli, id, &shown);
        if (r == 0 && junit != NULL)
                r = junit_write(cli, junit, shown);
        if (r < 0)
                return r;
        out_result(cli, shown, promotion_print);
        cli->exit = exit_of(&wish, &now);
        if (cli->exit == 3)
                out_note(cli, "time is up; the promotion goes on: mlctl promotion show %s", id);
        if (cli->exit == 4)
                out_note(cli, "held: it goes on by itself when what is missing arrives");
        return 0;
}

/* promotion list, show, cancel */

/* The environment, and whether anybody owns it; a change's environments all have owners. */
static json_t *where_to(const json_t *j)
{
        const json_t *protected = json_object_get(j, "protected");
        const char *name = json_string_value(json_object_get(j, "environment"));

        return json_sprintf("%s%s", name != NULL ? name : "",
                            json_is_false(protected) ? " (unprotected)" : "");
}

static void print_list(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"PROMOTION", "id", OUT_TEXT},
                {"MODEL", "model", OUT_TEXT},
                {"VERSION", "version", OUT_TEXT},
                {"TO", "to", OUT_TEXT},
                {"STATE", "state", OUT_TEXT},
                {"VERDICT", "verdict", OUT_TEXT},
                {"BY", "requested_by.name", OUT_TEXT},
                {"CREATED (UTC)", "created", OUT_TIME},
                {0},
        };
        _cleanup_(json_decref_p) json_t *rows = json_array();
        const json_t *one;
        size_t i;

        json_array_foreach (j, i, one) {
                json_t *row = json_copy((json_t *)(uintptr_t)one);

                (void)json_object_set_new(row, "to", where_to(one));
                (void)json_array_append_new(rows, row);
        }
        out_table(cli, rows, columns);
}

static int run_list(struct cli *cli)
{
        static const char *const names[] = {"model", "environment", "state"};
        _cleanup_(json_decref_p) json_t *items = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_add(&path, "/api/v1/promotions");
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                resource_query(&path, names[i], cli_opt(cli, names[i]));
        resource_query(&path, "open", cli_opt(cli, "open") != NULL ? "true" : NULL);
        r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_list(cli->client, mlc_str_cstr(&path), LIST_MAX, &items, &cli->err);
        if (r < 0)
                return r;
        if (json_array_size(items) == 0)
                out_note(cli, "none");
        if (json_array_size(items) > 0 || cli->output != CLI_TABLE)
                out_result(cli, items, print_list);
        return 0;
}

static int run_show(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        int r = cli_connect(cli);

        if (r == 0)
                r = promotion_get(cli, cli->args[0], &j);
        if (r < 0)
                return r;
        out_result(cli, j, promotion_print);
        return 0;
}

static void print_change(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"change", "id", OUT_TEXT},
                {"document", "document", OUT_TEXT},
                {"state", "state", OUT_TEXT},
                {0},
        };

        out_fields(cli, j, fields);
}

static int run_cancel(struct cli *cli)
{
        const char *reason = cli_opt(cli, "reason"), *id = cli->args[0];
        _cleanup_(json_decref_p) json_t *body = NULL, *j = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        body = json_pack("{s:s}", "reason", reason != NULL ? reason : "cancelled");
        if (body == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "the reason is not valid UTF-8");
        mlc_str_add(&path, id[0] == 'c' ? "/api/v1/changes/" : "/api/v1/promotions/");
        mlc_url_encode(&path, id);
        mlc_str_add(&path, "/cancel");
        r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "POST", mlc_str_cstr(&path), body, &j, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, j, id[0] == 'c' ? print_change : promotion_print);
        return 0;
}

/* inbox */

/* A document by its name; a role or key with the name of who would get it. */
static json_t *what_changes(const json_t *item)
{
        const char *document = json_string_value(json_object_get(item, "document"));
        const char *person =
                json_string_value(json_object_get(json_object_get(item, "person"), "name"));
        const char *first = document != NULL ? strchr(document, '/') : NULL;
        const char *rest = first != NULL ? strchr(first + 1, '/') : NULL;

        if (person == NULL || rest == NULL)
                return json_string(document != NULL ? document : "?");
        return json_sprintf("%s %s of %s", document[0] == 'K' ? "key" : "role", rest + 1, person);
}

static void print_inbox(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"WHAT", "what", OUT_TEXT},
                {"TO", "to", OUT_TEXT},
                {"FOR RULE", "rule", OUT_TEXT},
                {"SIGNED", "signed", OUT_TEXT},
                {"BY", "requested_by.name", OUT_TEXT},
                {"EXPIRES (UTC)", "expires", OUT_TIME},
                {"COMMAND", "command", OUT_TEXT},
                {0},
        };
        _cleanup_(json_decref_p) json_t *rows = json_array();
        const json_t *one;
        size_t i;

        json_array_foreach (j, i, one) {
                json_t *row = json_copy((json_t *)(uintptr_t)one);
                const char *model = json_string_value(json_object_get(one, "model"));
                const char *id = json_string_value(json_object_get(one, "id"));

                if (model != NULL)
                        (void)json_object_set_new(
                                row, "what",
                                json_sprintf("%s:%" JSON_INTEGER_FORMAT, model,
                                             json_integer_value(json_object_get(one, "version"))));
                else
                        (void)json_object_set_new(row, "what", what_changes(one));
                (void)json_object_set_new(row, "to", where_to(one));
                (void)json_object_set_new(
                        row, "signed",
                        json_sprintf("%" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT,
                                     json_integer_value(json_object_get(one, "have")),
                                     json_integer_value(json_object_get(one, "need"))));
                (void)json_object_set_new(
                        row, "command",
                        json_sprintf("mlctl approve %s --key ~/.ssh/id_ed25519 --reason TEXT",
                                     id != NULL ? id : "?"));
                (void)json_array_append_new(rows, row);
        }
        out_table(cli, rows, columns);
}

static int run_inbox(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        json_t *items;
        int r = cli_connect(cli);

        if (r == 0)
                r = mlc_client_json(cli->client, "GET", "/api/v1/inbox", NULL, &j, &cli->err);
        if (r == 0)
                r = mlc_json_get_arr(j, "", "items", &items, &cli->err);
        if (r < 0)
                return r;
        if (json_array_size(items) == 0)
                out_note(cli, "nothing waits for you");
        if (json_array_size(items) > 0 || cli->output != CLI_TABLE)
                out_result(cli, items, print_inbox);
        return 0;
}

static const struct cli_option PROMOTE_OPTIONS[] = {
        {"to", "ENVIRONMENT", "where", false},
        {"reason", "TEXT", "why; it is logged", false},
        {"wait", "[=approved|live]", "wait until it is approved, or live (default)", false},
        {"timeout", "D", "how long to wait: 90s, 15m, 6h (1h)", false},
        {"junit", "FILE", "write the checks as JUnit XML", false},
        {"supersede", NULL, "end what is open for another version", false},
        {0},
};

static const struct cli_option LIST_OPTIONS[] = {
        {"model", "NS/MODEL", "only of this model", false},
        {"environment", "NAME", "only to this environment", false},
        {"state", "STATE", "only in this state: held, awaiting_approval, live, …", false},
        {"open", NULL, "only those that are not live and have not ended", false},
        {0},
};

static const struct cli_option CANCEL_OPTIONS[] = {
        {"reason", "TEXT", "why", false},
        {0},
};

const struct cli_command CMD_PROMOTE[] = {
        {"promote", "REF", 1, 1, "ask for a version in an environment",
         "Returns when the version was judged. Exit 0: the request stands, 1: refused by policy,\n"
         "4: held for evidence. With --wait 0: reached, 1: it ended otherwise, 3: still pending "
         "when\n"
         "time was up, 4: held; 5: the server could not be reached. Waiting survives restarts of "
         "the\n"
         "server; a wait that is ended leaves the promotion pending. The same request again waits\n"
         "for the one that is open.",
         PROMOTE_OPTIONS, run_promote},
        {"promotion list", "", 0, 0, "promotions, newest first", NULL, LIST_OPTIONS, run_list},
        {"promotion show", "ID", 1, 1, "a promotion, its checks and approvals", NULL, NULL,
         run_show},
        {"promotion cancel", "ID", 1, 1, "cancel a promotion or a change request",
         "By who asked for it, or an operator (of a change: an admin).", CANCEL_OPTIONS,
         run_cancel},
        {"inbox", "", 0, 0, "what waits for my signature, with the command to type", NULL, NULL,
         run_inbox},
        {0},
};
