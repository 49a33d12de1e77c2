/* SPDX-License-Identifier: Apache-2.0 */
#include "format/internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "codec/utf8.h"

#define NAMES_TEXT_MAX ((size_t)32 << 20)

static int fd_pread(void *userdata, void *buf, size_t len, uint64_t off, struct mlc_err *err)
{
        return mlc_pread_exact(*(const int *)userdata, buf, len, off, err);
}

int mlc_reader_fd(struct mlc_reader *ret, const int *fd, struct mlc_err *err)
{
        struct stat st;

        if (fstat(*fd, &st) < 0)
                return mlc_fail_errno(err, "stat", "descriptor");
        if (!S_ISREG(st.st_mode))
                return mlc_fail(err, MLC_E_INVALID, "not a regular file");
        *ret = (struct mlc_reader){
                .pread = fd_pread, .size = (uint64_t)st.st_size, .userdata = (void *)(uintptr_t)fd};
        return 0;
}

static int mem_pread(void *userdata, void *buf, size_t len, uint64_t off, struct mlc_err *err)
{
        (void)err;
        memcpy(buf, (const char *)userdata + off, len);
        return 0;
}

void mlc_reader_mem(struct mlc_reader *ret, const void *data, size_t len)
{
        *ret = (struct mlc_reader){
                .pread = mem_pread, .size = len, .userdata = (void *)(uintptr_t)data};
}

int fmt_pread(struct fmt *f, const struct mlc_reader *r, void *buf, size_t len, uint64_t off)
{
        assert(off <= r->size && len <= r->size - off);
        return len == 0 ? 0 : r->pread(r->userdata, buf, len, off, f->err);
}

uint64_t fmt_le(const unsigned char *p, unsigned bytes)
{
        uint64_t v = 0;

        for (unsigned i = bytes; i-- > 0;)
                v = v << 8 | p[i];
        return v;
}

static const char *reason(struct fmt *f, const char *fmt, va_list ap)
        __attribute__((format(printf, 2, 0)));

static const char *reason(struct fmt *f, const char *fmt, va_list ap)
{
        char text[400];

        (void)vsnprintf(text, sizeof(text), fmt, ap);
        if (f->member[0] == '\0')
                return mlc_arena_strdup(f->a, text, f->err);
        return mlc_arena_printf(f->a, f->err, "%s: %s", f->member, text);
}

int fmt_malformed(struct fmt *f, uint64_t off, const char *fmt, ...)
{
        va_list ap;
        char text[300];

        if (f->info->malformed != NULL)
                return MLC_E_INVALID;
        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        f->info->malformed =
                mlc_arena_printf(f->a, f->err, "%s%s%s at byte %llu", f->member,
                                 f->member[0] != '\0' ? ": " : "", text, (unsigned long long)off);
        return f->info->malformed == NULL ? f->err->code : MLC_E_INVALID;
}

int fmt_unverified(struct fmt *f, const char *fmt, ...)
{
        va_list ap;

        if (f->info->unverified != NULL)
                return 0;
        va_start(ap, fmt);
        f->info->unverified = reason(f, fmt, ap);
        va_end(ap);
        return f->info->unverified == NULL ? f->err->code : 0;
}

int fmt_stop(struct fmt *f, const char *fmt, ...)
{
        va_list ap;

        if (f->info->unverified != NULL)
                return MLC_E_INVALID;
        va_start(ap, fmt);
        f->info->unverified = reason(f, fmt, ap);
        va_end(ap);
        return f->info->unverified == NULL ? f->err->code : MLC_E_INVALID;
}

const char *fmt_text(struct fmt *f, const char *s, size_t len)
{
        size_t keep = len < MLC_FORMAT_TEXT_MAX ? len : MLC_FORMAT_TEXT_MAX - 3;
        char shown[MLC_FORMAT_TEXT_MAX];

        while (keep < len && keep > 0 && ((unsigned char)s[keep] & 0xc0) == 0x80)
                keep--; /* not inside a character */
        if (!mlc_utf8_valid(s, keep) || memchr(s, '\0', keep) != NULL) {
                mlc_text_escape(s, keep, shown, sizeof(shown));
                return mlc_arena_strdup(f->a, shown, f->err);
        }
        return mlc_arena_printf(f->a, f->err, "%.*s%s", (int)keep, s, keep < len ? "…" : "");
}

void *fmt_grow(struct fmt *f, void *list, size_t n, size_t *size, size_t elem)
{
        size_t bigger = *size == 0 ? 8 : *size * 2;
        void *p;

        if (n < *size)
                return list;
        p = mlc_arena_array(f->a, bigger, elem, f->err);
        if (p == NULL)
                return NULL;
        if (n > 0)
                memcpy(p, list, n * elem);
        *size = bigger;
        return p;
}

int fmt_meta(struct fmt *f, const char *key, size_t key_len, const char *value, size_t value_len)
{
        struct mlc_format_info *i = f->info;
        struct mlc_format_kv *list;

        if (i->n_meta == MLC_FORMAT_META_MAX)
                return 0;
        list = fmt_grow(f, i->meta, i->n_meta, &f->meta_size, sizeof(*list));
        if (list == NULL)
                return f->err->code;
        i->meta = list;
        list[i->n_meta].key = fmt_text(f, key, key_len);
        list[i->n_meta].value = fmt_text(f, value, value_len);
        if (list[i->n_meta].key == NULL || list[i->n_meta].value == NULL)
                return f->err->code;
        i->n_meta++;
        return 0;
}

int fmt_meta_u64(struct fmt *f, const char *key, uint64_t value)
{
        char text[24];
        int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);

        return fmt_meta(f, key, strlen(key), text, (size_t)n);
}

int fmt_note(struct fmt *f, const char *fmt, ...)
{
        struct mlc_format_info *i = f->info;
        const char **list;
        va_list ap;

        if (i->n_notes == MLC_FORMAT_META_MAX)
                return 0;
        list = fmt_grow(f, i->notes, i->n_notes, &f->notes_size, sizeof(*list));
        if (list == NULL)
                return f->err->code;
        i->notes = list;
        va_start(ap, fmt);
        list[i->n_notes] = reason(f, fmt, ap);
        va_end(ap);
        if (list[i->n_notes] == NULL)
                return f->err->code;
        i->n_notes++;
        return 0;
}

void fmt_add_precision(struct fmt *f, enum fmt_precision p)
{
        if (p != FMT_PRECISION_NONE)
                f->precision |= 1u << p;
}

bool fmt_product(const int64_t *dims, size_t n, uint64_t *ret)
{
        uint64_t v = 1;
        bool zero = false;

        for (size_t i = 0; i < n; i++) {
                if (dims[i] < 0)
                        return false;
                zero = zero || dims[i] == 0;
                if (__builtin_mul_overflow(v, (uint64_t)dims[i] + (dims[i] == 0), &v))
                        return false;
        }
        *ret = zero ? 0 : v;
        return true;
}

int fmt_tensor(struct fmt *f, const struct mlc_format_tensor *t, uint64_t off)
{
        struct mlc_format_info *i = f->info;
        struct mlc_format_tensor *list;
        uint64_t elements;
        int64_t *dims;

        if (!fmt_product(t->dims, t->n_dims, &elements) ||
            __builtin_add_overflow(i->n_parameters, elements, &i->n_parameters))
                return fmt_malformed(f, off, "tensor has more elements than 64 bits can count");
        if (++i->n_tensors > MLC_FORMAT_TENSORS_MAX)
                return fmt_malformed(f, off, "more than %d tensors", MLC_FORMAT_TENSORS_MAX);
        if (i->n_tensors_kept == MLC_FORMAT_TENSORS_KEPT)
                return 0;
        list = fmt_grow(f, i->tensors, i->n_tensors_kept, &f->tensors_size, sizeof(*list));
        dims = mlc_arena_array(f->a, t->n_dims, sizeof(*dims), f->err);
        if (list == NULL || dims == NULL)
                return f->err->code;
        if (t->n_dims > 0)
                memcpy(dims, t->dims, t->n_dims * sizeof(*dims));
        i->tensors = list;
        list[i->n_tensors_kept] = (struct mlc_format_tensor){
                .name = fmt_text(f, t->name, strlen(t->name)),
                .dtype = fmt_text(f, t->dtype, strlen(t->dtype)),
                .dims = dims,
                .n_dims = t->n_dims,
        };
        if (list[i->n_tensors_kept].name == NULL || list[i->n_tensors_kept].dtype == NULL)
                return f->err->code;
        i->n_tensors_kept++;
        return 0;
}

int fmt_import(struct fmt *f, const char *module, const char *name)
{
        struct mlc_format_info *i = f->info;
        struct mlc_format_import *list;

        for (size_t k = 0; k < i->n_imports; k++)
                if (mlc_streq(i->imports[k].module, module) && mlc_streq(i->imports[k].name, name))
                        return 0;
        if (i->n_imports == MLC_FORMAT_IMPORTS_MAX)
                return fmt_malformed(f, 0, "more than %d different imports",
                                     MLC_FORMAT_IMPORTS_MAX);
        list = fmt_grow(f, i->imports, i->n_imports, &f->imports_size, sizeof(*list));
        if (list == NULL)
                return f->err->code;
        i->imports = list;
        list[i->n_imports] = (struct mlc_format_import){
                .module = mlc_arena_strdup(f->a, module, f->err),
                .name = mlc_arena_strdup(f->a, name, f->err),
                .allowed = mlc_format_import_allowed(module, name, NULL, 0),
        };
        if (list[i->n_imports].module == NULL || list[i->n_imports].name == NULL)
                return f->err->code;
        i->n_imports++;
        return 0;
}

void fmt_names_init(struct fmt_names *n)
{
        *n = (struct fmt_names){0};
        mlc_str_init(&n->text, NAMES_TEXT_MAX);
}

void fmt_names_done(struct fmt_names *n)
{
        mlc_str_done(&n->text);
        free(n->at);
        n->at = NULL;
}

int fmt_names_add(struct fmt *f, struct fmt_names *n, const char *name, size_t len)
{
        size_t at = n->text.len;

        mlc_str_addn(&n->text, name, len);
        mlc_str_addc(&n->text, '\0');
        if (n->text.over)
                return fmt_stop(f, "names of more than %zu bytes together", NAMES_TEXT_MAX);
        if (n->n == n->size) {
                size_t *p;

                n->size = n->size == 0 ? 64 : n->size * 2;
                p = realloc(n->at, n->size * sizeof(*p));
                if (p == NULL)
                        abort();
                n->at = p;
        }
        n->at[n->n++] = at;
        return 0;
}

static int by_name(const void *a, const void *b, void *text)
{
        return strcmp((const char *)text + *(const size_t *)a,
                      (const char *)text + *(const size_t *)b);
}

const char *fmt_names_twin(struct fmt_names *n)
{
        if (n->n < 2)
                return NULL;
        qsort_r(n->at, n->n, sizeof(*n->at), by_name, n->text.data);
        for (size_t i = 1; i < n->n; i++)
                if (by_name(&n->at[i - 1], &n->at[i], n->text.data) == 0)
                        return n->text.data + n->at[i];
        return NULL;
}

void fmt_in_init(struct fmt_in *in, struct fmt *f, const struct mlc_reader *r, uint64_t off,
                 uint64_t end)
{
        assert(off <= end && end <= r->size);
        in->f = f;
        in->r = r;
        in->pos = off;
        in->end = end;
        in->win_off = off;
        in->win_len = 0;
}

static int need(struct fmt_in *in, uint64_t len)
{
        if (len > in->end - in->pos)
                return fmt_malformed(in->f, in->pos, "%llu bytes needed, %llu left",
                                     (unsigned long long)len,
                                     (unsigned long long)(in->end - in->pos));
        return 0;
}

int fmt_in_bytes(struct fmt_in *in, void *buf, size_t len)
{
        int r = need(in, len);

        while (r == 0 && len > 0) {
                uint64_t from = in->pos - in->win_off;
                size_t n;

                if (in->pos < in->win_off || from >= in->win_len) {
                        n = in->end - in->pos < FMT_WINDOW ? (size_t)(in->end - in->pos)
                                                           : FMT_WINDOW;
                        r = fmt_pread(in->f, in->r, in->win, n, in->pos);
                        if (r < 0)
                                return r;
                        in->win_off = in->pos;
                        in->win_len = n;
                        from = 0;
                }
                n = in->win_len - (size_t)from < len ? in->win_len - (size_t)from : len;
                memcpy(buf, in->win + from, n);
                buf = (char *)buf + n;
                in->pos += n;
                len -= n;
        }
        return r;
}

int fmt_in_skip(struct fmt_in *in, uint64_t len)
{
        int r = need(in, len);

        if (r == 0)
                in->pos += len;
        return r;
}

int fmt_in_uint(struct fmt_in *in, unsigned bytes, uint64_t *ret)
{
        unsigned char b[8];
        int r = fmt_in_bytes(in, b, bytes);

        if (r == 0)
                *ret = fmt_le(b, bytes);
        return r;
}

int fmt_in_at(const struct fmt_in *in, void *buf, size_t len, uint64_t at)
{
        if (at >= in->win_off && at - in->win_off <= in->win_len &&
            len <= in->win_len - (at - in->win_off)) {
                memcpy(buf, in->win + (at - in->win_off), len);
                return 0;
        }
        return fmt_pread(in->f, in->r, buf, len, at);
}
