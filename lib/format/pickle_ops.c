/* SPDX-License-Identifier: Apache-2.0 */
#include "format/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/utf8.h"

#define LINE_MAX_LEN ((uint64_t)1 << 20)
#define TUPLE_KEPT 70
#define DICTS_MAX ((size_t)1 << 16)

/* Opcode arguments, as the stream has them. */
struct arg {
        uint64_t at, len; /* of text or data */
        uint64_t num;
        bool is_num;
        char text[PK_NAME_MAX + 1]; /* of a line; "" when it is longer */
};

static bool is_joblib_class(const struct pickle *p, uint64_t v)
{
        return pk_kind(v) == PK_GLOBAL &&
               strstr(p->f->info->imports[pk_load(v)].module, "joblib") != NULL;
}

/*
 * A class of joblib may be taken by NEWOBJ and by nothing else: elsewhere an object could be made
 * of it behind the walk's back, and joblib would read an array where the walk sees opcodes.
 */
static int check_escape(struct pickle *p, uint64_t v)
{
        if (is_joblib_class(p, v))
                return fmt_stop(p->f, "pickle: a class of joblib is passed on at byte %llu",
                                (unsigned long long)p->op_at);
        return 0;
}

static int pop(struct pickle *p, uint64_t *ret)
{
        int r = pk_pop(p, ret);

        return r < 0 ? r : check_escape(p, *ret);
}

/* Index of the first value above the topmost mark. */
static int find_mark(struct pickle *p, size_t *ret)
{
        size_t i = p->n_stack;

        while (i > 0 && pk_kind(p->stack[i - 1]) != PK_MARK) {
                int r = check_escape(p, p->stack[i - 1]);

                if (r < 0)
                        return r;
                i--;
        }
        if (i == 0)
                return pk_fault(p, "no mark on the stack");
        *ret = i;
        return 0;
}

static int need_top(struct pickle *p)
{
        uint64_t v;

        return pk_top(p, &v);
}

static uint64_t other(void)
{
        return pk_make(PK_OTHER, 0);
}

static uint64_t make_tuple(struct pickle *p, const uint64_t *items, size_t n)
{
        size_t at = p->n_pool;

        if (n > TUPLE_KEPT || at + n > PK_POOL_MAX)
                return other();
        for (size_t i = 0; i < n; i++) {
                p->pool = pk_grow(p->pool, p->n_pool, &p->pool_size, sizeof(*p->pool));
                p->pool[p->n_pool++] = items[i];
        }
        return pk_make(PK_TUPLE, (uint64_t)at << 20 | n);
}

/* Dicts matter as the state of a joblib wrapper only: before one was imported none is kept. */
static uint64_t make_dict(struct pickle *p)
{
        if (!p->f->joblib || p->n_dicts == DICTS_MAX)
                return other();
        p->dicts = pk_grow(p->dicts, p->n_dicts, &p->dicts_size, sizeof(*p->dicts));
        memset(&p->dicts[p->n_dicts], 0, sizeof(*p->dicts));
        return pk_make(PK_DICT, p->n_dicts++);
}

static void dict_set(struct pickle *p, uint64_t dict, uint64_t key, uint64_t value)
{
        struct pk_dict *d;

        if (pk_kind(dict) != PK_DICT)
                return;
        d = &p->dicts[pk_load(dict)];
        if (d->n == PK_DICT_KEYS || pk_kind(key) != PK_STR) {
                d->partial = true;
                return;
        }
        d->keys[d->n] = key;
        d->values[d->n++] = value;
}

static int import(struct pickle *p, const char *module, const char *name, uint64_t *ret)
{
        struct mlc_format_info *info = p->f->info;
        size_t i = 0;
        int r;

        p->f->opcodes += PK_IMPORT_COST;
        if (!mlc_utf8_valid(module, strlen(module)) || !mlc_utf8_valid(name, strlen(name)))
                return pk_fault(p, "import by a name that is not UTF-8");
        r = fmt_import(p->f, module, name);
        if (r < 0)
                return r;
        while (strcmp(info->imports[i].module, module) != 0 ||
               strcmp(info->imports[i].name, name) != 0)
                i++;
        if (strstr(module, "joblib") != NULL || strstr(name, "joblib") != NULL)
                p->f->joblib = true;
        *ret = pk_make(PK_GLOBAL, i);
        return 0;
}

static int push_import(struct pickle *p, const char *module, const char *name)
{
        uint64_t v;
        int r = import(p, module, name, &v);

        return r < 0 ? r : pk_push(p, v);
}

static int stack_global(struct pickle *p)
{
        char module[PK_NAME_MAX + 1], name[PK_NAME_MAX + 1];
        uint64_t m, n;
        bool ok_m = false, ok_n = false;
        int r = pop(p, &n);

        if (r == 0)
                r = pop(p, &m);
        if (r == 0)
                r = pk_text(p, n, name, &ok_n);
        if (r == 0)
                r = pk_text(p, m, module, &ok_m);
        if (r < 0)
                return r;
        if (!ok_m || !ok_n)
                return pk_fault(p, "import by a name that is not a constant string");
        return push_import(p, module, name);
}

static int tuple(struct pickle *p, size_t n)
{
        uint64_t items[3], v;

        for (size_t i = n; i-- > 0;) {
                int r = pop(p, &items[i]);

                if (r < 0)
                        return r;
        }
        v = make_tuple(p, items, n);
        return pk_push(p, v);
}

static int tuple_of_mark(struct pickle *p)
{
        size_t at;
        uint64_t v;
        int r = find_mark(p, &at);

        if (r < 0)
                return r;
        v = make_tuple(p, p->stack + at, p->n_stack - at);
        p->n_stack = at - 1;
        return pk_push(p, v);
}

static int drop_to_mark(struct pickle *p, bool and_push)
{
        size_t at;
        int r = find_mark(p, &at);

        if (r < 0)
                return r;
        p->n_stack = at - 1;
        return and_push ? pk_push(p, other()) : 0;
}

static int set_items(struct pickle *p, bool fresh)
{
        uint64_t dict;
        size_t at;
        int r = find_mark(p, &at);

        if (r < 0)
                return r;
        if ((p->n_stack - at) % 2 != 0)
                return pk_fault(p, "a key without value");
        if (!fresh && (at < 2 || pk_kind(p->stack[at - 2]) == PK_MARK))
                return pk_fault(p, "stack underflow");
        dict = fresh ? make_dict(p) : p->stack[at - 2];
        for (size_t i = at; i < p->n_stack; i += 2)
                dict_set(p, dict, p->stack[i], p->stack[i + 1]);
        p->n_stack = at - 1;
        return fresh ? pk_push(p, dict) : 0;
}

static int set_item(struct pickle *p)
{
        uint64_t k, v, dict;
        int r = pop(p, &v);

        if (r == 0)
                r = pop(p, &k);
        if (r == 0)
                r = pk_top(p, &dict);
        if (r == 0)
                dict_set(p, dict, k, v);
        return r;
}

static int append(struct pickle *p, bool many)
{
        uint64_t v;
        int r = many ? drop_to_mark(p, false) : pop(p, &v);

        return r < 0 ? r : pk_top(p, &v);
}

static int reduce(struct pickle *p)
{
        uint64_t args, callable, v = other();
        int r = pop(p, &args);

        if (r == 0)
                r = pop(p, &callable);
        if (r < 0)
                return r;
        if (pk_is(p, callable, "numpy", "dtype") && pk_kind(callable) == PK_GLOBAL)
                r = pk_dtype_new(p, args, &v);
        else if (pk_kind(callable) == PK_GLOBAL)
                v = pk_make(PK_OBJECT, pk_load(callable));
        else
                return pk_fault(p, "call of something that was not imported");
        return r < 0 ? r : pk_push(p, v);
}

/* NEWOBJ and NEWOBJ_EX: one or two values above the class. */
static int new_object(struct pickle *p, int n_args)
{
        uint64_t v, class;
        int r = 0;

        for (int i = 0; i < n_args && r == 0; i++)
                r = pop(p, &v);
        if (r == 0)
                r = pk_pop(p, &class);
        if (r < 0)
                return r;
        if (pk_kind(class) != PK_GLOBAL)
                return pk_fault(p, "object of something that was not imported");
        if (n_args == 2 && (r = check_escape(p, class)) < 0)
                return r;
        return pk_push(p, pk_make(PK_OBJECT, pk_load(class)));
}

/* OBJ: mark, class, arguments. */
static int object(struct pickle *p)
{
        uint64_t class;
        size_t at;
        int r = find_mark(p, &at);

        if (r < 0)
                return r;
        if (at == p->n_stack || pk_kind(p->stack[at]) != PK_GLOBAL)
                return pk_fault(p, "object of something that was not imported");
        class = p->stack[at];
        p->n_stack = at - 1;
        return pk_push(p, pk_make(PK_OBJECT, pk_load(class)));
}

static int instance(struct pickle *p, const char *module, const char *name)
{
        uint64_t class;
        int r = import(p, module, name, &class);

        if (r == 0)
                r = check_escape(p, class);
        if (r == 0)
                r = drop_to_mark(p, false);
        return r < 0 ? r : pk_push(p, pk_make(PK_OBJECT, pk_load(class)));
}

static int build(struct pickle *p)
{
        uint64_t state, object_at_top;
        int r = pop(p, &state);

        if (r == 0)
                r = pk_top(p, &object_at_top);
        if (r < 0)
                return r;
        if (pk_kind(object_at_top) == PK_GLOBAL)
                return pk_fault(p, "state set on an import itself");
        if (pk_kind(object_at_top) == PK_DTYPE)
                return pk_dtype_state(p, object_at_top, state);
        r = pk_built(p, object_at_top, state);
        if (r == 0 && p->f->joblib &&
            pk_is(p, object_at_top, "joblib.numpy_pickle", "NumpyArrayWrapper"))
                p->stack[p->n_stack - 1] = other(); /* joblib puts the array in its place */
        return r;
}

static int persistent(struct pickle *p)
{
        uint64_t id;
        int r = pop(p, &id);

        if (r == 0)
                r = pk_persistent(p, id);
        return r < 0 ? r : pk_push(p, other());
}

/* --- arguments --- */

static int read_line(struct pickle *p, struct arg *a)
{
        size_t n = 0;
        unsigned char c;

        a->at = p->in.pos;
        for (;;) {
                int r = fmt_in_bytes(&p->in, &c, 1);

                if (r < 0)
                        return r;
                if (c == '\n')
                        break;
                if (n < PK_NAME_MAX)
                        a->text[n] = (char)c;
                if (++n > LINE_MAX_LEN)
                        return pk_fault(p, "line too long");
        }
        a->len = n;
        a->text[n <= PK_NAME_MAX ? n : 0] = '\0';
        if (n > PK_NAME_MAX || memchr(a->text, '\0', n) != NULL)
                a->text[0] = '\0';
        return 0;
}

/* The decimal number of a line; not one that fits: is_num stays false. */
static void line_number(struct arg *a)
{
        size_t n = strlen(a->text);
        unsigned long long v;

        if (n > 0 && a->text[n - 1] == 'L')
                a->text[n - 1] = '\0';
        a->is_num = mlc_parse_u64(a->text, &v) && v < UINT64_C(1) << 60;
        if (a->is_num)
                a->num = v;
}

/* A length of `bytes` bytes, then so much data, which is passed over. */
static int read_data(struct pickle *p, unsigned bytes, struct arg *a)
{
        int r = fmt_in_uint(&p->in, bytes, &a->len);

        if (r < 0)
                return r;
        a->at = p->in.pos;
        return fmt_in_skip(&p->in, a->len);
}

static int push_string(struct pickle *p, uint64_t at, uint64_t len, bool ascii)
{
        char buf[PK_NAME_MAX];
        int r;

        if (len > PK_NAME_MAX || at >= UINT64_C(1) << 50)
                return pk_push(p, other());
        r = fmt_in_at(&p->in, buf, (size_t)len, at);
        if (r < 0)
                return r;
        if (!mlc_utf8_valid(buf, (size_t)len))
                return pk_push(p, other());
        for (size_t i = 0; i < len && ascii; i++)
                if ((unsigned char)buf[i] >= 0x80)
                        return pk_push(p, other());
        return pk_push(p, pk_make(PK_STR, at << 10 | len));
}

/* STRING and UNICODE: with an escape in it, it is no constant that we can name. */
static int push_line_string(struct pickle *p, struct arg *a, bool quoted)
{
        uint64_t at = a->at, len = a->len;

        if (quoted) {
                unsigned char q[2];
                int r;

                if (len < 2)
                        return pk_fault(p, "string without quotes");
                r = fmt_in_at(&p->in, &q[0], 1, at);
                if (r == 0)
                        r = fmt_in_at(&p->in, &q[1], 1, at + len - 1);
                if (r < 0)
                        return r;
                if (q[0] != q[1] || (q[0] != '\'' && q[0] != '"'))
                        return pk_fault(p, "string without quotes");
                at++;
                len -= 2;
        }
        if (a->len > PK_NAME_MAX || strchr(a->text, '\\') != NULL)
                return pk_push(p, other());
        return push_string(p, at, len, true);
}

/* Bytes that look like a pickle are one, for somebody: not walked, so not verified. */
static int push_bytes(struct pickle *p, unsigned length_bytes)
{
        unsigned char b[2], last;
        struct arg a;
        int r = read_data(p, length_bytes, &a);

        if (r == 0 && a.len >= 3) {
                r = fmt_in_at(&p->in, b, 2, a.at);
                if (r == 0)
                        r = fmt_in_at(&p->in, &last, 1, a.at + a.len - 1);
                if (r == 0 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5 && last == '.')
                        r = fmt_unverified(p->f, "bytes at %llu look like a pickle",
                                           (unsigned long long)a.at);
        }
        return r < 0 ? r : pk_push(p, other());
}

static int push_int(struct pickle *p, unsigned bytes)
{
        uint64_t v;
        int r = fmt_in_uint(&p->in, bytes, &v);

        if (r < 0)
                return r;
        return pk_push(p, bytes == 4 && v > INT32_MAX ? other() : pk_make(PK_INT, v));
}

static int push_long(struct pickle *p, unsigned length_bytes)
{
        unsigned char b[8];
        struct arg a;
        int r = read_data(p, length_bytes, &a);

        if (r < 0)
                return r;
        if (a.len > 7)
                return pk_push(p, other());
        r = fmt_in_at(&p->in, b, (size_t)a.len, a.at);
        if (r < 0)
                return r;
        if (a.len > 0 && b[a.len - 1] >= 0x80) /* negative */
                return pk_push(p, other());
        return pk_push(p, pk_make(PK_INT, fmt_le(b, (unsigned)a.len)));
}

/* Opcodes with a text argument, protocols 0 and 1. */
static int op_line(struct pickle *p, unsigned char op)
{
        struct arg a = {0}, b = {0};
        int r = read_line(p, &a);

        if (r < 0)
                return r;
        switch (op) {
        case 'F':
                return pk_push(p, other());
        case 'I':
                if (strcmp(a.text, "00") == 0 || strcmp(a.text, "01") == 0)
                        return pk_push(p, pk_make(PK_BOOL, 0));
                line_number(&a);
                return pk_push(p, a.is_num ? pk_make(PK_INT, a.num) : other());
        case 'L':
                line_number(&a);
                return pk_push(p, a.is_num ? pk_make(PK_INT, a.num) : other());
        case 'S':
                return push_line_string(p, &a, true);
        case 'V':
                return push_line_string(p, &a, false);
        case 'g':
        case 'p':
                line_number(&a);
                if (!a.is_num)
                        return pk_fault(p, "memo index is not a number");
                return op == 'g' ? pk_memo_get(p, a.num) : pk_memo_put(p, a.num);
        case 'P':
                return pk_fault(p, "persistent id that is not PyTorch's");
        default: /* c and i */
                r = read_line(p, &b);
                if (r < 0)
                        return r;
                if (a.text[0] == '\0' || b.text[0] == '\0')
                        return pk_fault(p, "import by an empty or overlong name");
                return op == 'c' ? push_import(p, a.text, b.text) : instance(p, a.text, b.text);
        }
}

static int op_memo(struct pickle *p, unsigned bytes, bool put)
{
        uint64_t i;
        int r = fmt_in_uint(&p->in, bytes, &i);

        if (r < 0)
                return r;
        return put ? pk_memo_put(p, i) : pk_memo_get(p, i);
}

static int op_proto(struct pickle *p)
{
        uint64_t v;
        int r = fmt_in_uint(&p->in, 1, &v);

        return r == 0 && v > 5 ? pk_fault(p, "protocol above 5") : r;
}

static int op_frame(struct pickle *p)
{
        uint64_t len;
        int r = fmt_in_uint(&p->in, 8, &len);

        return r == 0 && len > p->in.end - p->in.pos ? pk_fault(p, "frame ends after the file") : r;
}

static int op_skip(struct pickle *p, unsigned bytes)
{
        int r = fmt_in_skip(&p->in, bytes);

        return r < 0 ? r : pk_push(p, other());
}

static int op_string(struct pickle *p, unsigned length_bytes, bool ascii)
{
        struct arg a;
        int r = read_data(p, length_bytes, &a);

        return r < 0 ? r : push_string(p, a.at, a.len, ascii);
}

static int op_pop(struct pickle *p)
{
        if (p->n_stack == 0)
                return pk_fault(p, "stack underflow");
        p->n_stack--; /* takes a mark too, as CPython does */
        return 0;
}

static int op_dup(struct pickle *p)
{
        uint64_t v;
        int r = pk_top(p, &v);

        return r < 0 ? r : pk_push(p, v);
}

static int op_stop(struct pickle *p)
{
        uint64_t v;
        int r = pk_pop(p, &v);

        p->stopped = r == 0;
        return r;
}

/* Opcodes that only move values. */
static int op_plain(struct pickle *p, unsigned char op, bool *ret_done)
{
        *ret_done = true;
        switch (op) {
        case '(':
                return pk_push(p, pk_make(PK_MARK, 0));
        case '.':
                return op_stop(p);
        case '0':
                return op_pop(p);
        case '1':
                return drop_to_mark(p, false);
        case '2':
                return op_dup(p);
        case 'N':
                return pk_push(p, pk_make(PK_NONE, 0));
        case 0x88:
        case 0x89:
                return pk_push(p, pk_make(PK_BOOL, 0));
        case 'a':
                return append(p, false);
        case 'e':
        case 0x90:
                return append(p, true);
        case 'd':
                return set_items(p, true);
        case '}':
                return pk_push(p, make_dict(p));
        case 'l':
        case 0x91:
                return drop_to_mark(p, true);
        case ']':
        case 0x8f:
        case 0x97:
                return pk_push(p, other());
        case 0x98: /* makes the buffer on top read-only */
                return need_top(p);
        case 's':
                return set_item(p);
        case 'u':
                return set_items(p, false);
        case 't':
                return tuple_of_mark(p);
        case ')':
                return pk_push(p, pk_make(PK_TUPLE, (uint64_t)p->n_pool << 20));
        case 0x85:
        case 0x86:
        case 0x87:
                return tuple(p, op - 0x84u);
        case 0x94:
                return pk_memo_put(p, p->n_memo);
        default:
                *ret_done = false;
                return 0;
        }
}

/* Opcodes with an argument of bytes. */
static int op_data(struct pickle *p, unsigned char op, bool *ret_done)
{
        *ret_done = true;
        switch (op) {
        case 'K':
                return push_int(p, 1);
        case 'M':
                return push_int(p, 2);
        case 'J':
                return push_int(p, 4);
        case 'G':
                return op_skip(p, 8);
        case 0x8a:
                return push_long(p, 1);
        case 0x8b:
                return push_long(p, 4);
        case 'U':
                return op_string(p, 1, true);
        case 'T':
                return op_string(p, 4, true);
        case 0x8c:
                return op_string(p, 1, false);
        case 'X':
                return op_string(p, 4, false);
        case 0x8d:
                return op_string(p, 8, false);
        case 'C':
                return push_bytes(p, 1);
        case 'B':
                return push_bytes(p, 4);
        case 0x8e:
        case 0x96:
                return push_bytes(p, 8);
        case 'h':
                return op_memo(p, 1, false);
        case 'j':
                return op_memo(p, 4, false);
        case 'q':
                return op_memo(p, 1, true);
        case 'r':
                return op_memo(p, 4, true);
        case 0x80:
                return op_proto(p);
        case 0x95:
                return op_frame(p);
        default:
                *ret_done = false;
                return 0;
        }
}

/* Opcodes that import, call or set state. */
static int op_active(struct pickle *p, unsigned char op)
{
        switch (op) {
        case 'R':
                return reduce(p);
        case 'b':
                return build(p);
        case 'o':
                return object(p);
        case 0x81:
                return new_object(p, 1);
        case 0x92:
                return new_object(p, 2);
        case 0x93:
                return stack_global(p);
        case 'Q':
                return persistent(p);
        case 0x82:
        case 0x83:
        case 0x84:
                return pk_fault(p, "extension registry");
        case 'F':
        case 'I':
        case 'L':
        case 'S':
        case 'V':
        case 'P':
        case 'g':
        case 'p':
        case 'c':
        case 'i':
                return op_line(p, op);
        default:
                return fmt_malformed(p->f, p->op_at, "pickle: unknown opcode 0x%02x", op);
        }
}

int pk_walk(struct pickle *p)
{
        p->n_stack = 0;
        p->n_memo = 0;
        free(p->memo); /* not cleared: many small pickles after one with a large memo would cost */
        p->memo = NULL;
        p->memo_size = 0;
        p->stopped = false;
        while (!p->stopped) {
                unsigned char op;
                bool done;
                int r;

                p->op_at = p->in.pos;
                if (++p->f->opcodes > FMT_OPCODES_MAX)
                        return fmt_stop(p->f, "pickle: more than %llu opcodes",
                                        (unsigned long long)FMT_OPCODES_MAX);
                r = fmt_in_bytes(&p->in, &op, 1);
                if (r == 0)
                        r = op_plain(p, op, &done);
                if (r == 0 && !done)
                        r = op_data(p, op, &done);
                if (r == 0 && !done)
                        r = op_active(p, op);
                if (r < 0)
                        return r;
        }
        return 0;
}
