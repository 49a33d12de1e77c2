/* SPDX-License-Identifier: Apache-2.0 */
#include "client/origin.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

extern char **environ;

struct env {
        const char *(*lookup)(void *userdata, const char *name);
        void *userdata;
};

/* Empty counts as absent: CI systems set what does not apply to "". */
static const char *get(const struct env *e, const char *name)
{
        const char *v = e->lookup(e->userdata, name);

        return v != NULL && v[0] != '\0' ? v : NULL;
}

static bool printable(const char *s)
{
        for (; *s != '\0'; s++)
                if ((unsigned char)*s <= 0x20 || *s == 0x7f)
                        return false;
        return true;
}

bool mlc_origin_clean_url(const char *url, char *ret, unsigned long size)
{
        const char *scheme = strstr(url, "://"), *host, *at = NULL;
        size_t n;

        if (!printable(url) || url[0] == '\0')
                return false;
        if (scheme == NULL)
                return (unsigned long)snprintf(ret, size, "%s", url) < size;
        host = scheme + 3;
        n = strcspn(host, "/?#");
        for (size_t i = 0; i < n; i++)
                if (host[i] == '@')
                        at = host + i;
        return (unsigned long)snprintf(ret, size, "%.*s%s", (int)(host - url), url,
                                       at != NULL ? at + 1 : host) < size;
}

static bool is_commit(const char *s)
{
        size_t n = strlen(s);

        return (n == 40 || n == 64) && strspn(s, "0123456789abcdef") == n;
}

static bool set_code(struct mlc_origin *o, const char *url, const char *commit, const char *from)
{
        char clean[MLC_ORIGIN_TEXT_MAX - 80];

        if (url == NULL || commit == NULL || !is_commit(commit) ||
            !mlc_origin_clean_url(url, clean, sizeof(clean)))
                return false;
        (void)snprintf(o->code, sizeof(o->code), "%s@%s", clean, commit);
        o->code_from = from;
        return true;
}

static void set_run(struct mlc_origin *o, const char *run, const char *actor, const char *from)
{
        if (run != NULL && printable(run) && strlen(run) < sizeof(o->run)) {
                (void)snprintf(o->run, sizeof(o->run), "%s", run);
                o->run_from = from;
        }
        if (actor != NULL && printable(actor) && strlen(actor) < sizeof(o->actor))
                (void)snprintf(o->actor, sizeof(o->actor), "%s", actor);
}

/* https://docs.github.com/en/actions/reference/workflows-and-actions/variables */
static bool github(const struct env *e, struct mlc_origin *o)
{
        const char *server = get(e, "GITHUB_SERVER_URL"), *repo = get(e, "GITHUB_REPOSITORY"),
                   *id = get(e, "GITHUB_RUN_ID"), *attempt = get(e, "GITHUB_RUN_ATTEMPT");
        char url[MLC_ORIGIN_TEXT_MAX / 2], run[MLC_ORIGIN_TEXT_MAX];

        if (!mlc_streq(get(e, "GITHUB_ACTIONS"), "true") || repo == NULL)
                return false;
        if (server == NULL)
                server = "https://github.com";
        if (snprintf(url, sizeof(url), "%s/%s", server, repo) >= (int)sizeof(url))
                return false;
        (void)set_code(o, url, get(e, "GITHUB_SHA"), "GitHub");
        if (id != NULL)
                (void)snprintf(run, sizeof(run), "%s/actions/runs/%s/attempts/%s", url, id,
                               attempt != NULL ? attempt : "1");
        set_run(o, id != NULL ? run : NULL, get(e, "GITHUB_ACTOR"), "GitHub");
        return true;
}

/* https://docs.gitlab.com/ci/variables/predefined_variables/ */
static bool gitlab(const struct env *e, struct mlc_origin *o)
{
        const char *run = get(e, "CI_JOB_URL");

        if (!mlc_streq(get(e, "GITLAB_CI"), "true"))
                return false;
        (void)set_code(o, get(e, "CI_PROJECT_URL"), get(e, "CI_COMMIT_SHA"), "GitLab");
        set_run(o, run != NULL ? run : get(e, "CI_PIPELINE_URL"), get(e, "GITLAB_USER_LOGIN"),
                "GitLab");
        return true;
}

/* The output of a git command, without its last newline; false when it fails or says too much. */
static bool git_says(const char *const *args, char *ret, size_t size)
{
        const char *argv[10] = {"git", "-c", "core.fsmonitor=false"};
        posix_spawn_file_actions_t actions;
        int status = 0, pipe_fds[2];
        struct mlc_err none = {0};
        size_t n = 0;
        pid_t pid;
        int r;

        for (size_t i = 0; args[i] != NULL && i < 6; i++)
                argv[3 + i] = args[i];
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return false;
        (void)posix_spawn_file_actions_init(&actions);
        (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        (void)posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], 1);
        (void)posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        r = posix_spawnp(&pid, "git", &actions, NULL, (char *const *)(const void *)argv, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
        (void)close(pipe_fds[1]);
        if (r == 0)
                r = mlc_read_full(pipe_fds[0], ret, size - 1, &n, &none);
        else
                pid = -1;
        (void)close(pipe_fds[0]); /* more than fits: git gets SIGPIPE, and counts as failed */
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (pid <= 0 || r < 0)
                return false;
        ret[n] = '\0';
        if (n > 0 && ret[n - 1] == '\n')
                ret[n - 1] = '\0';
        return n == size - 1 || (WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void checkout(struct mlc_origin *o)
{
        static const char *const head[] = {"rev-parse", "--verify", "--quiet", "HEAD", NULL};
        static const char *const remote[] = {"remote", "get-url", "origin", NULL};
        static const char *const top[] = {"rev-parse", "--show-toplevel", NULL};
        static const char *const changes[] = {"status", "--porcelain", "--untracked-files=no",
                                              NULL};
        char commit[128], url[MLC_ORIGIN_TEXT_MAX - 128], path[MLC_ORIGIN_TEXT_MAX / 2],
                status[256];

        if (!git_says(head, commit, sizeof(commit)))
                return;
        if (!git_says(remote, url, sizeof(url)) || strlen(url) == sizeof(url) - 1) {
                /* no remote: the directory's own name is all that can be said of where it is */
                const char *base;

                if (!git_says(top, path, sizeof(path)))
                        return;
                base = strrchr(path, '/');
                (void)snprintf(url, sizeof(url), "file:%s", base != NULL ? base + 1 : path);
        }
        if (!set_code(o, url, commit, "git"))
                return;
        o->dirty = git_says(changes, status, sizeof(status)) && status[0] != '\0';
}

void mlc_origin_detect(const char *(*lookup)(void *userdata, const char *name), void *userdata,
                       bool git, struct mlc_origin *ret)
{
        const struct env e = {lookup, userdata};

        *ret = (struct mlc_origin){0};
        if (!github(&e, ret) && !gitlab(&e, ret) && git)
                checkout(ret);
}
