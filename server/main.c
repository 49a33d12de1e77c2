/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>

#include "app.h"
#include "approval/approval.h"
#include "audit/audit.h"
#include "auth/auth.h"
#include "backup.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "config.h"
#include "ctx.h"
#include "gate/gate.h"
#include "promotion/promotion.h"
#include "registry/registry.h"
#include "rollout/rollout.h"
#include "store/store.h"

#define JOB_ARENA_MAX (256 << 20)
#define JOB_MS (24 * 3600000LL)

enum { EXIT_REFUSED = 1, EXIT_USAGE = 2 };

struct command {
        const char *name, *help;
        int n_positional; /* exactly */
        bool create; /* makes DIR */
        int (*run)(const struct app_config *config, const struct config_args *args,
                   struct mlc_err *err);
};

static int run_serve(const struct app_config *config, const struct config_args *args,
                     struct mlc_err *err)
{
        (void)args;
        return app_serve(config, err);
}

/* Runs `job` on DIR as a guest of the server there, or with a database started for it. */
static int run_job(const struct app_config *config, const char *name,
                   int (*job)(struct mlc_ctx *ctx), struct mlc_err *err)
{
        _cleanup_(app_close) struct app app = {.lock_fd = -1};
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        int r;

        r = app_open(&app, config, err);
        if (r < 0)
                return r;
        mlc_ctx_init(&ctx, &app, name, JOB_ARENA_MAX, JOB_MS);
        r = job(&ctx);
        if (r < 0)
                *err = ctx.err;
        return r;
}

static int admin_token(struct mlc_ctx *ctx)
{
        const char *token;
        int r = auth_admin_token(ctx, &token);

        if (r == 0)
                (void)printf("%s\n", token);
        return r;
}

static int run_admin_token(const struct app_config *config, const struct config_args *args,
                           struct mlc_err *err)
{
        (void)args;
        return run_job(config, "admin-token", admin_token, err);
}

static int rebuild_git(struct mlc_ctx *ctx)
{
        int64_t models = 0, versions = 0, documents = 0;
        int r = app_alone(ctx->app, &ctx->err);

        if (r == 0)
                r = registry_rebuild_git(ctx, &models, &versions);
        if (r == 0)
                r = gate_rebuild_git(ctx, &documents);
        if (r == 0)
                (void)printf("{\"models\":%" PRId64 ",\"versions\":%" PRId64
                             ",\"documents\":%" PRId64 "}\n",
                             models, versions, documents);
        return r;
}

static int run_rebuild_git(const struct app_config *config, const struct config_args *args,
                           struct mlc_err *err)
{
        (void)args;
        return run_job(config, "rebuild-git", rebuild_git, err);
}

static int check_store(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                       void *userdata)
{
        const char *what = NULL;
        int r = store_check(ctx, &what);

        if (r == 0 && what != NULL)
                report(userdata, what);
        return r;
}

/* Consumes the verdict; returns r. */
static int print_verdict(json_t *verdict, int r)
{
        (void)json_dumpf(verdict, stdout, JSON_COMPACT);
        (void)printf("\n");
        json_decref(verdict);
        return r;
}

static int check(struct mlc_ctx *ctx)
{
        static const struct audit_check_part parts[] = {
                {"people", auth_check},           {"blobs", check_store},
                {"repositories", registry_check}, {"documents", gate_check},
                {"approvals", approval_check},    {"promotions", promotion_check},
                {"rollouts", rollout_check}};
        _cleanup_(json_decref_p) json_t *verdict = NULL;
        int r = audit_check(ctx, parts, ARRAY_LEN(parts), &verdict);

        if (r < 0)
                return r;
        if (json_is_true(json_object_get(verdict, "ok")))
                return print_verdict(TAKE_PTR(verdict), 0);
        r = ctx_fail(ctx, MLC_E_VERIFY, "%s", json_string_value(json_object_get(verdict, "what")));
        return print_verdict(TAKE_PTR(verdict), r);
}

static int run_check(const struct app_config *config, const struct config_args *args,
                     struct mlc_err *err)
{
        _cleanup_(app_close) struct app app = {.lock_fd = -1};
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        int r;

        (void)args;
        r = app_open(&app, config, err);
        if (r == MLC_E_VERIFY)
                return print_verdict(json_pack("{sb,si,ss}", "ok", 0, "index", 0, "what", err->msg),
                                     r);
        if (r < 0)
                return r;
        mlc_ctx_init(&ctx, &app, "check", JOB_ARENA_MAX, JOB_MS);
        r = check(&ctx);
        if (r < 0)
                *err = ctx.err;
        return r;
}

/* log rotate, log succeed */
static int run_log(const struct app_config *config, const struct config_args *args,
                   struct mlc_err *err)
{
        _cleanup_(app_close) struct app app = {.lock_fd = -1};
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        bool rotate = mlc_streq(args->positional[0], "rotate");
        int r;

        if (!rotate && !mlc_streq(args->positional[0], "succeed"))
                return mlc_fail(err, MLC_E_USAGE, "log takes rotate or succeed, not '%s'",
                                args->positional[0]);
        if (!rotate && (config->reason == NULL || config->reason[0] == '\0'))
                return mlc_fail(err, MLC_E_USAGE, "log succeed needs --reason TEXT");
        r = app_open(&app, config, err);
        if (r == 0)
                r = app_alone(&app, err);
        if (r < 0)
                return r;
        mlc_ctx_init(&ctx, &app, "log", JOB_ARENA_MAX, JOB_MS);
        r = rotate ? audit_rotate(&ctx) : audit_succeed(&ctx, config->reason);
        if (r < 0)
                *err = ctx.err;
        return r;
}

static int run_backup(const struct app_config *config, const struct config_args *args,
                      struct mlc_err *err)
{
        _cleanup_(app_close) struct app app = {.lock_fd = -1};
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        int r;

        r = app_open(&app, config, err);
        if (r < 0)
                return r;
        mlc_ctx_init(&ctx, &app, "backup", JOB_ARENA_MAX, JOB_MS);
        r = backup_make(&ctx, args->positional[0]);
        if (r < 0)
                *err = ctx.err;
        return r;
}

static int run_restore(const struct app_config *config, const struct config_args *args,
                       struct mlc_err *err)
{
        return backup_restore(config, args->positional[0], err);
}

static const struct command COMMANDS[] = {
        {"serve", "run the server until SIGTERM", 0, true, run_serve},
        {"admin-token",
         "make one more token for the first administrator, print it and write it to "
         "DIR/admin-token",
         0, false, run_admin_token},
        {"rebuild-git",
         "make every model's repository anew from the database and the blobs; no server may run", 0,
         false, run_rebuild_git},
        {"check",
         "check log, anchors, rows, repositories and blobs; prints one line of JSON, exit 1 when "
         "something is wrong",
         0, false, run_check},
        {"log",
         "log rotate: make a new signing key, signed over by the present one; log succeed: begin a "
         "successor log from the state of the database (--reason); no server may run",
         1, false, run_log},
        {"backup", "copy everything to the directory TO; the server may run", 1, false, run_backup},
        {"restore", "put the backup FROM into DIR; no server may run", 1, true, run_restore},
};

static void print_help(FILE *f)
{
        (void)fprintf(f, "usage: mlctld COMMAND --data DIR [OPTION]...\n\ncommands:\n");
        for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++)
                (void)fprintf(f, "  %-22s %s\n", COMMANDS[i].name, COMMANDS[i].help);
        (void)fprintf(f, "\noptions (flags win over the environment, that over the file):\n");
        config_print_help(f);
        (void)fprintf(f, "\nmlctld --version, mlctld --help\n");
}

static void print_man(FILE *f)
{
        (void)fprintf(f,
                      ".Dd $Mdocdate$\n.Dt MLCTLD 8\n.Os\n.Sh NAME\n.Nm mlctld\n"
                      ".Nd control plane and registry for machine learning models\n.Sh SYNOPSIS\n");
        for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++)
                (void)fprintf(f, ".Nm\n.Cm %s\n.Fl Fl data Ar DIR\n.Op Ar options\n",
                              COMMANDS[i].name);
        (void)fprintf(f, ".Sh DESCRIPTION\n.Bl -tag -width Ds\n");
        for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++)
                (void)fprintf(f, ".It Cm %s\n%s.\n", COMMANDS[i].name, COMMANDS[i].help);
        (void)fprintf(f, ".El\n.Sh OPTIONS\nFlags win over the environment, that over the file.\n");
        config_print_man(f);
        (void)fprintf(f, ".Sh EXIT STATUS\n0 when stopped by a signal after a drain, 1 when the "
                         "start is refused or a "
                         "check fails, 2 for wrong usage.\n");
}

static int say(const struct mlc_err *err)
{
        (void)fprintf(stderr, "mlctld: %s\n", err->msg);
        return err->code == MLC_E_USAGE ? EXIT_USAGE : EXIT_REFUSED;
}

static int run(const struct command *command, int argc, char *argv[])
{
        struct app_config config = {0};
        struct config_args args;
        struct mlc_err err = {0};
        int r;

        if (command->run != run_serve) /* a person waits for the result, not for each event */
                mlc_log_level_min(MLC_LOG_WARN);
        r = config_read(argc, argv, command->create, &config, &args, &err);
        if (r < 0)
                return say(&err);
        if (args.n_positional != command->n_positional)
                r = mlc_fail(&err, MLC_E_USAGE,
                             "%s takes %d arguments beside options, %d were given", command->name,
                             command->n_positional, args.n_positional);
        else
                r = command->run(&config, &args, &err);
        config_done(&config);
        return r < 0 ? say(&err) : 0;
}

/* Signals are for the main thread, which asks for them; threads inherit the mask. */
static void set_signals(void)
{
        sigset_t blocked;

        (void)sigemptyset(&blocked);
        (void)sigaddset(&blocked, SIGTERM);
        (void)sigaddset(&blocked, SIGINT);
        (void)sigaddset(&blocked, SIGHUP);
        (void)sigprocmask(SIG_BLOCK, &blocked, NULL);
        (void)signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char *argv[])
{
        (void)umask(077);
        if (argc < 2) {
                print_help(stderr);
                return EXIT_USAGE;
        }
        if (mlc_streq(argv[1], "--help") || mlc_streq(argv[1], "help") ||
            mlc_streq(argv[1], "-h")) {
                print_help(stdout);
                return 0;
        }
        if (mlc_streq(argv[1], "--version")) {
                (void)printf("mlctld %s\n", MLC_VERSION);
                return 0;
        }
        if (mlc_streq(argv[1], "--man")) {
                print_man(stdout);
                return 0;
        }
        set_signals();
        for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++)
                if (mlc_streq(argv[1], COMMANDS[i].name))
                        return run(&COMMANDS[i], argc - 1, argv + 1);
        (void)fprintf(stderr, "mlctld: unknown command '%s', see mlctld --help\n", argv[1]);
        return EXIT_USAGE;
}
