/* SPDX-License-Identifier: Apache-2.0 */
#include "rewrite.h"

#include <string.h>

enum state {
        BEFORE, /* the object */
        FIRST_KEY,
        NEXT_KEY, /* after a comma */
        IN_KEY,
        COLON,
        VALUE,
        IN_STRING,
        IN_SCALAR,
        IN_NESTED,
        AFTER_VALUE,
        AFTER, /* the object */
};

/* A piece of input being worked on; [from, at) is not yet sent. */
struct piece {
        const char *in;
        size_t len, at, from;
        gw_emit_fn emit;
        void *userdata;
};

void gw_rewrite_init(struct gw_rewrite *w, const struct gw_rewrite_rule *rule)
{
        memset(w, 0, sizeof(*w));
        w->rule = *rule;
        w->state = BEFORE;
}

static void send(const struct piece *p, const char *data, size_t len)
{
        if (len > 0)
                p->emit(p->userdata, data, len);
}

static void flush(struct piece *p)
{
        send(p, p->in + p->from, p->at - p->from);
        p->from = p->at;
}

static bool is_space(char c)
{
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool key_is(const struct gw_rewrite *w, const char *key)
{
        return strlen(key) == w->key_len && memcmp(w->key, key, w->key_len) == 0;
}

/* The value has been read up to p->at. */
static void end_value(struct gw_rewrite *w, struct piece *p)
{
        const struct gw_rewrite_rule *r = &w->rule;

        w->state = AFTER_VALUE;
        if (!w->skipping)
                return;
        p->from = p->at;
        if (w->naming) {
                w->have_name = true;
                if (w->overflow || w->value_len != strlen(r->name_from) ||
                    memcmp(w->value, r->name_from, w->value_len) != 0)
                        w->wrong = true;
                send(p, "\"", 1);
                send(p, r->name_to, strlen(r->name_to));
                send(p, "\"", 1);
        } else {
                w->have_version = true;
                send(p, r->version_to, strlen(r->version_to));
        }
        w->skipping = w->naming = false;
}

static void begin_value(struct gw_rewrite *w, struct piece *p, char c)
{
        w->naming = key_is(w, w->rule.name_key);
        w->skipping = w->naming || key_is(w, w->rule.version_key);
        w->overflow = w->naming && c != '"'; /* a name that is no string is no name */
        w->value_len = 0;
        w->escaped = w->in_string = false;
        w->any_member = true;
        if (w->skipping)
                flush(p);
        if (c == '"') {
                w->state = IN_STRING;
        } else if (c == '{' || c == '[') {
                w->state = IN_NESTED;
                w->depth = 1;
                w->brackets = c == '[';
        } else if (c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == 'N' ||
                   c == 'I') {
                w->state = IN_SCALAR;
        } else {
                w->bad = true;
        }
}

static void in_string(struct gw_rewrite *w, struct piece *p, char c)
{
        if (w->escaped) {
                w->escaped = false;
        } else if (c == '\\') {
                w->escaped = true;
                w->overflow = true; /* names of models need no escapes */
        } else if (c == '"') {
                p->at++;
                end_value(w, p);
                p->at--;
        } else if ((unsigned char)c < 0x20) {
                w->bad = true;
        } else if (w->naming) {
                if (w->value_len < sizeof(w->value))
                        w->value[w->value_len++] = c;
                else
                        w->overflow = true;
        }
}

static void nested_bracket(struct gw_rewrite *w, struct piece *p, char c)
{
        if (c == '[' || c == '{') {
                if (w->depth == GW_REWRITE_DEPTH_MAX) {
                        w->bad = true;
                        return;
                }
                w->brackets = w->brackets << 1 | (c == '[');
                w->depth++;
                return;
        }
        if ((w->brackets & 1) != (c == ']')) {
                w->bad = true;
                return;
        }
        w->brackets >>= 1;
        if (--w->depth == 0) {
                p->at++;
                end_value(w, p);
                p->at--;
        }
}

static void in_nested(struct gw_rewrite *w, struct piece *p, char c)
{
        if (w->in_string) {
                if (w->escaped)
                        w->escaped = false;
                else if (c == '\\')
                        w->escaped = true;
                else if (c == '"')
                        w->in_string = false;
                else if ((unsigned char)c < 0x20)
                        w->bad = true;
        } else if (c == '"') {
                w->in_string = true;
        } else if (c == '[' || c == ']' || c == '{' || c == '}') {
                nested_bracket(w, p, c);
        }
}

static void end_object(struct gw_rewrite *w, struct piece *p)
{
        const struct gw_rewrite_rule *r = &w->rule;

        w->state = AFTER;
        if (!r->version_added || w->have_version)
                return;
        flush(p);
        send(p, w->any_member ? ",\"" : "\"", w->any_member ? 2 : 1);
        send(p, r->version_key, strlen(r->version_key));
        send(p, "\":", 2);
        send(p, r->version_to, strlen(r->version_to));
}

static void in_key(struct gw_rewrite *w, char c)
{
        if (c == '"')
                w->state = COLON;
        else if (c == '\\' || (unsigned char)c < 0x20)
                w->bad = true; /* an escape could hide a name that we look for */
        else if (w->key_len < sizeof(w->key))
                w->key[w->key_len++] = c;
}

static void between(struct gw_rewrite *w, struct piece *p, char c)
{
        if (is_space(c))
                return;
        if (w->state == BEFORE && c == '{') {
                w->state = FIRST_KEY;
        } else if ((w->state == FIRST_KEY || w->state == NEXT_KEY) && c == '"') {
                w->key_len = 0;
                w->state = IN_KEY;
        } else if (w->state == COLON && c == ':') {
                w->state = VALUE;
        } else if (w->state == AFTER_VALUE && c == ',') {
                w->state = NEXT_KEY;
        } else if ((w->state == AFTER_VALUE || w->state == FIRST_KEY) && c == '}') {
                end_object(w, p);
        } else if (w->state == VALUE) {
                begin_value(w, p, c);
        } else {
                w->bad = true;
        }
}

static void in_scalar(struct gw_rewrite *w, struct piece *p, char c)
{
        if (!is_space(c) && c != ',' && c != '}') {
                if (strchr("0123456789+-.eEabcdfghijklmnopqrstuvwxyzINn", c) == NULL || c == '\0')
                        w->bad = true;
                return;
        }
        end_value(w, p);
        between(w, p, c);
}

/* Most of an answer is numbers in nested arrays. */
static void skip_numbers(const struct gw_rewrite *w, struct piece *p)
{
        if (w->state != IN_NESTED || w->in_string)
                return;
        while (p->at < p->len) {
                char c = p->in[p->at];

                if (c == '"' || c == '[' || c == ']' || c == '{' || c == '}')
                        return;
                p->at++;
        }
}

void gw_rewrite_feed(struct gw_rewrite *w, const char *in, size_t len, gw_emit_fn emit,
                     void *userdata)
{
        struct piece p = {.in = in, .len = len, .emit = emit, .userdata = userdata};

        for (; p.at < len && !w->bad; p.at++) {
                skip_numbers(w, &p);
                if (p.at == len)
                        break;
                switch (w->state) {
                case IN_KEY:
                        in_key(w, in[p.at]);
                        break;
                case IN_STRING:
                        in_string(w, &p, in[p.at]);
                        break;
                case IN_SCALAR:
                        in_scalar(w, &p, in[p.at]);
                        break;
                case IN_NESTED:
                        in_nested(w, &p, in[p.at]);
                        break;
                default:
                        between(w, &p, in[p.at]);
                }
        }
        p.at = len;
        if (!w->skipping && !w->bad)
                flush(&p);
}

bool gw_rewrite_failed(const struct gw_rewrite *w)
{
        return w->bad || w->wrong;
}

enum gw_rewrite_result gw_rewrite_end(const struct gw_rewrite *w)
{
        if (w->bad || w->state != AFTER)
                return GW_REWRITE_BAD;
        if (w->wrong || (w->rule.name_needed && !w->have_name))
                return GW_REWRITE_WRONG;
        return GW_REWRITE_OK;
}
