/* SPDX-License-Identifier: Apache-2.0 */
#include "table_internal.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "rollout/bucket.h"

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
/* RFC 9110 token, for names of headers and cookies */
#define TOKEN_CHARS NAME_CHARS "!#$%&'*+^`|~"

/* Where in the document. Written out as a JSON pointer only when something is wrong there. */
struct place {
        const struct place *up; /* NULL: the document itself */
        const char *key; /* NULL: element `index` */
        size_t index;
};

struct pointer {
        char text[MLC_JSON_POINTER_MAX];
};

static struct place member(const struct place *p, const char *key)
{
        return (struct place){p, key, 0};
}

static struct place element(const struct place *p, size_t i)
{
        return (struct place){p, NULL, i};
}

static struct pointer pointer_to(const struct place *p)
{
        struct pointer r = {.text = ""}, up;
        char number[24];

        if (p->up == NULL)
                return r;
        up = pointer_to(p->up);
        (void)snprintf(number, sizeof(number), "%zu", p->index);
        mlc_json_pointer(r.text, up.text, p->key == NULL ? number : p->key);
        return r;
}

/* For errors whose field is relative to `p`. */
static int located(const struct place *p, int r, struct mlc_err *err)
{
        struct pointer whole = pointer_to(p);
        size_t len = strlen(whole.text);
        char inner[sizeof(err->field)];

        memcpy(inner, err->field, sizeof(inner));
        (void)snprintf(err->field, sizeof(err->field), "%s", whole.text);
        (void)snprintf(err->field + len, sizeof(err->field) - len, "%s", inner);
        return r;
}

/* A getter's result: its error gets the place of the object. */
#define IN(p, call)                                                                                \
        __extension__({                                                                            \
                int _r = (call);                                                                   \
                _r < 0 ? located((p), _r, err) : 0;                                                \
        })

static int copy_text(char *ret, size_t size, const char *s, const char *chars,
                     const struct place *at, struct mlc_err *err)
{
        size_t len = strlen(s);

        if (len >= size)
                return mlc_fail_field(err, MLC_E_LIMIT, pointer_to(at).text,
                                      "at most %zu characters are allowed", size - 1);
        if (chars != NULL && (len == 0 || strspn(s, chars) != len))
                return mlc_fail_field(err, MLC_E_INVALID, pointer_to(at).text,
                                      "\"%s\" has characters that are not allowed here", s);
        memset(ret, 0, size);
        memcpy(ret, s, len);
        return 0;
}

static int get_text(const json_t *obj, const struct place *p, const char *key, char *ret,
                    size_t size, struct mlc_err *err)
{
        struct place at = member(p, key);
        const char *s;
        int r = IN(p, mlc_json_get_str(obj, "", key, &s, err));

        return r < 0 ? r : copy_text(ret, size, s, NAME_CHARS, &at, err);
}

static int in_range(int64_t v, int64_t lo, int64_t hi, const struct place *at, struct mlc_err *err)
{
        if (v >= lo && v <= hi)
                return 0;
        return mlc_fail_field(err, MLC_E_INVALID, pointer_to(at).text,
                              "a whole number from %" PRId64 " to %" PRId64 " is needed", lo, hi);
}

static int get_number(const json_t *obj, const struct place *p, const char *key, int64_t max,
                      int64_t *ret, struct mlc_err *err)
{
        struct place at = member(p, key);
        int r = IN(p, mlc_json_get_i64(obj, "", key, ret, err));

        return r < 0 ? r : in_range(*ret, 0, max, &at, err);
}

/* ADDRESS:PORT, [ADDRESS]:PORT for IPv6; names are not resolved here */
static bool parse_address(const char *text, struct gw_address *ret)
{
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
        struct sockaddr_in v4 = {.sin_family = AF_INET};
        const char *colon = strrchr(text, ':');
        char host[INET6_ADDRSTRLEN + 2];
        unsigned long long port;
        size_t len;

        memset(ret, 0, sizeof(*ret));
        if (colon == NULL || strlen(text) >= sizeof(ret->text) ||
            !mlc_parse_u64(colon + 1, &port) || port == 0 || port > 65535)
                return false;
        len = (size_t)(colon - text);
        if (len >= sizeof(host))
                return false;
        memcpy(host, text, len);
        host[len] = '\0';
        if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
                v4.sin_port = htons((uint16_t)port);
                ret->len = sizeof(v4);
                memcpy(ret->raw, &v4, sizeof(v4));
                return true;
        }
        if (len < 2 || host[0] != '[' || host[len - 1] != ']')
                return false;
        host[len - 1] = '\0';
        if (inet_pton(AF_INET6, host + 1, &v6.sin6_addr) != 1)
                return false;
        v6.sin6_port = htons((uint16_t)port);
        ret->len = sizeof(v6);
        memcpy(ret->raw, &v6, sizeof(v6));
        return true;
}

/* So that the text depends on nothing but `raw`. */
static void write_address(struct gw_address *a)
{
        char host[INET6_ADDRSTRLEN] = "";
        struct sockaddr_in6 v6;
        struct sockaddr_in v4;

        if (a->len == sizeof(v4)) {
                memcpy(&v4, a->raw, sizeof(v4));
                (void)inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host));
                (void)snprintf(a->text, sizeof(a->text), "%s:%u", host, ntohs(v4.sin_port));
                return;
        }
        memcpy(&v6, a->raw, sizeof(v6));
        (void)inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host));
        (void)snprintf(a->text, sizeof(a->text), "[%s]:%u", host, ntohs(v6.sin6_port));
}

/* The index of the address in t, added when it is new. */
static int add_address(struct gw_table *t, const char *text, const struct place *at, uint16_t *ret,
                       struct mlc_err *err)
{
        struct gw_address a;

        if (!parse_address(text, &a))
                return mlc_fail_field(err, MLC_E_INVALID, pointer_to(at).text,
                                      "\"%s\" is not ADDRESS:PORT (a name must be resolved first)",
                                      text);
        *ret = gw_table_address(t, &a);
        if (*ret != GW_NONE)
                return 0;
        write_address(&a);
        *ret = gw_table_add_address(t, &a);
        if (*ret == GW_NONE)
                return mlc_fail_field(err, MLC_E_LIMIT, pointer_to(at).text,
                                      "more than %d different endpoints", GW_ADDRESSES_MAX);
        return 0;
}

static int parse_endpoints(struct gw_table *t, const json_t *obj, const struct place *p,
                           struct gw_variant *v, struct mlc_err *err)
{
        struct place list = member(p, "endpoints");
        json_t *endpoints, *one;
        size_t i;
        int r = IN(p, mlc_json_get_arr(obj, "", "endpoints", &endpoints, err));

        if (r < 0)
                return r;
        if (json_array_size(endpoints) > GW_ENDPOINTS_MAX)
                return mlc_fail_field(err, MLC_E_LIMIT, pointer_to(&list).text,
                                      "at most %d endpoints", GW_ENDPOINTS_MAX);
        json_array_foreach (endpoints, i, one) {
                struct place at = element(&list, i);

                if (!json_is_string(one))
                        return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                              "a string is needed");
                r = add_address(t, json_string_value(one), &at, &v->endpoints[i], err);
                if (r < 0)
                        return r;
                v->n_endpoints++;
        }
        return 0;
}

static int parse_lost(const json_t *obj, const struct place *p, struct gw_variant *v,
                      struct mlc_err *err)
{
        struct place at = member(p, "on_lost_control");
        const char *s = "stable";
        int r = IN(p, mlc_json_opt_str(obj, "", "on_lost_control", &s, err));

        if (r < 0)
                return r;
        if (!mlc_streq(s, "stable") && !mlc_streq(s, "hold"))
                return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                      "\"stable\" or \"hold\" is needed");
        v->hold = mlc_streq(s, "hold");
        return 0;
}

static int parse_variant(struct gw_table *t, const json_t *obj, const struct place *p,
                         struct mlc_err *err)
{
        static const char *const known[] = {"name",        "version",   "model",
                                            "weight",      "lease",     "on_lost_control",
                                            "error_limit", "endpoints", NULL};
        struct gw_variant *v = &t->variants[t->n_variants];
        int64_t version, weight, limit = GW_NO_LIMIT;
        struct place at;
        int r;

        memset(v, 0, sizeof(*v));
        r = IN(p, mlc_json_only(obj, "", known, err));
        if (r == 0)
                r = get_text(obj, p, "name", v->name, sizeof(v->name), err);
        if (r == 0)
                r = get_text(obj, p, "model", v->model, sizeof(v->model), err);
        if (r == 0)
                r = get_number(obj, p, "version", INT32_MAX, &version, err);
        if (r == 0)
                r = get_number(obj, p, "weight", MLC_BUCKETS, &weight, err);
        if (r == 0)
                r = IN(p, mlc_json_opt_bool(obj, "", "lease", &v->lease, err));
        if (r == 0)
                r = IN(p, mlc_json_opt_i64(obj, "", "error_limit", &limit, err));
        if (r == 0) {
                at = member(p, "error_limit");
                r = in_range(limit, 0, GW_NO_LIMIT, &at, err);
        }
        if (r == 0)
                r = parse_lost(obj, p, v, err);
        if (r == 0)
                r = parse_endpoints(t, obj, p, v, err);
        if (r < 0)
                return r;
        v->version = (uint32_t)version;
        v->weight = (uint32_t)weight;
        v->error_limit = (uint32_t)limit;
        t->n_variants++;
        return 0;
}

static int check_variants(const struct gw_table *t, struct gw_route *route, const struct place *at,
                          struct mlc_err *err)
{
        const struct gw_variant *v = t->variants + route->first_variant;
        uint32_t sum = 0;

        for (size_t i = 0; i < route->n_variants; i++) {
                sum += v[i].weight;
                for (size_t j = 0; j < i; j++)
                        if (mlc_streq(v[i].name, v[j].name))
                                return mlc_fail_field(err, MLC_E_INVALID, pointer_to(at).text,
                                                      "two variants are named \"%s\"", v[i].name);
        }
        if (route->n_variants > 0 && sum != MLC_BUCKETS)
                return mlc_fail_field(err, MLC_E_INVALID, pointer_to(at).text,
                                      "the weights sum to %" PRIu32 ", not to %d", sum,
                                      MLC_BUCKETS);
        sum = 0;
        for (size_t i = 0; i < route->n_variants; i++) {
                sum += v[i].weight;
                route->bounds[i] = (uint16_t)sum;
        }
        return 0;
}

static int parse_variants(struct gw_table *t, const json_t *obj, const struct place *p,
                          struct gw_route *route, struct mlc_err *err)
{
        struct place list = member(p, "variants");
        json_t *variants, *one;
        size_t i;
        int r = IN(p, mlc_json_get_arr(obj, "", "variants", &variants, err));

        if (r < 0)
                return r;
        route->first_variant = t->n_variants;
        json_array_foreach (variants, i, one) {
                struct place at = element(&list, i);

                if (i == GW_ROUTE_VARIANTS_MAX || t->n_variants == GW_VARIANTS_MAX)
                        return mlc_fail_field(err, MLC_E_LIMIT, pointer_to(&at).text,
                                              "at most %d variants of a route, %d in all",
                                              GW_ROUTE_VARIANTS_MAX, GW_VARIANTS_MAX);
                if (!json_is_object(one))
                        return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                              "an object is needed");
                r = parse_variant(t, one, &at, err);
                if (r < 0)
                        return r;
                route->n_variants++;
        }
        return check_variants(t, route, &list, err);
}

static int parse_key(const json_t *obj, const struct place *p, struct gw_route *route,
                     struct mlc_err *err)
{
        struct place at = member(p, "key");
        const char *s;
        int r = IN(p, mlc_json_get_str(obj, "", "key", &s, err));

        if (r < 0)
                return r;
        if (mlc_streq(s, "random")) {
                route->key = GW_KEY_RANDOM;
                return 0;
        }
        if (mlc_streq(s, "address")) {
                route->key = GW_KEY_ADDRESS;
                return 0;
        }
        if (!mlc_starts_with(s, "header:") && !mlc_starts_with(s, "cookie:"))
                return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                      "\"header:NAME\", \"cookie:NAME\", \"address\" or "
                                      "\"random\" is needed");
        route->key = s[0] == 'h' ? GW_KEY_HEADER : GW_KEY_COOKIE;
        return copy_text(route->key_name, sizeof(route->key_name), s + 7, TOKEN_CHARS, &at, err);
}

static int parse_tap(const json_t *obj, const struct place *p, struct gw_route *route,
                     struct mlc_err *err)
{
        static const char *const known[] = {"share", NULL};
        struct place at = member(p, "tap");
        json_t *tap = NULL;
        int64_t share;
        int r = IN(p, mlc_json_opt_obj(obj, "", "tap", &tap, err));

        if (r < 0 || tap == NULL)
                return r;
        r = IN(&at, mlc_json_only(tap, "", known, err));
        if (r == 0)
                r = get_number(tap, &at, "share", MLC_BUCKETS, &share, err);
        if (r == 0)
                route->tap_share = (uint32_t)share;
        return r;
}

static int parse_shape(const json_t *obj, const struct place *p, struct gw_input *in,
                       struct mlc_err *err)
{
        struct place list = member(p, "shape");
        json_t *shape, *one;
        size_t i;
        int r = IN(p, mlc_json_get_arr(obj, "", "shape", &shape, err));

        if (r < 0)
                return r;
        if (json_array_size(shape) > GW_DIMS_MAX)
                return mlc_fail_field(err, MLC_E_LIMIT, pointer_to(&list).text,
                                      "at most %d dimensions", GW_DIMS_MAX);
        json_array_foreach (shape, i, one) {
                struct place at = element(&list, i);

                if (!json_is_integer(one))
                        return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                              "a whole number is needed");
                in->shape[i] = json_integer_value(one);
                r = in_range(in->shape[i], -1, INT32_MAX, &at, err);
                if (r < 0)
                        return r;
                in->n_dims++;
        }
        return 0;
}

static int parse_range(const json_t *obj, const struct place *p, struct gw_input *in,
                       struct mlc_err *err)
{
        struct place at = member(p, "range");
        json_t *range = NULL;
        int r = IN(p, mlc_json_opt_arr(obj, "", "range", &range, err));

        if (r < 0 || range == NULL)
                return r;
        if (json_array_size(range) != 2 || !json_is_number(json_array_get(range, 0)) ||
            !json_is_number(json_array_get(range, 1)))
                return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                      "two numbers are needed");
        in->lo = json_number_value(json_array_get(range, 0));
        in->hi = json_number_value(json_array_get(range, 1));
        in->ranged = true;
        if (in->lo > in->hi)
                return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                      "the first is above the second");
        return 0;
}

static int parse_input(const json_t *obj, const struct place *p, struct gw_input *in,
                       struct mlc_err *err)
{
        static const char *const known[] = {"name", "datatype", "shape", "range", NULL};
        static const char *const types[] = {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64",
                                            "INT8", "INT16", "INT32",  "INT64",  "FP16",
                                            "FP32", "FP64",  "BF16",   "BYTES"};
        struct place at = member(p, "name");
        const char *name;
        int r;

        memset(in, 0, sizeof(*in));
        r = IN(p, mlc_json_only(obj, "", known, err));
        if (r == 0)
                r = IN(p, mlc_json_get_str(obj, "", "name", &name, err));
        if (r == 0)
                r = copy_text(in->name, sizeof(in->name), name, NULL, &at, err);
        if (r == 0)
                r = get_text(obj, p, "datatype", in->datatype, sizeof(in->datatype), err);
        if (r == 0)
                r = parse_shape(obj, p, in, err);
        if (r == 0)
                r = parse_range(obj, p, in, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_LEN(types); i++)
                if (mlc_streq(types[i], in->datatype))
                        return 0;
        at = member(p, "datatype");
        return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text, "\"%s\" is no datatype",
                              in->datatype);
}

static int parse_inputs(struct gw_table *t, const json_t *obj, const struct place *p,
                        struct gw_route *route, struct mlc_err *err)
{
        struct place list = member(p, "inputs");
        json_t *inputs, *one;
        size_t i;
        int r = IN(p, mlc_json_get_arr(obj, "", "inputs", &inputs, err));

        if (r < 0)
                return r;
        route->first_input = t->n_inputs;
        json_array_foreach (inputs, i, one) {
                struct place at = element(&list, i);

                if (i == GW_ROUTE_INPUTS_MAX || t->n_inputs == GW_INPUTS_MAX)
                        return mlc_fail_field(err, MLC_E_LIMIT, pointer_to(&at).text,
                                              "at most %d inputs of a route, %d in all",
                                              GW_ROUTE_INPUTS_MAX, GW_INPUTS_MAX);
                if (!json_is_object(one))
                        return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                              "an object is needed");
                r = parse_input(one, &at, &t->inputs[t->n_inputs], err);
                if (r < 0)
                        return r;
                t->n_inputs++;
                route->n_inputs++;
        }
        return 0;
}

static int parse_validate(struct gw_table *t, const json_t *obj, const struct place *p,
                          struct gw_route *route, struct mlc_err *err)
{
        static const char *const known[] = {"mode", "inputs", NULL};
        struct place at = member(p, "validate"), mode_at;
        json_t *validate = NULL;
        const char *mode;
        int r = IN(p, mlc_json_opt_obj(obj, "", "validate", &validate, err));

        if (r < 0 || validate == NULL)
                return r;
        r = IN(&at, mlc_json_only(validate, "", known, err));
        if (r == 0)
                r = IN(&at, mlc_json_get_str(validate, "", "mode", &mode, err));
        if (r < 0)
                return r;
        mode_at = member(&at, "mode");
        if (mlc_streq(mode, "reject"))
                route->validate = GW_VALIDATE_REJECT;
        else if (mlc_streq(mode, "flag"))
                route->validate = GW_VALIDATE_FLAG;
        else
                return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&mode_at).text,
                                      "\"reject\" or \"flag\" is needed");
        return parse_inputs(t, validate, &at, route, err);
}

static int parse_salt(const json_t *obj, const struct place *p, struct gw_route *route,
                      struct mlc_err *err)
{
        struct place at = member(p, "salt");
        const char *salt;
        int r = IN(p, mlc_json_get_str(obj, "", "salt", &salt, err));

        if (r == 0)
                r = copy_text(route->salt, sizeof(route->salt), salt, NULL, &at, err);
        if (r == 0)
                route->salt_len = (uint8_t)strlen(salt);
        return r;
}

static int parse_protocol(const json_t *obj, const struct place *p, struct mlc_err *err)
{
        struct place at = member(p, "protocol");
        const char *protocol;
        int r = IN(p, mlc_json_get_str(obj, "", "protocol", &protocol, err));

        if (r == 0 && !mlc_streq(protocol, "oip"))
                r = mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                   "\"%s\" is not supported, use \"oip\"", protocol);
        return r;
}

static int parse_route(struct gw_table *t, const json_t *obj, const struct place *p,
                       struct mlc_err *err)
{
        static const char *const known[] = {"route",  "protocol", "salt",     "key", "tap",
                                            "repeat", "validate", "variants", NULL};
        struct gw_route *route = &t->routes[t->n_routes];
        struct place at = member(p, "route");
        int r;

        memset(route, 0, sizeof(*route));
        r = IN(p, mlc_json_only(obj, "", known, err));
        if (r == 0)
                r = get_text(obj, p, "route", route->name, sizeof(route->name), err);
        if (r == 0 && gw_table_route(t, route->name, strlen(route->name)) != NULL)
                r = mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                   "\"%s\" stands there twice", route->name);
        if (r == 0)
                r = parse_protocol(obj, p, err);
        if (r == 0)
                r = parse_salt(obj, p, route, err);
        if (r == 0)
                r = parse_key(obj, p, route, err);
        if (r == 0)
                r = IN(p, mlc_json_opt_bool(obj, "", "repeat", &route->repeat, err));
        if (r == 0)
                r = parse_tap(obj, p, route, err);
        if (r == 0)
                r = parse_validate(t, obj, p, route, err);
        if (r == 0)
                r = parse_variants(t, obj, p, route, err);
        if (r < 0)
                return r;
        gw_table_add_route(t);
        return 0;
}

int gw_parse_route(struct gw_table *t, const json_t *route, size_t i, struct mlc_err *err)
{
        struct place top = {0}, list = member(&top, "routes"), at = element(&list, i);

        if (i == GW_ROUTES_MAX)
                return mlc_fail_field(err, MLC_E_LIMIT, pointer_to(&list).text, "at most %d routes",
                                      GW_ROUTES_MAX);
        if (!json_is_object(route))
                return mlc_fail_field(err, MLC_E_INVALID, pointer_to(&at).text,
                                      "an object is needed");
        return parse_route(t, route, &at, err);
}

int gw_parse_envelope(struct gw_table *t, const json_t *root, json_t **ret_routes,
                      struct mlc_err *err)
{
        static const char *const known[] = {"schema", "generation", "routes", NULL};
        struct place top = {0};
        const char *schema;
        int64_t generation;
        json_t *routes;
        int r;

        if (!json_is_object(root))
                return mlc_fail(err, MLC_E_INVALID, "a table is an object");
        r = mlc_json_only(root, "", known, err);
        if (r == 0)
                r = mlc_json_get_str(root, "", "schema", &schema, err);
        if (r == 0 && !mlc_streq(schema, GW_SCHEMA))
                r = mlc_fail_field(err, MLC_E_INVALID, "/schema", "\"%s\" is needed", GW_SCHEMA);
        if (r == 0)
                r = get_number(root, &top, "generation", INT64_MAX, &generation, err);
        if (r == 0 && generation == 0)
                r = mlc_fail_field(err, MLC_E_INVALID, "/generation", "generations begin at 1");
        if (r == 0)
                r = mlc_json_get_arr(root, "", "routes", &routes, err);
        if (r < 0)
                return r;
        t->generation = (uint64_t)generation;
        *ret_routes = routes;
        return 0;
}

/* Where each route stands in the text; nowhere, when what is accepted is not how others write it.
 */
static void note_places(struct gw_table *t)
{
        struct gw_scan s = {t->text, t->text_len, 0};
        size_t n = 0;

        for (bool more = gw_scan_begin(&s); more && n < t->n_routes; more = gw_scan_next(&s)) {
                size_t len = gw_scan_object(&s);

                t->routes[n].text_at = (uint32_t)s.pos;
                t->routes[n++].text_len = (uint32_t)len;
                s.pos += len;
        }
}

int gw_table_parse(const char *text, size_t len, struct gw_table *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *root = NULL;
        json_t *routes, *one;
        size_t i;
        int r;

        if (len > GW_TEXT_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "a table has at most %d bytes", GW_TEXT_MAX);
        gw_table_clear(ret);
        r = mlc_json_parse(text, len, &root, err);
        if (r == 0)
                r = gw_parse_envelope(ret, root, &routes, err);
        if (r < 0)
                return r;
        json_array_foreach (routes, i, one) {
                r = gw_parse_route(ret, one, i, err);
                if (r < 0)
                        return r;
        }
        gw_table_set_text(ret, text, len);
        note_places(ret);
        return 0;
}
