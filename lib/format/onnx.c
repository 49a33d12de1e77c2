/* SPDX-License-Identifier: Apache-2.0 */
#include "format/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/path.h"

/*
 * onnx.proto by its wire format. Every message is walked by a table of its fields; fields that the
 * table does not have are skipped, singular ones that come twice are refused: a reader of protobuf
 * would merge or override them, and so see another model than the one that was looked at.
 */
#define DEPTH_MAX 32
#define FIELDS_MAX (UINT64_C(16) << 20)
#define EXTERNAL_MAX 4096
#define NAME_MAX_LEN 1024
#define SIZE_MAX_FILE (UINT64_C(1) << 31)

enum { W_VARINT = 0, W_64 = 1, W_BYTES = 2, W_32 = 5 };

struct field {
        uint32_t number;
        unsigned wire;
        uint64_t value; /* of a varint */
        uint64_t at, len; /* of bytes */
};

struct onnx {
        struct fmt *f;
        const struct mlc_reader *r;
        struct fmt_in in;
        uint64_t fields; /* seen, as a measure of work */
        uint64_t n_nodes, n_functions;
        bool graph;
        struct mlc_str domains; /* the custom ones, "\n" around each */
        size_t inputs_size, outputs_size;
};

/* What a TensorProto says. */
struct tensor {
        char name[NAME_MAX_LEN];
        int64_t dims[MLC_FORMAT_RANK_MAX];
        size_t n_dims;
        uint64_t data_type, raw, location_kind;
        bool has_raw;
        char location[MLC_PATH_MAX + 1];
        uint64_t offset, length;
        bool external;
};

static int varint(struct onnx *o, uint64_t *ret)
{
        uint64_t at = o->in.pos, v = 0;

        for (unsigned i = 0; i < 10; i++) {
                unsigned char b;
                int r = fmt_in_bytes(&o->in, &b, 1);

                if (r < 0)
                        return r;
                if (i == 9 && b > 1)
                        break;
                v |= (uint64_t)(b & 0x7f) << (7 * i);
                if (b < 0x80) {
                        *ret = v;
                        return 0;
                }
        }
        return fmt_malformed(o->f, at, "varint longer than 64 bits");
}

/* The next field of the message that ends at `end`; bytes are passed over. */
static int next(struct onnx *o, uint64_t end, struct field *ret)
{
        uint64_t at = o->in.pos, key;
        int r;

        o->in.end = end;
        if (++o->fields > FIELDS_MAX)
                return fmt_stop(o->f, "more than %llu fields", (unsigned long long)FIELDS_MAX);
        r = varint(o, &key);
        if (r < 0)
                return r;
        *ret = (struct field){.number = (uint32_t)(key >> 3), .wire = key & 7};
        if (key >> 3 == 0 || key >> 3 > 0x1fffffff)
                return fmt_malformed(o->f, at, "field number %llu", (unsigned long long)(key >> 3));
        switch (ret->wire) {
        case W_VARINT:
                return varint(o, &ret->value);
        case W_64:
                return fmt_in_skip(&o->in, 8);
        case W_32:
                return fmt_in_skip(&o->in, 4);
        case W_BYTES:
                r = varint(o, &ret->len);
                ret->at = o->in.pos;
                return r < 0 ? r : fmt_in_skip(&o->in, ret->len);
        default:
                return fmt_malformed(o->f, at, "wire type %u", ret->wire);
        }
}

/* Singular fields among 1 to 31, as bits; the second of one is refused. */
static int once(struct onnx *o, const struct field *fl, uint32_t singular, uint32_t *seen)
{
        if (fl->number > 31 || (singular & 1u << fl->number) == 0)
                return 0;
        if ((*seen & 1u << fl->number) != 0)
                return fmt_malformed(o->f, o->in.pos, "field %u is there twice, before",
                                     fl->number);
        *seen |= 1u << fl->number;
        return 0;
}

static int wire(struct onnx *o, const struct field *fl, unsigned want)
{
        if (fl->wire != want)
                return fmt_malformed(o->f, o->in.pos, "field %u has wire type %u, before",
                                     fl->number, fl->wire);
        return 0;
}

/* How to walk one kind of message. */
struct message {
        int (*on)(struct onnx *o, const struct field *fl, void *userdata, int depth);
        uint32_t singular;
        void *userdata;
};

/* The message in a bytes field, field by field; then stands where it stood. */
static int walk(struct onnx *o, const struct field *in, const struct message *m, int depth)
{
        uint64_t back = o->in.pos, back_end = o->in.end, end = in->at + in->len;
        uint32_t seen = 0;
        int r = wire(o, in, W_BYTES);

        if (r < 0)
                return r;
        if (depth > DEPTH_MAX)
                return fmt_malformed(o->f, in->at, "nested more than %d deep", DEPTH_MAX);
        o->in.pos = in->at;
        while (r == 0 && o->in.pos < end) {
                struct field fl;
                uint64_t after;

                r = next(o, end, &fl);
                if (r == 0)
                        r = once(o, &fl, m->singular, &seen);
                after = o->in.pos;
                if (r == 0)
                        r = m->on(o, &fl, m->userdata, depth);
                o->in.pos = after;
                o->in.end = end;
        }
        o->in.pos = back;
        o->in.end = back_end;
        return r;
}

/* Text of a bytes field, cut to the buffer; *ret_cut when it was, or when it holds NUL. */
static int text(struct onnx *o, const struct field *fl, char *buf, size_t size, bool *ret_cut)
{
        size_t n = fl->len < size - 1 ? (size_t)fl->len : size - 1;
        int r = wire(o, fl, W_BYTES);

        if (r == 0)
                r = fmt_pread(o->f, o->r, buf, n, fl->at);
        if (r < 0)
                return r;
        buf[n] = '\0';
        *ret_cut = n < fl->len || memchr(buf, '\0', n) != NULL;
        return 0;
}

static int keep_text(struct onnx *o, const struct field *fl, const char **ret)
{
        char buf[MLC_FORMAT_TEXT_MAX + 2];
        bool cut;
        int r = text(o, fl, buf, sizeof(buf), &cut);

        if (r < 0)
                return r;
        *ret = fmt_text(o->f, buf, strlen(buf));
        return *ret == NULL ? o->f->err->code : 0;
}

struct pair {
        char key[NAME_MAX_LEN], value[MLC_PATH_MAX + 2];
        bool cut;
};

static int on_pair(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        struct pair *p = userdata;
        bool cut = false;
        int r = 0;

        (void)depth;
        if (fl->number == 1)
                r = text(o, fl, p->key, sizeof(p->key), &cut);
        else if (fl->number == 2)
                r = text(o, fl, p->value, sizeof(p->value), &cut);
        p->cut = p->cut || cut;
        return r;
}

static int read_pair(struct onnx *o, const struct field *fl, struct pair *p, int depth)
{
        p->key[0] = p->value[0] = '\0';
        p->cut = false;
        return walk(o, fl,
                    &(struct message){.on = on_pair, .singular = 1u << 1 | 1u << 2, .userdata = p},
                    depth + 1);
}

static int external_entry(struct onnx *o, const struct field *fl, struct tensor *t, int depth)
{
        _cleanup_(free_p) struct pair *p = malloc(sizeof(*p));
        struct mlc_err why = {0};
        unsigned long long v;
        int r;

        if (p == NULL)
                abort();
        r = read_pair(o, fl, p, depth);
        if (r < 0)
                return r;
        if (strcmp(p->key, "location") == 0) {
                if (p->cut || t->location[0] != '\0')
                        return fmt_malformed(o->f, fl->at,
                                             "location of external data is too long, "
                                             "holds NUL or is there twice");
                if (mlc_path_check(p->value, &why) < 0)
                        return fmt_malformed(o->f, fl->at, "external data: %s", why.msg);
                memcpy(t->location, p->value, strlen(p->value) + 1);
        } else if (strcmp(p->key, "offset") == 0 || strcmp(p->key, "length") == 0) {
                if (p->cut || !mlc_parse_u64(p->value, &v) || v > INT64_MAX)
                        return fmt_malformed(o->f, fl->at, "external data with a wrong %s", p->key);
                *(p->key[0] == 'o' ? &t->offset : &t->length) = v;
        }
        return 0;
}

static int dims(struct onnx *o, const struct field *fl, struct tensor *t)
{
        uint64_t v, end = fl->at + fl->len;

        if (fl->wire == W_BYTES) { /* packed */
                o->in.pos = fl->at;
                o->in.end = end;
        }
        for (bool first = true; fl->wire == W_BYTES ? o->in.pos < end : first; first = false) {
                int r = 0;

                v = fl->value;
                if (fl->wire == W_BYTES)
                        r = varint(o, &v);
                else
                        r = wire(o, fl, W_VARINT);
                if (r < 0)
                        return r;
                if (t->n_dims == MLC_FORMAT_RANK_MAX || (int64_t)v < 0)
                        return fmt_malformed(o->f, o->in.pos,
                                             "tensor with too many dimensions or a "
                                             "negative one, before");
                t->dims[t->n_dims++] = (int64_t)v;
        }
        return 0;
}

static int on_tensor(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        struct tensor *t = userdata;
        bool cut;

        switch (fl->number) {
        case 1:
                return dims(o, fl, t);
        case 2:
                t->data_type = fl->value;
                return wire(o, fl, W_VARINT);
        case 8:
                return text(o, fl, t->name, sizeof(t->name), &cut);
        case 9:
                t->has_raw = true;
                t->raw = fl->len;
                return wire(o, fl, W_BYTES);
        case 13:
                t->external = true;
                return external_entry(o, fl, t, depth);
        case 14:
                t->location_kind = fl->value;
                return wire(o, fl, W_VARINT);
        default:
                return 0;
        }
}

static int keep_external(struct onnx *o, const struct tensor *t, uint64_t at)
{
        struct mlc_format_info *i = o->f->info;
        struct mlc_format_external *list;
        uint64_t end = 0;

        if (t->location[0] == '\0')
                return fmt_malformed(o->f, at, "external data without location");
        if (t->length > 0 && __builtin_add_overflow(t->offset, t->length, &end))
                return fmt_malformed(o->f, at, "external data overflows");
        for (size_t k = 0; k < i->n_external; k++) {
                if (strcmp(i->external[k].location, t->location) != 0)
                        continue;
                if (end > i->external[k].end)
                        i->external[k].end = end;
                return 0;
        }
        if (i->n_external == EXTERNAL_MAX)
                return fmt_malformed(o->f, at, "external data in more than %d files", EXTERNAL_MAX);
        list = fmt_grow(o->f, i->external, i->n_external, &o->f->external_size, sizeof(*list));
        if (list == NULL)
                return o->f->err->code;
        i->external = list;
        list[i->n_external].end = end;
        list[i->n_external].location = mlc_arena_strdup(o->f->a, t->location, o->f->err);
        if (list[i->n_external].location == NULL)
                return o->f->err->code;
        i->n_external++;
        return 0;
}

static int check_tensor(struct onnx *o, const struct tensor *t, uint64_t at)
{
        uint64_t elements, bits;

        if (!fmt_product(t->dims, t->n_dims, &elements) ||
            __builtin_mul_overflow(elements, (uint64_t)fmt_onnx_type(t->data_type)->bits, &bits))
                return fmt_malformed(o->f, at, "tensor too large");
        if (t->location_kind > 1 || (t->location_kind == 1) != t->external)
                return fmt_malformed(o->f, at, "tensor is unclear about where its data are");
        if (t->external && t->has_raw)
                return fmt_malformed(o->f, at, "tensor with data here and elsewhere");
        if (t->has_raw && fmt_onnx_type(t->data_type)->bits != 0 &&
            t->raw != bits / 8 + (bits % 8 != 0))
                return fmt_malformed(o->f, at, "tensor of %llu bytes holds %llu",
                                     (unsigned long long)(bits / 8), (unsigned long long)t->raw);
        return t->external ? keep_external(o, t, at) : 0;
}

static int tensor(struct onnx *o, const struct field *fl, int depth)
{
        _cleanup_(free_p) struct tensor *t = calloc(1, sizeof(*t));
        struct mlc_format_tensor out;
        char unknown[24];
        int r;

        if (t == NULL)
                abort();
        r = walk(o, fl,
                 &(struct message){.on = on_tensor,
                                   .userdata = t,
                                   .singular = 1u << 2 | 1u << 8 | 1u << 9 | 1u << 14},
                 depth + 1);
        if (r == 0)
                r = check_tensor(o, t, fl->at);
        if (r < 0)
                return r;
        (void)snprintf(unknown, sizeof(unknown), "type %llu", (unsigned long long)t->data_type);
        out = (struct mlc_format_tensor){
                .name = t->name, .dims = t->dims, .n_dims = t->n_dims, .dtype = unknown};
        if (fmt_onnx_type(t->data_type)->name != NULL)
                out.dtype = fmt_onnx_type(t->data_type)->name;
        fmt_add_precision(o->f, fmt_onnx_type(t->data_type)->precision);
        return fmt_tensor(o->f, &out, fl->at);
}

static int on_sparse(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        (void)userdata;
        return fl->number == 1 || fl->number == 2 ? tensor(o, fl, depth) : 0; /* values, indices */
}

static int sparse(struct onnx *o, const struct field *fl, int depth)
{
        return walk(o, fl, &(struct message){.on = on_sparse, .singular = 1u << 1 | 1u << 2},
                    depth + 1);
}

static int graph(struct onnx *o, const struct field *fl, int depth);

static int on_attribute(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        (void)userdata;
        switch (fl->number) {
        case 5:
        case 10:
                return tensor(o, fl, depth);
        case 6:
        case 11:
                return graph(o, fl, depth);
        case 22:
        case 23:
                return sparse(o, fl, depth);
        default:
                return 0;
        }
}

static int domain(struct onnx *o, const struct field *fl)
{
        static const char *const OWN[] = {"",
                                          "ai.onnx",
                                          "ai.onnx.ml",
                                          "ai.onnx.training",
                                          "ai.onnx.preview",
                                          "ai.onnx.preview.training"};
        char name[256], marked[260];
        bool cut;
        int r = text(o, fl, name, sizeof(name), &cut);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_LEN(OWN); i++)
                if (strcmp(name, OWN[i]) == 0 && !cut)
                        return 0;
        (void)snprintf(marked, sizeof(marked), "\n%s\n", name);
        if (strstr(mlc_str_cstr(&o->domains), marked) != NULL)
                return 0;
        mlc_str_add(&o->domains, marked);
        {
                const char *shown = fmt_text(o->f, name, strlen(name));

                if (shown == NULL)
                        return o->f->err->code;
                return fmt_note(o->f, "operators of domain '%s' need code in the runtime", shown);
        }
}

static int on_node(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        (void)userdata;
        if (fl->number == 5)
                return walk(o, fl,
                            &(struct message){.on = on_attribute,
                                              .singular = 1u << 1 | 1u << 5 | 1u << 6 | 1u << 20 |
                                                          1u << 22},
                            depth + 1);
        return fl->number == 7 ? domain(o, fl) : 0;
}

static int node(struct onnx *o, const struct field *fl, int depth)
{
        o->n_nodes++;
        return walk(o, fl,
                    &(struct message){.on = on_node, .singular = 1u << 3 | 1u << 4 | 1u << 7},
                    depth + 1);
}

/* ValueInfoProto > TypeProto > Tensor > TensorShapeProto > Dimension, as one. */
struct value {
        char name[NAME_MAX_LEN];
        uint64_t type;
        int64_t dims[MLC_FORMAT_RANK_MAX];
        size_t n_dims;
        bool tensor;
};

static int on_dimension(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        struct value *v = userdata;

        (void)depth;
        if (fl->number == 1) {
                v->dims[v->n_dims] = (int64_t)fl->value < 0 ? -1 : (int64_t)fl->value;
                return wire(o, fl, W_VARINT);
        }
        return 0;
}

static int on_shape(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        struct value *v = userdata;
        int r;

        if (fl->number != 1)
                return 0;
        if (v->n_dims == MLC_FORMAT_RANK_MAX)
                return fmt_malformed(o->f, fl->at, "too many dimensions");
        v->dims[v->n_dims] = -1;
        r = walk(
                o, fl,
                &(struct message){.on = on_dimension, .userdata = v, .singular = 1u << 1 | 1u << 2},
                depth + 1);
        v->n_dims++;
        return r;
}

static int on_tensor_type(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        struct value *v = userdata;

        if (fl->number == 1) {
                v->type = fl->value;
                return wire(o, fl, W_VARINT);
        }
        if (fl->number == 2)
                return walk(o, fl, &(struct message){.on = on_shape, .userdata = v}, depth + 1);
        return 0;
}

static int on_type(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        struct value *v = userdata;

        if (fl->number != 1)
                return 0;
        v->tensor = true;
        return walk(o, fl,
                    &(struct message){
                            .on = on_tensor_type, .userdata = v, .singular = 1u << 1 | 1u << 2},
                    depth + 1);
}

static int on_value(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        struct value *v = userdata;
        bool cut;

        if (fl->number == 1)
                return text(o, fl, v->name, sizeof(v->name), &cut);
        if (fl->number == 2)
                return walk(o, fl,
                            &(struct message){.on = on_type, .userdata = v, .singular = 1u << 1},
                            depth + 1);
        return 0;
}

static int keep_value(struct onnx *o, const struct value *v, bool input)
{
        struct mlc_format_info *i = o->f->info;
        struct mlc_format_tensor **list = input ? &i->inputs : &i->outputs, *grown;
        size_t *n = input ? &i->n_inputs : &i->n_outputs;
        const char *oip = v->tensor ? fmt_onnx_type(v->type)->oip : "not a tensor";
        int64_t *copy;

        if (*n == MLC_FORMAT_TENSORS_KEPT)
                return 0;
        grown = fmt_grow(o->f, *list, *n, input ? &o->inputs_size : &o->outputs_size,
                         sizeof(*grown));
        copy = mlc_arena_array(o->f->a, v->n_dims, sizeof(*copy), o->f->err);
        if (grown == NULL || copy == NULL)
                return o->f->err->code;
        if (v->n_dims > 0)
                memcpy(copy, v->dims, v->n_dims * sizeof(*copy));
        *list = grown;
        grown[*n] = (struct mlc_format_tensor){
                .name = fmt_text(o->f, v->name, strlen(v->name)),
                .dtype = oip != NULL ? oip : "unknown",
                .dims = copy,
                .n_dims = v->n_dims,
        };
        if (grown[*n].name == NULL)
                return o->f->err->code;
        (*n)++;
        return 0;
}

static int value(struct onnx *o, const struct field *fl, bool input, int depth)
{
        _cleanup_(free_p) struct value *v = calloc(1, sizeof(*v));
        int r;

        if (v == NULL)
                abort();
        r = walk(o, fl,
                 &(struct message){.on = on_value, .userdata = v, .singular = 1u << 1 | 1u << 2},
                 depth + 1);
        return r < 0 ? r : keep_value(o, v, input);
}

static int on_graph(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        const bool *outermost = userdata;

        switch (fl->number) {
        case 1:
                return node(o, fl, depth);
        case 2:
                return *outermost ? keep_text(o, fl, &o->f->info->name) : 0;
        case 5:
                return tensor(o, fl, depth);
        case 11:
        case 12:
                return *outermost ? value(o, fl, fl->number == 11, depth) : 0;
        case 15:
                return sparse(o, fl, depth);
        default:
                return 0;
        }
}

static int graph(struct onnx *o, const struct field *fl, int depth)
{
        bool outermost = depth == 0;

        return walk(o, fl,
                    &(struct message){
                            .on = on_graph, .userdata = &outermost, .singular = 1u << 2 | 1u << 10},
                    depth + 1);
}

static int on_function(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        (void)userdata;
        if (fl->number == 7)
                return node(o, fl, depth);
        return fl->number == 11 ? on_node(o,
                                          &(struct field){.number = 5,
                                                          .wire = fl->wire,
                                                          .at = fl->at,
                                                          .len = fl->len},
                                          NULL, depth)
                                : 0;
}

static int on_training(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        (void)userdata; /* initialization and algorithm; depth + 1: neither is the model's graph */
        return fl->number == 1 || fl->number == 2 ? graph(o, fl, depth + 1) : 0;
}

struct opset {
        char domain[256];
        uint64_t version;
};

static int on_opset(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        struct opset *s = userdata;
        bool cut;
        int r;

        (void)depth;
        if (fl->number == 1) {
                r = text(o, fl, s->domain, sizeof(s->domain), &cut);
                return r < 0 ? r : domain(o, fl);
        }
        if (fl->number != 2)
                return 0;
        s->version = fl->value;
        return wire(o, fl, W_VARINT);
}

static int opset(struct onnx *o, const struct field *fl)
{
        struct opset s = {0};
        char key[300];
        int r = walk(
                o, fl,
                &(struct message){.on = on_opset, .userdata = &s, .singular = 1u << 1 | 1u << 2},
                1);

        if (r < 0)
                return r;
        (void)snprintf(key, sizeof(key), "opset%s%s", s.domain[0] != '\0' ? "." : "", s.domain);
        return fmt_meta_u64(o->f, key, s.version);
}

static int model_text(struct onnx *o, const struct field *fl)
{
        static const char *const KEYS[] = {
                [2] = "producer_name", [3] = "producer_version", [4] = "domain"};
        const char *v;
        int r = keep_text(o, fl, &v);

        if (r < 0 || v[0] == '\0')
                return r;
        return fmt_meta(o->f, KEYS[fl->number], strlen(KEYS[fl->number]), v, strlen(v));
}

static int on_model(struct onnx *o, const struct field *fl, void *userdata, int depth)
{
        _cleanup_(free_p) struct pair *p = NULL;
        int r;

        (void)userdata;
        switch (fl->number) {
        case 1:
        case 5:
                r = wire(o, fl, W_VARINT);
                return r < 0 ? r
                             : fmt_meta_u64(o->f, fl->number == 1 ? "ir_version" : "model_version",
                                            fl->value);
        case 2:
        case 3:
        case 4:
                return model_text(o, fl);
        case 7:
                o->graph = true;
                return graph(o, fl, 0);
        case 8:
                return opset(o, fl);
        case 14:
                p = malloc(sizeof(*p));
                if (p == NULL)
                        abort();
                r = read_pair(o, fl, p, depth);
                return r < 0 ? r
                             : fmt_meta(o->f, p->key, strlen(p->key), p->value, strlen(p->value));
        case 20:
                return walk(o, fl,
                            &(struct message){.on = on_training, .singular = 1u << 1 | 1u << 2},
                            depth + 1);
        case 25:
                o->n_functions++;
                return walk(o, fl, &(struct message){.on = on_function}, depth + 1);
        default:
                return 0;
        }
}

int fmt_onnx(struct fmt *f, const struct mlc_reader *r)
{
        _cleanup_(free_p) struct onnx *o = calloc(1, sizeof(*o));
        struct field all = {.number = 1, .wire = W_BYTES, .at = 0, .len = r->size};
        int rc;

        if (o == NULL)
                abort();
        if (r->size >= SIZE_MAX_FILE)
                return fmt_malformed(f, 0, "protobuf of 2 GiB or more");
        o->f = f;
        o->r = r;
        mlc_str_init(&o->domains, 65536);
        fmt_in_init(&o->in, f, r, 0, r->size);
        rc = walk(o, &all,
                  &(struct message){.on = on_model,
                                    .singular = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 |
                                                1u << 6 | 1u << 7},
                  0);
        mlc_str_done(&o->domains);
        if (rc == 0 && !o->graph)
                rc = fmt_malformed(f, 0, "model without graph");
        if (rc == 0)
                rc = fmt_meta_u64(f, "nodes", o->n_nodes);
        if (rc == 0 && o->n_functions > 0)
                rc = fmt_meta_u64(f, "functions", o->n_functions);
        return rc;
}

bool fmt_onnx_likely(const struct mlc_reader *r)
{
        struct mlc_format_info scratch = {0};
        struct mlc_err err = {0};
        struct mlc_arena a;
        struct fmt f = {.a = &a, .info = &scratch, .err = &err, .path = "", .member = ""};
        _cleanup_(free_p) struct onnx *o = calloc(1, sizeof(*o));
        bool graph_seen = false;
        int rc = 0;

        if (o == NULL)
                abort();
        mlc_arena_init(&a, 65536);
        o->f = &f;
        o->r = r;
        fmt_in_init(&o->in, &f, r, 0, r->size);
        while (rc == 0 && o->in.pos < r->size && o->fields < 4096) {
                struct field fl;

                rc = next(o, r->size, &fl);
                graph_seen = graph_seen || (rc == 0 && fl.number == 7 && fl.wire == W_BYTES);
        }
        mlc_arena_done(&a);
        return graph_seen;
}
