/* SPDX-License-Identifier: Apache-2.0 */
#include "format/pickle.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* torch.save before 1.6: three pickles before the object's own, the keys of the storages after it,
 * then the storages. Magic: 0x1950a86a20f9469cfc6c as LONG1. */
static const unsigned char OLD_TORCH[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                          0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

static void pickle_free(struct pickle **pp)
{
        struct pickle *p = *pp;

        if (p == NULL)
                return;
        free(p->stack);
        free(p->memo);
        free(p->pool);
        free(p->dicts);
        free(p->dtypes);
        fmt_names_done(&p->storages);
        free(p);
}

static int is_old_torch(struct pickle *p, uint64_t off)
{
        unsigned char b[2 + sizeof(OLD_TORCH)];
        int r;

        if (p->r->size - off < sizeof(b))
                return 0;
        r = fmt_in_at(&p->in, b, sizeof(b), off);
        if (r == 0)
                p->old_torch = b[0] == 0x80 && memcmp(b + 2, OLD_TORCH, sizeof(OLD_TORCH)) == 0;
        return r;
}

/* What stands after the pickles of an old PyTorch file: per storage its length and its bytes. */
static int check_storages(struct pickle *p, uint64_t left)
{
        uint64_t headers = p->storages.n * UINT64_C(8), want;

        if (__builtin_add_overflow(headers, p->storage_bytes, &want) || want != left)
                return fmt_stop(p->f, "%llu bytes after the last pickle, %llu expected",
                                (unsigned long long)left, (unsigned long long)want);
        return 0;
}

static bool is_pickle_start(unsigned char b)
{
        return b == 0x80;
}

/* After STOP: another pickle, or bytes that nothing accounts for. */
static int again(struct pickle *p, unsigned done, bool *ret_more)
{
        unsigned char b;
        uint64_t at = p->in.pos;
        int r;

        *ret_more = false;
        if (at == p->in.end)
                return p->old_torch && done < 4
                               ? fmt_malformed(p->f, at, "PyTorch file ends after %u pickles", done)
                               : 0;
        if (p->old_torch && done >= 5)
                return check_storages(p, p->in.end - at);
        r = fmt_pread(p->f, p->r, &b, 1, at);
        if (r < 0)
                return r;
        if (!is_pickle_start(b))
                return fmt_stop(p->f, "%llu bytes after the last pickle, from byte %llu",
                                (unsigned long long)(p->in.end - at), (unsigned long long)at);
        *ret_more = true;
        return 0;
}

static void name_format(struct fmt *f, const struct pickle *p, enum fmt_pickle_mode mode)
{
        if (mode != FMT_PICKLE_FILE)
                return;
        if (p->old_torch)
                f->info->format = "pytorch";
        else if (f->joblib)
                f->info->format = "joblib";
}

int fmt_pickle(struct fmt *f, const struct mlc_reader *r, uint64_t off, enum fmt_pickle_mode mode)
{
        _cleanup_(pickle_free) struct pickle *p = calloc(1, sizeof(*p));
        bool more = true;
        int rc;

        if (p == NULL)
                abort();
        p->f = f;
        p->r = r;
        fmt_in_init(&p->in, f, r, off, r->size);
        fmt_names_init(&p->storages);
        rc = is_old_torch(p, off);
        for (unsigned done = 0; rc == 0 && more;) {
                rc = pk_walk(p);
                if (rc == 0) {
                        f->info->n_pickles++;
                        rc = again(p, ++done, &more);
                }
        }
        name_format(f, p, mode);
        if (f->err->code == 0 && f->info->n_parameters == 0)
                f->info->n_parameters = p->storage_elements;
        return rc;
}

void *pk_grow(void *list, size_t n, size_t *size, size_t elem)
{
        size_t bigger = *size == 0 ? 64 : *size * 2;
        void *p;

        if (n < *size)
                return list;
        p = realloc(list, bigger * elem);
        if (p == NULL)
                abort();
        *size = bigger;
        return p;
}

int pk_fault(struct pickle *p, const char *what)
{
        return fmt_malformed(p->f, p->op_at, "pickle: %s", what);
}

int pk_push(struct pickle *p, uint64_t v)
{
        if (p->n_stack == PK_STACK_MAX)
                return fmt_stop(p->f, "pickle: stack of more than %zu values", PK_STACK_MAX);
        p->stack = pk_grow(p->stack, p->n_stack, &p->stack_size, sizeof(*p->stack));
        p->stack[p->n_stack++] = v;
        return 0;
}

int pk_pop(struct pickle *p, uint64_t *ret)
{
        if (p->n_stack == 0)
                return pk_fault(p, "stack underflow");
        if (pk_kind(p->stack[p->n_stack - 1]) == PK_MARK)
                return pk_fault(p, "a mark where a value is needed");
        *ret = p->stack[--p->n_stack];
        return 0;
}

size_t pk_count(uint64_t tuple)
{
        return pk_kind(tuple) == PK_TUPLE ? pk_load(tuple) & 0xfffff : 0;
}

uint64_t pk_item(const struct pickle *p, uint64_t tuple, size_t i)
{
        if (i >= pk_count(tuple))
                return pk_make(PK_OTHER, 0);
        return p->pool[(pk_load(tuple) >> 20) + i];
}

int pk_text(struct pickle *p, uint64_t v, char buf[PK_NAME_MAX + 1], bool *ret_ok)
{
        size_t len = pk_load(v) & 0x3ff;
        int r;

        *ret_ok = false;
        if (pk_kind(v) != PK_STR)
                return 0;
        r = fmt_in_at(&p->in, buf, len, pk_load(v) >> 10);
        if (r < 0)
                return r;
        buf[len] = '\0';
        *ret_ok = memchr(buf, '\0', len) == NULL;
        return 0;
}

bool pk_is(const struct pickle *p, uint64_t global, const char *module, const char *name)
{
        const struct mlc_format_import *i;

        if (pk_kind(global) != PK_GLOBAL && pk_kind(global) != PK_OBJECT)
                return false;
        assert(pk_load(global) < p->f->info->n_imports);
        i = &p->f->info->imports[pk_load(global)];
        return strcmp(i->module, module) == 0 && strcmp(i->name, name) == 0;
}

int pk_get(struct pickle *p, const struct pk_dict *d, const char *key, uint64_t *ret, bool *ret_ok)
{
        char text[PK_NAME_MAX + 1];

        *ret_ok = false;
        for (unsigned i = d->n; i-- > 0;) {
                bool ok;
                int r = pk_text(p, d->keys[i], text, &ok);

                if (r < 0)
                        return r;
                if (ok && strcmp(text, key) == 0) {
                        *ret = d->values[i];
                        *ret_ok = true;
                        return 0;
                }
        }
        return 0;
}

int pk_top(struct pickle *p, uint64_t *ret)
{
        if (p->n_stack == 0 || pk_kind(p->stack[p->n_stack - 1]) == PK_MARK)
                return pk_fault(p, "stack underflow");
        *ret = p->stack[p->n_stack - 1];
        return 0;
}

int pk_memo_put(struct pickle *p, uint64_t i)
{
        uint64_t v;
        int r = pk_top(p, &v);

        if (r < 0)
                return r;
        if (i >= PK_MEMO_MAX)
                return fmt_stop(p->f, "pickle: memo of more than %llu values",
                                (unsigned long long)PK_MEMO_MAX);
        if (i >= p->memo_size) {
                size_t size = p->memo_size == 0 ? 256 : p->memo_size;
                uint64_t *bigger;

                while (size <= i)
                        size *= 2;
                bigger = realloc(p->memo, size * sizeof(*bigger));
                if (bigger == NULL)
                        abort();
                memset(bigger + p->memo_size, 0xff, (size - p->memo_size) * sizeof(*bigger));
                p->memo = bigger;
                p->memo_size = size;
        }
        if (p->memo[i] == UINT64_MAX)
                p->n_memo++;
        p->memo[i] = v;
        return 0;
}

int pk_memo_get(struct pickle *p, uint64_t i)
{
        if (i >= p->memo_size || p->memo[i] == UINT64_MAX)
                return pk_fault(p, "memo entry was never put");
        return pk_push(p, p->memo[i]);
}
