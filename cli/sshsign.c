/* SPDX-License-Identifier: Apache-2.0 */
#include "sshsign.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

#define ARMOUR_MAX ((size_t)64 << 10)

/* ssh-keygen writes MESSAGE.sig beside a message file; a private directory keeps that apart. */
static int write_message(char dir[PATH_MAX], const char *message, char ret_file[PATH_MAX],
                         struct mlc_err *err)
{
        const char *tmp = getenv("TMPDIR");

        (void)snprintf(dir, PATH_MAX, "%s/mlctl-XXXXXX",
                       tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
        if (mkdtemp(dir) == NULL)
                return mlc_fail_errno(err, "make directory", dir);
        if (snprintf(ret_file, PATH_MAX, "%s/message", dir) >= PATH_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "path '%.64s…' is too long", dir);
        return mlc_write_file_atomic(ret_file, message, strlen(message), 0600, err);
}

/* stdin and stderr stay the terminal's: ssh-keygen may ask for a passphrase, a touch or a PIN. */
static int run_ssh_keygen(const char *key, const char *ns, const char *file, struct mlc_err *err)
{
        pid_t pid = fork();
        int status = 0;

        if (pid < 0)
                return mlc_fail_errno(err, "start", "ssh-keygen");
        if (pid == 0) {
                (void)dup2(STDERR_FILENO, STDOUT_FILENO);
                (void)execlp("ssh-keygen", "ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", ns,
                             file, (char *)NULL);
                _exit(127);
        }
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
                return mlc_fail(err, MLC_E_USAGE, "ssh-keygen is not installed");
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return mlc_fail(err, MLC_E_USAGE,
                                "ssh-keygen could not sign with '%s'; its private half must lie "
                                "beside it or in the agent",
                                key);
        return 0;
}

int ssh_sign(const char *key, const char *ns, const char *message, char **ret_armour,
             struct mlc_err *err)
{
        char dir[PATH_MAX] = "", file[PATH_MAX] = "", sig[PATH_MAX] = "";
        size_t len;
        int r = write_message(dir, message, file, err);

        if (r == 0)
                r = run_ssh_keygen(key, ns, file, err);
        if (r == 0 && snprintf(sig, sizeof(sig), "%s.sig", file) >= (int)sizeof(sig))
                r = mlc_fail(err, MLC_E_LIMIT, "path '%.64s…' is too long", file);
        if (r == 0)
                r = mlc_read_file(sig, ARMOUR_MAX, ret_armour, &len, err);
        if (sig[0] != '\0')
                (void)unlink(sig);
        if (file[0] != '\0')
                (void)unlink(file);
        (void)rmdir(dir);
        return r;
}
