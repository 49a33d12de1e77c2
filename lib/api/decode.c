/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>

#include "api/check.h"
#include "base/path.h"
#include "codec/utf8.h"

static int decode_value(const struct api_at *at, const struct api_schema *s, const json_t *j,
                        void *ret);

static const char *expected(enum api_type type)
{
        static const char *const NAMES[] = {
                [API_STRING] = "a string",  [API_INTEGER] = "an integer",
                [API_NUMBER] = "a number",  [API_BOOLEAN] = "true or false",
                [API_OBJECT] = "an object", [API_ARRAY] = "an array",
                [API_MAP] = "an object",    [API_RAW] = "a value",
        };

        return NAMES[type];
}

static bool has_type(const struct api_schema *s, const json_t *j)
{
        switch (s->type) {
        case API_STRING:
                return json_is_string(j);
        case API_INTEGER:
                return json_is_integer(j);
        case API_NUMBER:
                return json_is_number(j);
        case API_BOOLEAN:
                return json_is_boolean(j);
        case API_OBJECT:
        case API_MAP:
                return json_is_object(j);
        case API_ARRAY:
                return json_is_array(j);
        case API_RAW:
                return true;
        }
        return false;
}

static void *at_offset(void *base, size_t off)
{
        return (char *)base + off;
}

static const struct api_member *find_member(const struct api_schema *s, const char *name)
{
        for (unsigned i = 0; i < s->n_members; i++)
                if (strcmp(s->members[i].name, name) == 0)
                        return &s->members[i];
        return NULL;
}

/* Members that the schema does not know are refused: a misspelt option must not be ignored. */
static int refuse_unknown(const struct api_at *at, const struct api_schema *s, const json_t *j)
{
        char pointer[MLC_JSON_POINTER_MAX], shown[64];
        const char *key;
        json_t *value;

        json_object_foreach ((json_t *)(uintptr_t)j, key, value) {
                if (find_member(s, key) != NULL)
                        continue;
                mlc_json_pointer(pointer, at->field, key);
                mlc_text_escape(key, strlen(key), shown, sizeof(shown));
                return mlc_fail_field(at->d->err, MLC_E_INVALID, pointer, "'%s' is not known here",
                                      shown);
        }
        return 0;
}

struct api_list {
        void *items;
        unsigned n;
};

static int decode_list(const struct api_at *at, const struct api_schema *s, const json_t *j,
                       struct api_list *ret);

static int decode_member(const struct api_at *outer, const struct api_member *m, const json_t *j,
                         void *base)
{
        char pointer[MLC_JSON_POINTER_MAX];
        struct api_at at = {.d = outer->d, .field = pointer};
        const json_t *value = json_object_get(j, m->name);
        void *ret = at_offset(base, m->off);
        struct api_list list = {0};
        int r;

        mlc_json_pointer(pointer, outer->field, m->name);
        if (value == NULL)
                return m->required ? mlc_fail_field(at.d->err, MLC_E_INVALID, pointer,
                                                    "is missing; expected %s",
                                                    expected(m->schema->type))
                                   : 0;
        if (json_is_null(value) && m->schema->nullable)
                return 0;
        if (m->schema->type == API_ARRAY || m->schema->type == API_MAP) {
                r = decode_list(&at, m->schema, value, &list);
                if (r < 0)
                        return r;
                memcpy(ret, &list.items, sizeof(list.items));
                *(unsigned *)at_offset(base, m->off_has) = list.n;
                return 0;
        }
        if (m->schema->type == API_OBJECT) {
                void *made = mlc_arena_alloc(at.d->arena, m->schema->size, at.d->err);

                if (made == NULL)
                        return MLC_E_LIMIT;
                r = decode_value(&at, m->schema, value, made);
                if (r < 0)
                        return r;
                memcpy(ret, &made, sizeof(made));
                return 0;
        }
        r = decode_value(&at, m->schema, value, ret);
        if (r == 0 && m->off_has != API_NO_OFFSET)
                *(bool *)at_offset(base, m->off_has) = true;
        return r;
}

static int decode_object(const struct api_at *at, const struct api_schema *s, const json_t *j,
                         void *ret)
{
        int r = refuse_unknown(at, s, j);

        for (unsigned i = 0; r == 0 && i < s->n_members; i++)
                r = decode_member(at, &s->members[i], j, ret);
        return r;
}

static int list_alloc(const struct api_at *at, const struct api_schema *s, size_t n,
                      struct api_list *ret)
{
        int r = api_check_len(at, s, n, s->type == API_ARRAY ? "items" : "members");

        if (r < 0)
                return r;
        ret->items = mlc_arena_array(at->d->arena, n, s->size, at->d->err);
        ret->n = (unsigned)n;
        return ret->items == NULL ? MLC_E_LIMIT : 0;
}

static int decode_map(const struct api_at *outer, const struct api_schema *s, const json_t *j,
                      struct api_list *ret)
{
        char pointer[MLC_JSON_POINTER_MAX];
        struct api_at at = {.d = outer->d, .field = pointer};
        const char *key;
        json_t *value;
        size_t i = 0;
        int r = list_alloc(outer, s, json_object_size(j), ret);

        if (r < 0)
                return r;
        json_object_foreach ((json_t *)(uintptr_t)j, key, value) {
                char *entry = (char *)ret->items + s->size * i++;

                mlc_json_pointer(pointer, outer->field, key);
                memcpy(entry, &key, sizeof(key));
                r = decode_value(&at, s->item, value, entry + s->item_off);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int decode_list(const struct api_at *outer, const struct api_schema *s, const json_t *j,
                       struct api_list *ret)
{
        char pointer[MLC_JSON_POINTER_MAX], index[24];
        struct api_at at = {.d = outer->d, .field = pointer};
        int r;

        if (!has_type(s, j))
                return mlc_fail_field(at.d->err, MLC_E_INVALID, outer->field, "must be %s",
                                      expected(s->type));
        if (s->type == API_MAP)
                return decode_map(outer, s, j, ret);
        r = list_alloc(outer, s, json_array_size(j), ret);
        for (unsigned i = 0; r == 0 && i < ret->n; i++) {
                (void)snprintf(index, sizeof(index), "%u", i);
                mlc_json_pointer(pointer, outer->field, index);
                r = decode_value(&at, s->item, json_array_get(j, i),
                                 (char *)ret->items + s->size * i);
        }
        return r;
}

static int decode_value(const struct api_at *at, const struct api_schema *s, const json_t *j,
                        void *ret)
{
        if (!has_type(s, j))
                return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "must be %s%s",
                                      expected(s->type), s->nullable ? " or null" : "");
        switch (s->type) {
        case API_STRING:
                *(const char **)ret = json_string_value(j);
                return api_check_string(at, s, json_string_value(j));
        case API_INTEGER:
                *(int64_t *)ret = json_integer_value(j);
                return api_check_int(at, s, json_integer_value(j));
        case API_NUMBER:
                *(double *)ret = json_number_value(j);
                return api_check_number(at, s, json_number_value(j));
        case API_BOOLEAN:
                *(bool *)ret = json_is_true(j);
                return 0;
        case API_RAW:
                *(const json_t **)ret = j;
                return 0;
        case API_OBJECT:
                return decode_object(at, s, j, ret);
        case API_ARRAY:
        case API_MAP:
                break;
        }
        assert(!"the generator makes no lists of lists");
        return MLC_E_INTERNAL;
}

int api_decode_body(const struct api_decoder *d, const struct api_schema *schema,
                    const json_t *body, void *ret)
{
        struct api_at at = {.d = d, .field = ""};

        assert(schema->type == API_OBJECT);
        if (!json_is_object(body))
                return mlc_fail(d->err, MLC_E_INVALID, "the body must be a JSON object");
        return decode_object(&at, schema, body, ret);
}

static int parse_int(const struct api_at *at, const struct api_schema *s, const char *text,
                     int64_t *ret)
{
        char *end = NULL;
        long long n;

        errno = 0;
        n = strtoll(text, &end, 10);
        if (end == text || *end != '\0' || errno != 0 || strchr("-0123456789", text[0]) == NULL)
                return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "must be an integer");
        *ret = n;
        return api_check_int(at, s, n);
}

static int parse_number(const struct api_at *at, const struct api_schema *s, const char *text,
                        double *ret)
{
        char *end = NULL;
        double n = strtod(text, &end);

        if (end == text || *end != '\0' || strspn(text, "-+.eE0123456789") != strlen(text))
                return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "must be a number");
        *ret = n;
        return api_check_number(at, s, n);
}

static int parse_scalar(const struct api_at *at, const struct api_schema *s, const char *text,
                        void *ret)
{
        switch (s->type) {
        case API_STRING:
                *(const char **)ret = text;
                return api_check_string(at, s, text);
        case API_INTEGER:
                return parse_int(at, s, text, ret);
        case API_NUMBER:
                return parse_number(at, s, text, ret);
        case API_BOOLEAN:
                if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
                        return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field,
                                              "must be true or false");
                *(bool *)ret = text[0] == 't';
                return 0;
        case API_OBJECT:
        case API_ARRAY:
        case API_MAP:
        case API_RAW:
                break;
        }
        assert(!"the generator makes no such parameters");
        return MLC_E_INTERNAL;
}

static int check_text(const struct api_at *at, const char *text)
{
        if (!mlc_utf8_valid(text, strlen(text)))
                return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "must be UTF-8");
        for (const char *c = text; *c != '\0'; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field,
                                              "must not have control characters");
        return 0;
}

static int decode_repeated(const struct api_at *at, const struct api_member *m,
                           const char *const *values, unsigned n, void *req)
{
        struct api_list list = {0};
        int r = list_alloc(at, m->schema, n, &list);

        for (unsigned i = 0; r == 0 && i < n; i++)
                r = parse_scalar(at, m->schema->item, values[i],
                                 (char *)list.items + m->schema->size * i);
        if (r < 0)
                return r;
        memcpy(at_offset(req, m->off), &list.items, sizeof(list.items));
        *(unsigned *)at_offset(req, m->off_has) = list.n;
        return 0;
}

int api_decode_param(const struct api_decoder *d, const struct api_param *param,
                     const char *const *values, unsigned n, void *req)
{
        static const char *const PLACES[] = {
                [API_PATH] = "path", [API_QUERY] = "query", [API_HEADER] = "header"};
        const struct api_member *m = &param->member;
        char field[MLC_JSON_POINTER_MAX];
        struct api_at at = {.d = d, .field = field};
        int r = 0;

        (void)snprintf(field, sizeof(field), "%s:%s", PLACES[param->place], m->name);
        if (n == 0)
                return m->required ? mlc_fail_field(d->err, MLC_E_INVALID, field, "is missing") : 0;
        for (unsigned i = 0; r == 0 && i < n; i++)
                r = check_text(&at, values[i]);
        if (r < 0)
                return r;
        if (m->schema->type == API_ARRAY)
                return decode_repeated(&at, m, values, n, req);
        if (n > 1)
                return mlc_fail_field(d->err, MLC_E_INVALID, field, "is given more than once");
        r = parse_scalar(&at, m->schema, values[0], at_offset(req, m->off));
        if (r == 0 && m->off_has != API_NO_OFFSET)
                *(bool *)at_offset(req, m->off_has) = true;
        return r;
}
