/* SPDX-License-Identifier: Apache-2.0 */
#include "base/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* posix_spawn does not write to argv, whatever its prototype says. */
static int spawn(const char *const argv[], pid_t *ret)
{
        union {
                const char *const *in;
                char *const *out;
        } u = {.in = argv};
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attr;
        sigset_t none, pipe;
        int e;

        (void)sigemptyset(&none);
        (void)sigemptyset(&pipe);
        (void)sigaddset(&pipe, SIGPIPE);
        if (posix_spawn_file_actions_init(&files) != 0 || posix_spawnattr_init(&attr) != 0)
                abort();
        (void)posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        (void)posix_spawn_file_actions_adddup2(&files, 2, 1);
        (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        (void)posix_spawnattr_setsigmask(&attr, &none);
        (void)posix_spawnattr_setsigdefault(&attr, &pipe);
        e = posix_spawnp(ret, argv[0], &files, &attr, u.out, environ);
        (void)posix_spawnattr_destroy(&attr);
        (void)posix_spawn_file_actions_destroy(&files);
        return e;
}

int mlc_run(const char *const argv[], struct mlc_err *err)
{
        int status, e;
        pid_t pid;

        e = spawn(argv, &pid);
        if (e != 0)
                return mlc_fail(err, MLC_E_IO, "cannot run '%s': %s", argv[0], strerror(e));
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return mlc_fail(err, MLC_E_IO, "cannot wait for '%s'", argv[0]);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return mlc_fail(err, MLC_E_IO, "'%s' failed with status %d", argv[0],
                                WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        return 0;
}
