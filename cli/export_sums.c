/* SPDX-License-Identifier: Apache-2.0 */
/* The files of an export against its SHA256SUMS. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "codec/hex.h"
#include "crypto/hash.h"
#include "export_verify.h"

#define SUMS "SHA256SUMS"
#define DEPTH_MAX 8
#define FILES_MAX 100000
#define CHUNK ((size_t)1 << 16)

struct summing {
        struct verifying *v;
        json_t *left; /* listed, and not seen yet: hex digits by name */
        size_t seen;
};

static int digest_of(struct verifying *v, int fd, char ret[65])
{
        struct mlc_sha256 h;
        struct mlc_digest d;
        char buf[CHUNK];
        size_t n = 1;

        mlc_sha256_init(&h);
        while (n > 0) {
                int r = mlc_read_full(fd, buf, sizeof(buf), &n, &v->cli->err);

                if (r < 0)
                        return r;
                mlc_sha256_update(&h, buf, n);
        }
        mlc_sha256_final(&h, &d);
        mlc_hex_encode(d.b, sizeof(d.b), ret);
        return 0;
}

static int check_file(struct summing *s, const char *path, const char *name)
{
        const char *want = json_string_value(json_object_get(s->left, name));
        _cleanup_(close_fd) int fd = -1;
        char have[65];
        int r;

        if (strcmp(name, SUMS) == 0)
                return 0;
        if (want == NULL)
                return export_wrong(s->v, name, SUMS " does not have it");
        if (++s->seen > FILES_MAX)
                return export_wrong(s->v, name, "too many files");
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return mlc_fail_errno(&s->v->cli->err, "read", path);
        r = digest_of(s->v, fd, have);
        if (r < 0)
                return r;
        if (strcmp(have, want) != 0)
                return export_wrong(s->v, name, "it is not what " SUMS " says");
        (void)json_object_del(s->left, name);
        return 0;
}

/* `name` is "" for the export itself, else ends with a slash. */
static int walk(struct summing *s, const char *name, int depth)
{
        char path[PATH_MAX], inner[PATH_MAX], folder[PATH_MAX];
        struct dirent **list = NULL;
        int n, r = 0;

        (void)snprintf(path, sizeof(path), "%s/%s", s->v->dir, name);
        n = scandir(path, &list, NULL, alphasort);
        if (n < 0)
                return mlc_fail_errno(&s->v->cli->err, "read", path);
        for (int i = 0; i < n; i++) {
                const char *base = list[i]->d_name;
                struct stat st;

                if (r == 0 && strcmp(base, ".") != 0 && strcmp(base, "..") != 0) {
                        (void)snprintf(inner, sizeof(inner), "%s%s", name, base);
                        (void)snprintf(path, sizeof(path), "%s/%s", s->v->dir, inner);
                        (void)snprintf(folder, sizeof(folder), "%s/", inner);
                        if (lstat(path, &st) < 0)
                                r = mlc_fail_errno(&s->v->cli->err, "read", path);
                        else if (S_ISREG(st.st_mode))
                                r = check_file(s, path, inner);
                        else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
                                r = walk(s, folder, depth + 1);
                        else
                                r = export_wrong(s->v, inner, "it is no file of an export");
                }
                free(list[i]);
        }
        free(list);
        return r;
}

/* "HEX  NAME" a line. */
static int read_sums(struct verifying *v, char *text, json_t *ret)
{
        char *save = NULL;

        for (char *line = strtok_r(text, "\n", &save); line != NULL;
             line = strtok_r(NULL, "\n", &save)) {
                struct mlc_digest d;

                if (strlen(line) <= 66 || line[64] != ' ' || line[65] != ' ')
                        return export_wrong(v, SUMS, "a line is no checksum and name");
                line[64] = '\0';
                if (!mlc_hex_decode(line, d.b, sizeof(d.b)) ||
                    json_object_set_new(ret, line + 66, json_string(line)) < 0)
                        return export_wrong(v, SUMS, "a line is no checksum and name");
        }
        return 0;
}

int export_check_sums(struct verifying *v)
{
        _cleanup_(json_decref_p) json_t *left = json_object();
        struct summing s = {.v = v, .left = left};
        _cleanup_(free_p) char *text = NULL;
        size_t len;
        int r = export_slurp(v, SUMS, &text, &len);

        if (r == 0)
                r = read_sums(v, text, left);
        if (r == 0)
                r = walk(&s, "", 0);
        if (r < 0)
                return r;
        (void)json_object_del(left, "names.json"); /* may be deleted */
        if (json_object_size(left) > 0)
                return export_wrong(v, json_object_iter_key(json_object_iter(left)),
                                    SUMS " has it, and it is not there");
        return 0;
}
