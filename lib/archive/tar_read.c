/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/map.h"

#define INPUT_SIZE ((size_t)64 * 1024)
#define ENTRIES_DEFAULT UINT64_C(100000)
#define BYTES_DEFAULT (UINT64_C(1) << 40)
#define RATIO_DEFAULT UINT64_C(200)
#define RATIO_FROM (UINT64_C(1) << 20)
#define NAMES_MAX ((size_t)64 << 20) /* bytes of paths remembered for the collision check */

/* A path that was seen: as an entry of its own, or as the folder of one. */
struct seen {
        bool directory, listed;
        char path[];
};

struct mlc_archive {
        struct archive *lib;
        struct mlc_archive_source source;
        struct mlc_archive_limits limits;
        struct mlc_err source_err; /* what the source's read said; libarchive only knows "failed" */
        int fd; /* for mlc_archive_open_fd */
        struct mlc_map seen; /* folded path → struct seen */
        size_t seen_bytes;
        uint64_t entries, bytes;
        uint64_t left; /* of the current file */
        locale_t utf8; /* libarchive converts names by LC_CTYPE: C.UTF-8 while it runs */
        char path[MLC_PATH_MAX + 2];
        char input[INPUT_SIZE];
};

static la_ssize_t on_read(struct archive *lib, void *userdata, const void **ret)
{
        struct mlc_archive *ar = userdata;
        size_t n = 0;

        if (ar->source.read(ar->source.userdata, ar->input, sizeof(ar->input), &n,
                            &ar->source_err) < 0) {
                archive_set_error(lib, EIO, "source failed");
                return ARCHIVE_FATAL;
        }
        *ret = ar->input;
        return (la_ssize_t)n;
}

static int fd_read(void *userdata, void *buf, size_t len, size_t *ret_len, struct mlc_err *err)
{
        return mlc_read_full(*(const int *)userdata, buf, len, ret_len, err);
}

/* The reason of a libarchive call that did not return ARCHIVE_OK. */
static int fail_lib(struct mlc_archive *ar, const char *what, struct mlc_err *err)
{
        const char *text = archive_error_string(ar->lib);
        char shown[200];

        if (ar->source_err.code != 0) {
                if (err != NULL && err->code == 0)
                        *err = ar->source_err;
                return ar->source_err.code;
        }
        if (text == NULL)
                text = "no reason given";
        mlc_text_escape(text, strlen(text), shown, sizeof(shown)); /* may quote names */
        return mlc_fail(err, MLC_E_INVALID, "%s: %s", what, shown);
}

static int open_lib(struct mlc_archive *ar, struct mlc_err *err)
{
        locale_t old = uselocale(ar->utf8);
        bool ok = archive_read_support_format_tar(ar->lib) == ARCHIVE_OK &&
                  archive_read_support_filter_gzip(ar->lib) == ARCHIVE_OK &&
                  archive_read_support_filter_zstd(ar->lib) == ARCHIVE_OK &&
                  archive_read_open(ar->lib, ar, NULL, on_read, NULL) == ARCHIVE_OK;
        int r = ok ? 0 : fail_lib(ar, "not a tar archive", err);

        (void)uselocale(old);
        return r;
}

int mlc_archive_open(const struct mlc_archive_source *source,
                     const struct mlc_archive_limits *limits, struct mlc_archive **ret,
                     struct mlc_err *err)
{
        _cleanup_(mlc_archive_freep) struct mlc_archive *ar = calloc(1, sizeof(*ar));
        int r;

        if (ar == NULL)
                abort();
        mlc_map_init(&ar->seen);
        ar->fd = -1;
        ar->source = *source;
        if (limits != NULL)
                ar->limits = *limits;
        if (ar->limits.entries == 0)
                ar->limits.entries = ENTRIES_DEFAULT;
        if (ar->limits.bytes == 0)
                ar->limits.bytes = BYTES_DEFAULT;
        if (ar->limits.ratio == 0)
                ar->limits.ratio = RATIO_DEFAULT;
        ar->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
        if (ar->utf8 == (locale_t)0)
                return mlc_fail(err, MLC_E_INTERNAL, "the locale C.UTF-8 is missing");
        ar->lib = archive_read_new();
        if (ar->lib == NULL)
                abort();
        r = open_lib(ar, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(ar);
        return 0;
}

/* The source must be in place before libarchive opens, and open reads: so a holder that outlives
 * the call, which then moves into the archive. */
int mlc_archive_open_fd(int fd, const struct mlc_archive_limits *limits, struct mlc_archive **ret,
                        struct mlc_err *err)
{
        struct mlc_archive_source source = {.read = fd_read, .userdata = &fd};
        struct mlc_archive *ar;
        int r;

        r = mlc_archive_open(&source, limits, &ar, err);
        if (r < 0)
                return r;
        ar->fd = fd;
        ar->source.userdata = &ar->fd;
        *ret = ar;
        return 0;
}

void mlc_archive_free(struct mlc_archive *ar)
{
        if (ar == NULL)
                return;
        if (ar->lib != NULL)
                (void)archive_read_free(ar->lib);
        if (ar->utf8 != (locale_t)0)
                freelocale(ar->utf8);
        mlc_map_done(&ar->seen, free);
        free(ar);
}

void mlc_archive_freep(struct mlc_archive **ar)
{
        mlc_archive_free(*ar);
}

static int limit_output(struct mlc_archive *ar, uint64_t more, struct mlc_err *err)
{
        uint64_t input;

        if (more > ar->limits.bytes - ar->bytes)
                return mlc_fail(err, MLC_E_LIMIT, "archive holds more than %llu bytes",
                                (unsigned long long)ar->limits.bytes);
        ar->bytes += more;
        input = (uint64_t)archive_filter_bytes(ar->lib, -1);
        if (ar->bytes > RATIO_FROM && ar->bytes / ar->limits.ratio > input)
                return mlc_fail(err, MLC_E_LIMIT,
                                "archive unpacks to more than %llu times its size",
                                (unsigned long long)ar->limits.ratio);
        return 0;
}

/* Remembers one path; a folder may come again as a folder of something else, nothing else may. */
static int remember(struct mlc_archive *ar, const char *path, bool directory, bool listed,
                    struct mlc_err *err)
{
        char key[MLC_PATH_MAX + 1];
        size_t len = strlen(path);
        struct seen *s;

        mlc_path_fold(path, key);
        s = mlc_map_get(&ar->seen, key);
        if (s == NULL) {
                ar->seen_bytes += len + strlen(key);
                if (ar->seen_bytes > NAMES_MAX)
                        return mlc_fail(err, MLC_E_LIMIT, "archive has too many long paths");
                s = calloc(1, sizeof(*s) + len + 1);
                if (s == NULL)
                        abort();
                memcpy(s->path, path, len);
                s->directory = directory;
                s->listed = listed;
                (void)mlc_map_set(&ar->seen, key, s);
                return 0;
        }
        if (strcmp(s->path, path) != 0)
                return mlc_fail(err, MLC_E_INVALID, "paths '%s' and '%s' differ only in case",
                                s->path, path);
        if (!s->directory || !directory)
                return mlc_fail(err, MLC_E_INVALID,
                                s->directory == directory ? "path '%s' is there twice"
                                                          : "path '%s' is a file and a folder",
                                path);
        if (s->listed && listed)
                return mlc_fail(err, MLC_E_INVALID, "path '%s' is there twice", path);
        s->listed = s->listed || listed;
        return 0;
}

static int check_collision(struct mlc_archive *ar, bool directory, struct mlc_err *err)
{
        for (char *slash = strchr(ar->path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
                int r;

                *slash = '\0';
                r = remember(ar, ar->path, true, false, err);
                *slash = '/';
                if (r < 0)
                        return r;
        }
        return remember(ar, ar->path, directory, true, err);
}

static int check_type(struct archive_entry *e, const char *path, struct mlc_err *err)
{
        mode_t type = archive_entry_filetype(e);
        const char *what = NULL;

        if (archive_entry_hardlink(e) != NULL || archive_entry_symlink(e) != NULL ||
            type == AE_IFLNK)
                what = "a link";
        else if (type != AE_IFREG && type != AE_IFDIR)
                what = "a device, pipe or socket";
        else if (archive_entry_sparse_reset(e) > 0)
                what = "a sparse file";
        else if (!archive_entry_size_is_set(e) || archive_entry_size(e) < 0)
                what = "without a size";
        if (what == NULL)
                return 0;
        return mlc_fail(err, MLC_E_INVALID, "'%s' is %s; only files and folders are accepted", path,
                        what);
}

/* The name in UTF-8 into ar->path, without the slash that ends a folder's. */
static int take_path(struct mlc_archive *ar, struct archive_entry *e, struct mlc_err *err)
{
        const char *path = archive_entry_pathname_utf8(e);
        size_t len;

        if (path == NULL)
                return mlc_fail(err, MLC_E_INVALID, "entry %llu has a name that is not UTF-8",
                                (unsigned long long)ar->entries);
        len = strlen(path);
        if (len > 1 && archive_entry_filetype(e) == AE_IFDIR && path[len - 1] == '/')
                len--;
        if (len > MLC_PATH_MAX)
                return mlc_fail(err, MLC_E_INVALID, "entry %llu has a path of %zu bytes",
                                (unsigned long long)ar->entries, len);
        memcpy(ar->path, path, len);
        ar->path[len] = '\0';
        return mlc_path_check(ar->path, err);
}

static int skip_rest(struct mlc_archive *ar, struct mlc_err *err)
{
        char buf[16384];
        size_t n;

        do {
                int r = mlc_archive_read(ar, buf, sizeof(buf), &n, err);

                if (r < 0)
                        return r;
        } while (n > 0);
        return 0;
}

static int next_entry(struct mlc_archive *ar, struct mlc_archive_item *ret, bool *ret_more,
                      struct mlc_err *err)
{
        struct archive_entry *e;
        bool directory;
        int r = archive_read_next_header(ar->lib, &e);

        if (r == ARCHIVE_EOF) {
                *ret_more = false;
                return 0;
        }
        if (r != ARCHIVE_OK)
                return fail_lib(ar, "archive is damaged", err);
        if (++ar->entries > ar->limits.entries)
                return mlc_fail(err, MLC_E_LIMIT, "archive has more than %llu entries",
                                (unsigned long long)ar->limits.entries);
        r = take_path(ar, e, err);
        if (r < 0)
                return r;
        r = check_type(e, ar->path, err);
        if (r < 0)
                return r;
        directory = archive_entry_filetype(e) == AE_IFDIR;
        r = check_collision(ar, directory, err);
        if (r < 0)
                return r;
        ar->left = directory ? 0 : (uint64_t)archive_entry_size(e);
        *ret = (struct mlc_archive_item){.path = ar->path,
                                         .directory = directory,
                                         .executable = (archive_entry_perm(e) & 0111) != 0,
                                         .size = ar->left};
        *ret_more = true;
        return 0;
}

int mlc_archive_next(struct mlc_archive *ar, struct mlc_archive_item *ret, bool *ret_more,
                     struct mlc_err *err)
{
        locale_t old;
        int r = skip_rest(ar, err);

        if (r < 0)
                return r;
        old = uselocale(ar->utf8);
        r = next_entry(ar, ret, ret_more, err);
        (void)uselocale(old);
        return r;
}

int mlc_archive_read(struct mlc_archive *ar, void *buf, size_t len, size_t *ret_len,
                     struct mlc_err *err)
{
        la_ssize_t n;
        int r;

        if (ar->left == 0 || len == 0) {
                *ret_len = 0;
                return 0;
        }
        n = archive_read_data(ar->lib, buf, len < ar->left ? len : (size_t)ar->left);
        if (n < 0)
                return fail_lib(ar, "archive is damaged", err);
        if (n == 0)
                return mlc_fail(err, MLC_E_INVALID, "'%s' is shorter than its header says",
                                ar->path);
        r = limit_output(ar, (uint64_t)n, err);
        if (r < 0)
                return r;
        ar->left -= (uint64_t)n;
        *ret_len = (size_t)n;
        return 0;
}
