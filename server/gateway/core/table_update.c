/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Most of a new table is the table before: what is the same, byte for byte, is copied and not
 * parsed again. An object's text ends where the object ends, whatever follows; so a route that
 * begins with the text of an old route is that route. The envelope is parsed with an empty array,
 * the other routes each for itself; all of it is JSON just when the parts are. Where anything is
 * unusual or wrong, the whole is parsed, and that decides.
 */
#include <string.h>

#include "base/cleanup.h"
#include "table_internal.h"

#define MISSES_MAX 64 /* when so many routes differ, others are looked for only where they were */

/* --- scanning --------------------------------------------------------------------------------- */

static void skip_space(struct gw_scan *s)
{
        while (s->pos < s->len && strchr(" \t\r\n", s->text[s->pos]) != NULL &&
               s->text[s->pos] != '\0')
                s->pos++;
}

static bool at(const struct gw_scan *s, char c)
{
        return s->pos < s->len && s->text[s->pos] == c;
}

/* From a quotation mark to behind the one that ends the string. */
static bool skip_string(struct gw_scan *s)
{
        for (s->pos++; s->pos < s->len; s->pos++) {
                if (s->text[s->pos] == '\\')
                        s->pos++;
                else if (s->text[s->pos] == '"')
                        break;
        }
        if (s->pos >= s->len)
                return false;
        s->pos++;
        return true;
}

/* From behind "routes" to behind its '['. */
static bool enter_array(struct gw_scan *s)
{
        skip_space(s);
        if (!at(s, ':'))
                return false;
        s->pos++;
        skip_space(s);
        if (!at(s, '['))
                return false;
        s->pos++;
        return true;
}

static bool find_routes(struct gw_scan *s)
{
        static const char name[] = "\"routes\"";
        size_t depth = 0;

        while (s->pos < s->len) {
                size_t start = s->pos;

                switch (s->text[s->pos]) {
                case '{':
                case '[':
                        depth++;
                        s->pos++;
                        break;
                case '}':
                case ']':
                        depth--;
                        s->pos++;
                        break;
                case '"':
                        if (!skip_string(s))
                                return false;
                        if (depth == 1 && s->pos - start == sizeof(name) - 1 &&
                            memcmp(s->text + start, name, sizeof(name) - 1) == 0)
                                return enter_array(s);
                        break;
                default:
                        s->pos++;
                }
        }
        return false;
}

bool gw_scan_begin(struct gw_scan *s)
{
        if (!find_routes(s))
                return false;
        skip_space(s);
        return at(s, '{');
}

bool gw_scan_next(struct gw_scan *s)
{
        struct gw_scan next = *s;

        skip_space(&next);
        if (!at(&next, ','))
                return false;
        next.pos++;
        skip_space(&next);
        if (!at(&next, '{'))
                return false;
        *s = next;
        return true;
}

bool gw_scan_ended(struct gw_scan *s)
{
        skip_space(s);
        return at(s, ']');
}

size_t gw_scan_object(const struct gw_scan *s)
{
        struct gw_scan end = *s;
        size_t depth = 0;

        while (end.pos < end.len) {
                char c = end.text[end.pos];

                if (c == '"') {
                        if (!skip_string(&end))
                                return 0;
                        continue;
                }
                end.pos++;
                if (c == '{')
                        depth++;
                else if (c == '}' && --depth == 0)
                        return end.pos - s->pos;
        }
        return 0;
}

/* --- copying what is the same ----------------------------------------------------------------- */

struct update {
        const struct gw_table *old;
        struct gw_table *new;
        struct gw_scan scan;
        size_t next; /* route of old that is likely to be the next */
        size_t misses;
        uint16_t addresses[GW_ADDRESSES_MAX]; /* of old: their index in new; GW_NONE: not there yet
                                               */
};

static bool is_here(const struct update *u, const struct gw_route *route)
{
        return route->text_len > 0 && route->text_len <= u->scan.len - u->scan.pos &&
               memcmp(u->scan.text + u->scan.pos, u->old->text + route->text_at, route->text_len) ==
                       0;
}

/* The route of old that stands here; NULL: none does. */
static const struct gw_route *find_old(struct update *u)
{
        size_t tries = u->misses < MISSES_MAX ? u->old->n_routes : 1;

        for (size_t i = 0; i < tries; i++) {
                size_t n = (u->next + i) % u->old->n_routes;

                if (is_here(u, &u->old->routes[n])) {
                        u->next = n + 1;
                        return &u->old->routes[n];
                }
        }
        if (++u->misses >= MISSES_MAX)
                u->next++; /* it is likely to be that route, with another text */
        return NULL;
}

static bool copy_variant(struct update *u, const struct gw_variant *from, struct gw_variant *to)
{
        memcpy(to, from, sizeof(*to));
        for (size_t i = 0; i < to->n_endpoints; i++) {
                uint16_t was = from->endpoints[i], *now = &u->addresses[was];
                struct gw_address a;

                if (*now == GW_NONE) {
                        memcpy(&a, &u->old->addresses[was], sizeof(a));
                        a.health = 0;
                        *now = gw_table_address(u->new, &a);
                        if (*now == GW_NONE)
                                *now = gw_table_add_address(u->new, &a);
                        if (*now == GW_NONE)
                                return false;
                }
                to->endpoints[i] = *now;
        }
        return true;
}

/* false: the whole must be parsed, to say what is wrong. */
static bool copy_route(struct update *u, const struct gw_route *from)
{
        struct gw_table *t = u->new;
        struct gw_route *to = &t->routes[t->n_routes];

        if (t->n_routes == GW_ROUTES_MAX || t->n_variants + from->n_variants > GW_VARIANTS_MAX ||
            t->n_inputs + from->n_inputs > GW_INPUTS_MAX ||
            gw_table_route(t, from->name, strlen(from->name)) != NULL)
                return false;
        memcpy(to, from, sizeof(*to));
        memset(to->banks, 0, sizeof(to->banks));
        to->first_variant = t->n_variants;
        for (size_t i = 0; i < from->n_variants; i++)
                if (!copy_variant(u, &u->old->variants[from->first_variant + i],
                                  &t->variants[t->n_variants++]))
                        return false;
        if (from->validate != GW_VALIDATE_OFF)
                to->first_input = t->n_inputs;
        memcpy(&t->inputs[t->n_inputs], &u->old->inputs[from->first_input],
               from->n_inputs * sizeof(t->inputs[0]));
        t->n_inputs = (uint16_t)(t->n_inputs + from->n_inputs);
        gw_table_add_route(t);
        return true;
}

static size_t parse_one(struct update *u)
{
        _cleanup_(json_decref_p) json_t *route = NULL;
        size_t len = gw_scan_object(&u->scan);
        struct mlc_err err = {0};

        if (len == 0 || mlc_json_parse(u->scan.text + u->scan.pos, len, &route, &err) < 0 ||
            gw_parse_route(u->new, route, u->new->n_routes, &err) < 0)
                return 0;
        return len;
}

/* The bytes of the element here, which was added; 0: the whole must be parsed. */
static size_t add_one(struct update *u)
{
        const struct gw_route *old = find_old(u);
        size_t len = 0;

        if (old == NULL)
                len = parse_one(u);
        else if (copy_route(u, old))
                len = old->text_len;
        if (len > 0) {
                u->new->routes[u->new->n_routes - 1].text_at = (uint32_t)u->scan.pos;
                u->new->routes[u->new->n_routes - 1].text_len = (uint32_t)len;
        }
        return len;
}

/* Whether the text without what stands from `from` to `to` is the envelope of a table. */
static bool parse_envelope(const struct update *u, size_t from, size_t to)
{
        _cleanup_(free_p) char *text = malloc(u->scan.len - (to - from) + 1);
        _cleanup_(json_decref_p) json_t *root = NULL;
        struct mlc_err err = {0};
        json_t *routes;

        if (text == NULL)
                abort();
        memcpy(text, u->scan.text, from);
        memcpy(text + from, u->scan.text + to, u->scan.len - to);
        return mlc_json_parse(text, u->scan.len - (to - from), &root, &err) == 0 &&
               gw_parse_envelope(u->new, root, &routes, &err) == 0;
}

static bool update(struct update *u)
{
        size_t from;

        if (!gw_scan_begin(&u->scan))
                return false;
        from = u->scan.pos;
        do {
                size_t len = add_one(u);

                if (len == 0)
                        return false;
                u->scan.pos += len;
        } while (gw_scan_next(&u->scan));
        return gw_scan_ended(&u->scan) && parse_envelope(u, from, u->scan.pos);
}

int gw_table_update(const char *text, size_t len, const struct gw_table *old, struct gw_table *ret,
                    struct mlc_err *err)
{
        struct update u = {.old = old, .new = ret, .scan = {text, len, 0}};

        if (len <= GW_TEXT_MAX && old->n_routes > 0) {
                gw_table_clear(ret);
                memset(u.addresses, 0xff, sizeof(u.addresses));
                if (update(&u)) {
                        gw_table_set_text(ret, text, len);
                        return 0;
                }
        }
        return gw_table_parse(text, len, ret, err);
}
