/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/yaml.h"

#include <assert.h>
#include <errno.h>
#include <libfyaml.h>
#include <math.h>

#include "base/cleanup.h"
#include "base/map.h"
#include "base/str.h"
#include "base/utf8.h"
#include "codec/jcs.h"

/* Where a value stands; its children in the order of the text. */
struct mlc_yaml_node {
        const char *key; /* of a member; NULL for items and the root */
        struct mlc_yaml_pos at;
        const struct mlc_yaml_node *first, *next;
};

enum kind {
        END,
        DOCUMENT,
        DOCUMENT_END,
        SCALAR,
        SEQUENCE,
        SEQUENCE_END,
        MAPPING,
        MAPPING_END,
        ALIAS
};

/* One event of the parser, copied out of it. */
struct event {
        enum kind kind;
        struct mlc_yaml_pos at;
        const char *text; /* of a scalar; the name of an alias */
        size_t len;
        bool plain;
        const char *anchor; /* NULL: none */
        size_t start, end; /* bytes of "---" */
        bool implicit;
};

struct anchor {
        json_t *json; /* borrowed from the tree */
        const struct mlc_yaml_node *first;
        size_t n_nodes;
};

struct yaml {
        struct fy_parser *parser;
        struct fy_diag *diag;
        struct mlc_arena *a;
        struct mlc_err *err;
        struct mlc_map anchors;
        size_t n_nodes;
        unsigned n_aliases;
};

static void yaml_done(struct yaml *y)
{
        if (y->parser != NULL)
                fy_parser_destroy(y->parser);
        if (y->diag != NULL)
                fy_diag_destroy(y->diag);
        mlc_map_done(&y->anchors, NULL);
}

static int fail_at(const struct yaml *y, struct mlc_yaml_pos at, const char *what)
{
        return mlc_fail(y->err, MLC_E_INVALID, "line %u, column %u: %s", at.line, at.column, what);
}

static int limit_at(const struct yaml *y, struct mlc_yaml_pos at, const char *what, unsigned max)
{
        return mlc_fail(y->err, MLC_E_LIMIT, "line %u, column %u: more than %u %s", at.line,
                        at.column, max, what);
}

static struct mlc_yaml_pos position(const struct fy_mark *mark)
{
        if (mark == NULL || mark->line < 0 || mark->column < 0)
                return (struct mlc_yaml_pos){1, 1};
        return (struct mlc_yaml_pos){(unsigned)mark->line + 1, (unsigned)mark->column + 1};
}

/* What the parser complained about first. */
static int syntax(const struct yaml *y)
{
        void *state = NULL;
        const struct fy_diag_error *e = fy_diag_errors_iterate(y->diag, &state);

        if (e == NULL)
                return mlc_fail(y->err, MLC_E_INVALID, "this is not YAML");
        return mlc_fail(y->err, MLC_E_INVALID, "line %d, column %d: %.200s",
                        e->line > 0 ? e->line : 1, e->column > 0 ? e->column : 1,
                        e->msg != NULL ? e->msg : "this is not YAML");
}

static int copy_token(const struct yaml *y, struct fy_token *token, const char **ret,
                      size_t *ret_len)
{
        size_t len = 0;
        const char *text = fy_token_get_text(token, &len);
        char *copy =
                mlc_arena_strndup(y->a, text != NULL ? text : "", text != NULL ? len : 0, y->err);

        if (copy == NULL)
                return MLC_E_LIMIT;
        *ret = copy;
        *ret_len = text != NULL ? len : 0;
        return 0;
}

struct marks {
        struct fy_token *anchor, *tag;
};

static struct marks marks_of(const struct fy_event *e)
{
        switch (e->type) {
        case FYET_SCALAR:
                return (struct marks){e->scalar.anchor, e->scalar.tag};
        case FYET_SEQUENCE_START:
                return (struct marks){e->sequence_start.anchor, e->sequence_start.tag};
        case FYET_MAPPING_START:
                return (struct marks){e->mapping_start.anchor, e->mapping_start.tag};
        default:
                return (struct marks){0};
        }
}

static enum kind kind_of(const struct fy_event *e)
{
        switch (e->type) {
        case FYET_DOCUMENT_START:
                return DOCUMENT;
        case FYET_DOCUMENT_END:
                return DOCUMENT_END;
        case FYET_SCALAR:
                return SCALAR;
        case FYET_SEQUENCE_START:
                return SEQUENCE;
        case FYET_SEQUENCE_END:
                return SEQUENCE_END;
        case FYET_MAPPING_START:
                return MAPPING;
        case FYET_MAPPING_END:
                return MAPPING_END;
        case FYET_ALIAS:
                return ALIAS;
        default:
                return END;
        }
}

static int copy_scalar(const struct yaml *y, const struct fy_event *e, struct event *ret)
{
        enum fy_scalar_style style =
                e->scalar.value != NULL ? fy_token_scalar_style(e->scalar.value) : FYSS_PLAIN;
        int r = copy_token(y, e->scalar.value, &ret->text, &ret->len);

        if (r < 0)
                return r;
        ret->plain = style == FYSS_PLAIN;
        /* the parser's mark stands behind the quote */
        if ((style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED) && ret->at.column > 1)
                ret->at.column--;
        if (memchr(ret->text, '\0', ret->len) != NULL || !mlc_utf8_valid(ret->text, ret->len))
                return fail_at(y, ret->at, "text holds what is not text");
        return 0;
}

static int copy_event(const struct yaml *y, struct fy_event *e, struct event *ret)
{
        struct marks m = marks_of(e);
        size_t len;
        int r = 0;

        *ret = (struct event){.kind = kind_of(e), .at = position(fy_event_start_mark(e))};
        if (m.tag != NULL)
                return fail_at(y, ret->at, "tags (!…) are not accepted: leave it out");
        if (m.anchor != NULL)
                r = copy_token(y, m.anchor, &ret->anchor, &len);
        if (r < 0)
                return r;
        if (ret->kind == ALIAS)
                return copy_token(y, e->alias.anchor, &ret->text, &ret->len);
        if (ret->kind == SCALAR)
                return copy_scalar(y, e, ret);
        if (ret->kind == DOCUMENT && e->document_start.document_start != NULL) {
                const struct fy_mark *from = fy_token_start_mark(e->document_start.document_start);
                const struct fy_mark *to = fy_token_end_mark(e->document_start.document_start);

                ret->start = from != NULL ? from->input_pos : 0;
                ret->end = to != NULL ? to->input_pos : ret->start;
        } else if (ret->kind == DOCUMENT) {
                ret->implicit = true;
        }
        return 0;
}

static int next(const struct yaml *y, struct event *ret)
{
        struct fy_event *e;
        int r;

        do {
                e = fy_parser_parse(y->parser);
                if (e == NULL)
                        return syntax(y);
                if (e->type != FYET_STREAM_START && e->type != FYET_NONE)
                        break;
                fy_parser_event_free(y->parser, e);
        } while (true);
        r = copy_event(y, e, ret);
        fy_parser_event_free(y->parser, e);
        return r;
}

/* [-+]?[0-9]+ */
static bool integer_like(const char *s)
{
        s += *s == '-' || *s == '+';
        return *s != '\0' && s[strspn(s, "0123456789")] == '\0';
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool real_like(const char *s)
{
        size_t whole, part = 0;

        s += *s == '-' || *s == '+';
        whole = strspn(s, "0123456789");
        s += whole;
        if (*s == '.') {
                part = strspn(++s, "0123456789");
                s += part;
        }
        if (whole + part == 0)
                return false;
        if (*s == 'e' || *s == 'E')
                return integer_like(s + 1);
        return *s == '\0';
}

static bool one_of(const char *s, const char *const *list)
{
        for (; *list != NULL; list++)
                if (strcmp(s, *list) == 0)
                        return true;
        return false;
}

static int plain(const struct yaml *y, const struct event *e, json_t **ret)
{
        static const char *const null[] = {"", "~", "null", "Null", "NULL", NULL};
        static const char *const yes[] = {"true", "True", "TRUE", NULL};
        static const char *const no[] = {"false", "False", "FALSE", NULL};
        static const char *const odd[] = {".nan",  ".NaN",  ".NAN",  ".inf",  ".Inf",
                                          ".INF",  "-.inf", "-.Inf", "-.INF", "+.inf",
                                          "+.Inf", "+.INF", NULL};

        if (one_of(e->text, null)) {
                *ret = json_null();
        } else if (one_of(e->text, yes) || one_of(e->text, no)) {
                *ret = json_boolean(one_of(e->text, yes));
        } else if (one_of(e->text, odd)) {
                return fail_at(y, e->at, "a number must be finite");
        } else if (integer_like(e->text)) {
                long long n;

                errno = 0;
                n = strtoll(e->text, NULL, 10);
                if (errno != 0 || n > MLC_JCS_INT_MAX || n < -MLC_JCS_INT_MAX)
                        return fail_at(y, e->at,
                                       "an integer must be below 2^53 (write it in "
                                       "quotes if it is text)");
                *ret = json_integer(n);
        } else if (real_like(e->text)) {
                double d = strtod(e->text, NULL);

                if (!isfinite(d))
                        return fail_at(y, e->at, "a number must be finite");
                *ret = json_real(d);
        } else {
                *ret = json_stringn(e->text, e->len);
        }
        return 0;
}

static int count(struct yaml *y, struct mlc_yaml_pos at, size_t n)
{
        y->n_nodes += n;
        return y->n_nodes > MLC_YAML_NODES_MAX ? limit_at(y, at, "values", MLC_YAML_NODES_MAX) : 0;
}

static int alias(struct yaml *y, const struct event *e, struct mlc_yaml_node *node, json_t **ret)
{
        const struct anchor *to = mlc_map_get(&y->anchors, e->text);
        int r;

        if (to == NULL)
                return fail_at(y, e->at, "this alias has no anchor (&…) that ends before it");
        if (++y->n_aliases > MLC_YAML_ALIASES_MAX)
                return limit_at(y, e->at, "aliases", MLC_YAML_ALIASES_MAX);
        r = count(y, e->at, to->n_nodes);
        if (r < 0)
                return r;
        node->first = to->first;
        *ret = json_incref(to->json);
        return 0;
}

static int value(struct yaml *y, const struct event *e, unsigned depth, struct mlc_yaml_node *node,
                 json_t **ret);

static struct mlc_yaml_node *new_node(const struct yaml *y, struct mlc_yaml_node *last,
                                      struct mlc_yaml_node *parent, struct mlc_yaml_pos at)
{
        struct mlc_yaml_node *node = mlc_arena_alloc(y->a, sizeof(*node), y->err);

        if (node == NULL)
                return NULL;
        node->at = at;
        if (last != NULL)
                last->next = node;
        else
                parent->first = node;
        return node;
}

static int sequence(struct yaml *y, unsigned depth, struct mlc_yaml_node *node, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *list = json_array();
        struct mlc_yaml_node *last = NULL;

        while (true) {
                json_t *item = NULL;
                struct event e;
                int r = next(y, &e);

                if (r < 0)
                        return r;
                if (e.kind == SEQUENCE_END)
                        break;
                last = new_node(y, last, node, e.at);
                if (last == NULL)
                        return MLC_E_LIMIT;
                r = value(y, &e, depth + 1, last, &item);
                if (r < 0)
                        return r;
                json_array_append_new(list, item);
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static int mapping(struct yaml *y, unsigned depth, struct mlc_yaml_node *node, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *obj = json_object();
        struct mlc_yaml_node *last = NULL;

        while (true) {
                json_t *member = NULL;
                struct event key, e;
                int r = next(y, &key);

                if (r < 0)
                        return r;
                if (key.kind == MAPPING_END)
                        break;
                if (key.kind != SCALAR || key.anchor != NULL)
                        return fail_at(y, key.at, "a key must be plain text");
                if (json_object_get(obj, key.text) != NULL)
                        return fail_at(y, key.at, "this key stands here twice");
                last = new_node(y, last, node, key.at);
                if (last == NULL)
                        return MLC_E_LIMIT;
                last->key = key.text;
                r = next(y, &e);
                if (r == 0)
                        r = value(y, &e, depth + 1, last, &member);
                if (r < 0)
                        return r;
                json_object_set_new(obj, key.text, member);
        }
        *ret = TAKE_PTR(obj);
        return 0;
}

static int value(struct yaml *y, const struct event *e, unsigned depth, struct mlc_yaml_node *node,
                 json_t **ret)
{
        size_t before = y->n_nodes;
        struct anchor *anchor;
        int r = count(y, e->at, 1);

        if (r < 0)
                return r;
        if (depth > MLC_YAML_DEPTH_MAX)
                return limit_at(y, e->at, "levels", MLC_YAML_DEPTH_MAX);
        if (e->kind == ALIAS)
                return alias(y, e, node, ret);
        if (e->kind == SEQUENCE)
                r = sequence(y, depth, node, ret);
        else if (e->kind == MAPPING)
                r = mapping(y, depth, node, ret);
        else if (e->kind != SCALAR)
                return fail_at(y, e->at, "a value is missing");
        else if (e->plain)
                r = plain(y, e, ret);
        else
                *ret = json_stringn(e->text, e->len);
        if (r < 0 || e->anchor == NULL)
                return r;
        anchor = mlc_arena_alloc(y->a, sizeof(*anchor), y->err);
        if (anchor == NULL) {
                json_decref(*ret);
                return MLC_E_LIMIT;
        }
        *anchor = (struct anchor){*ret, node->first, y->n_nodes - before};
        (void)mlc_map_set(&y->anchors, e->anchor, anchor);
        return 0;
}

/* From behind "---" and the rest of its line when nothing stands there. */
static size_t after_marker(const char *text, size_t len, size_t at)
{
        size_t i = at;

        while (i < len && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r'))
                i++;
        return i < len && text[i] == '\n' ? i + 1 : at;
}

static int document(struct yaml *y, struct mlc_yaml_doc *ret)
{
        struct mlc_yaml_node *root = mlc_arena_alloc(y->a, sizeof(*root), y->err);
        _cleanup_(json_decref_p) json_t *json = NULL;
        struct event e;
        int r;

        if (root == NULL)
                return MLC_E_LIMIT;
        mlc_map_done(&y->anchors, NULL); /* they end with their document */
        mlc_map_init(&y->anchors);
        r = next(y, &e);
        if (r < 0)
                return r;
        root->at = e.at;
        r = value(y, &e, 1, root, &json);
        if (r < 0)
                return r;
        ret->json = TAKE_PTR(json);
        ret->root = root;
        r = next(y, &e);
        if (r == 0 && e.kind != DOCUMENT_END)
                r = fail_at(y, e.at, "the document should end here");
        return r;
}

static int documents(struct yaml *y, const char *text, size_t len, struct mlc_yaml *ret)
{
        struct mlc_yaml_doc *open = NULL; /* whose end is not known yet */

        while (true) {
                struct mlc_yaml_doc doc = {0};
                struct event e;
                int r = next(y, &e);

                if (r < 0)
                        return r;
                if (e.kind == END)
                        break;
                if (e.kind != DOCUMENT)
                        return fail_at(y, e.at, "a document should begin here");
                if (open != NULL && !e.implicit)
                        open->end = e.start;
                if (ret->n_docs == MLC_YAML_DOCUMENTS_MAX)
                        return limit_at(y, e.at, "documents", MLC_YAML_DOCUMENTS_MAX);
                doc.start = ret->n_docs == 0 || e.implicit ? 0 : after_marker(text, len, e.end);
                if (e.implicit && open != NULL)
                        return fail_at(y, e.at, "a further document begins with a line \"---\"");
                r = document(y, &doc);
                if (r < 0) {
                        json_decref(doc.json);
                        return r;
                }
                doc.end = len;
                if (json_is_null(doc.json))
                        continue;
                open = &ret->docs[ret->n_docs++];
                *open = doc;
        }
        return 0;
}

/* A quote doubled twice in a row makes libfyaml 0.7.12 leak memory as large as the text. */
#define QUOTES_MAX 3

static int check_text(const char *text, size_t len, struct mlc_err *err)
{
        unsigned line = 1, column = 1, quotes = 0;

        if (len > MLC_YAML_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "the text has more than %zu bytes", MLC_YAML_MAX);
        for (size_t i = 0; i < len;) {
                uint32_t c = 0;
                size_t n = mlc_utf8_next(text + i, len - i, &c);

                if (n == 0)
                        return mlc_fail(err, MLC_E_INVALID,
                                        "line %u, column %u: this byte is not UTF-8", line, column);
                if ((c < 0x20 && c != '\n' && c != '\r' && c != '\t') || (c >= 0x7f && c < 0xa0) ||
                    (c == 0xfeff && i > 0) || c == 0xfffe || c == 0xffff)
                        return mlc_fail(err, MLC_E_INVALID,
                                        "line %u, column %u: control characters are not accepted",
                                        line, column);
                if (c == '%' && column == 1)
                        return mlc_fail(err, MLC_E_INVALID,
                                        "line %u, column 1: directives (%%…) are not accepted",
                                        line);
                quotes = c == '\'' ? quotes + 1 : 0;
                if (quotes > QUOTES_MAX)
                        return mlc_fail(err, MLC_E_INVALID,
                                        "line %u, column %u: more than %d single quotes in a row: "
                                        "write the text in double quotes",
                                        line, column, QUOTES_MAX);
                column = c == '\n' ? 1 : column + 1;
                line += c == '\n';
                i += n;
        }
        return 0;
}

static int parser_new(struct yaml *y, const char *text, size_t len)
{
        struct fy_diag_cfg dc;
        struct fy_parse_cfg pc = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG |
                                           FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE |
                                           FYPCF_ALLOW_DUPLICATE_KEYS};

        fy_diag_cfg_default(&dc);
        dc.fp = NULL;
        dc.colorize = false;
        y->diag = fy_diag_create(&dc);
        if (y->diag == NULL)
                abort(); /* out of memory */
        fy_diag_set_collect_errors(y->diag, true);
        pc.diag = y->diag;
        y->parser = fy_parser_create(&pc);
        if (y->parser == NULL || fy_parser_set_string(y->parser, text, len) != 0)
                abort();
        return 0;
}

int mlc_yaml_parse(const char *text, size_t len, struct mlc_arena *a, struct mlc_yaml *ret,
                   struct mlc_err *err)
{
        _cleanup_(yaml_done) struct yaml y = {.a = a, .err = err};
        _cleanup_(mlc_yaml_done) struct mlc_yaml got = {0};
        int r = check_text(text, len, err);

        if (r < 0)
                return r;
        got.docs = mlc_arena_array(a, MLC_YAML_DOCUMENTS_MAX, sizeof(*got.docs), err);
        if (got.docs == NULL)
                return MLC_E_LIMIT;
        mlc_map_init(&y.anchors);
        if (len > 0) {
                r = parser_new(&y, text, len);
                if (r == 0)
                        r = documents(&y, text, len, &got);
                if (r < 0)
                        return r;
        }
        *ret = got;
        got = (struct mlc_yaml){0};
        return 0;
}

void mlc_yaml_done(struct mlc_yaml *y)
{
        for (size_t i = 0; i < y->n_docs; i++)
                json_decref(y->docs[i].json);
        *y = (struct mlc_yaml){0};
}

/* Whether the step of a pointer (n bytes, with ~0 and ~1) names this member. */
static bool step_is(const char *step, size_t n, const char *key)
{
        size_t k = 0;

        for (size_t i = 0; i < n; i++, k++) {
                char c = step[i];

                if (c == '~' && i + 1 < n && (step[i + 1] == '0' || step[i + 1] == '1'))
                        c = step[++i] == '0' ? '~' : '/';
                if (key[k] != c)
                        return false;
        }
        return key[k] == '\0';
}

static const struct mlc_yaml_node *child(const struct mlc_yaml_node *node, const char *step,
                                         size_t n)
{
        unsigned long long index = 0, i = 0;
        char digits[24];
        bool number = n < sizeof(digits);

        if (number) {
                memcpy(digits, step, n);
                digits[n] = '\0';
                number = mlc_parse_u64(digits, &index);
        }
        for (const struct mlc_yaml_node *c = node->first; c != NULL; c = c->next, i++)
                if (c->key != NULL ? step_is(step, n, c->key) : number && i == index)
                        return c;
        return NULL;
}

struct mlc_yaml_pos mlc_yaml_at(const struct mlc_yaml_doc *doc, const char *pointer)
{
        const struct mlc_yaml_node *node = doc->root;

        while (*pointer == '/') {
                size_t n = strcspn(++pointer, "/");
                const struct mlc_yaml_node *c = child(node, pointer, n);

                if (c == NULL)
                        break;
                node = c;
                pointer += n;
        }
        return node->at;
}
