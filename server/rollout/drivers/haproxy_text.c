/* SPDX-License-Identifier: Apache-2.0 */
/* What HAProxy prints, and what its map holds. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "rollout/drivers/haproxy.h"

#define COLUMNS_MAX 160

/* --- lines of columns --- */

struct line {
        const char *at[COLUMNS_MAX];
        int len[COLUMNS_MAX];
        size_t n;
};

/* Takes one line apart; where the next one begins, NULL at the end. */
static const char *split(const char *text, char by, struct line *ret)
{
        ret->n = 0;
        if (*text == '\0')
                return NULL;
        for (;;) {
                const char stop[] = {by, '\n', '\0'};
                size_t len = strcspn(text, stop);

                if (ret->n < COLUMNS_MAX) {
                        ret->at[ret->n] = text;
                        ret->len[ret->n++] = (int)len;
                }
                text += len;
                if (*text == '\0')
                        return text;
                if (*text++ == '\n')
                        return text;
        }
}

static bool is(const struct line *l, size_t i, const char *text)
{
        return i < l->n && (size_t)l->len[i] == strlen(text) &&
               strncmp(l->at[i], text, strlen(text)) == 0;
}

/* The column with this heading; COLUMNS_MAX when there is none. */
static size_t column(const struct line *head, const char *name)
{
        for (size_t i = 0; i < head->n; i++)
                if (is(head, i, name))
                        return i;
        return COLUMNS_MAX;
}

static int64_t number(const struct line *l, size_t i)
{
        return i < l->n && l->len[i] > 0 ? strtoll(l->at[i], NULL, 10) : 0;
}

json_t *hap_parse_map(const char *text)
{
        json_t *map = json_object();
        struct line l;

        while ((text = split(text, ' ', &l)) != NULL)
                if (l.n >= 3) {
                        char key[400];

                        (void)snprintf(key, sizeof(key), "%.*s", l.len[1], l.at[1]);
                        (void)json_object_set_new(map, key,
                                                  json_stringn(l.at[2], (size_t)l.len[2]));
                }
        return map;
}

int hap_parse_stat(const char *text, json_t **ret, struct mlc_err *err)
{
        static const char *const names[HAP_COUNTS] = {"req_tot",  "hrsp_2xx", "hrsp_3xx",
                                                      "hrsp_4xx", "hrsp_5xx", "hrsp_other"};
        size_t at[HAP_COUNTS];
        struct line head, l;
        json_t *all;

        text = split(text, ',', &head);
        if (text == NULL || !is(&head, 0, "# pxname") || !is(&head, 1, "svname"))
                return mlc_fail(err, MLC_E_INVALID, "haproxy shows no statistics");
        for (size_t i = 0; i < HAP_COUNTS; i++) {
                at[i] = column(&head, names[i]);
                if (at[i] == COLUMNS_MAX)
                        return mlc_fail(err, MLC_E_INVALID, "haproxy does not count '%s'",
                                        names[i]);
        }
        all = json_object();
        while ((text = split(text, ',', &l)) != NULL) {
                json_t *list;
                char name[256];

                if (!is(&l, 1, "BACKEND"))
                        continue;
                list = json_array();
                for (size_t i = 0; i < HAP_COUNTS; i++)
                        (void)json_array_append_new(list, json_integer(number(&l, at[i])));
                (void)snprintf(name, sizeof(name), "%.*s", l.len[0], l.at[0]);
                (void)json_object_set_new(all, name, list);
        }
        *ret = all;
        return 0;
}

int hap_parse_servers(const char *text, json_t **ret, struct mlc_err *err)
{
        struct line head = {.n = 0}, l;
        json_t *list;

        while (head.n < 3 && (text = split(text, ' ', &head)) != NULL)
                ; /* the number of the format comes first */
        if (text == NULL || !is(&head, 0, "#"))
                return mlc_fail(err, MLC_E_INVALID, "haproxy shows no servers");
        list = json_array();
        while ((text = split(text, ' ', &l)) != NULL) {
                size_t name = column(&head, "srv_name") - 1, addr = column(&head, "srv_addr") - 1,
                       port = column(&head, "srv_port") - 1,
                       admin = column(&head, "srv_admin_state") - 1;
                bool v6;

                if (name >= l.n || addr >= l.n || port >= l.n || admin >= l.n)
                        continue;
                v6 = memchr(l.at[addr], ':', (size_t)l.len[addr]) != NULL;
                (void)json_array_append_new(
                        list,
                        json_pack("{s:s#, s:o, s:b}", "name", l.at[name], l.len[name], "address",
                                  json_sprintf("%s%.*s%s:%" PRId64, v6 ? "[" : "", l.len[addr],
                                               l.at[addr], v6 ? "]" : "", number(&l, port)),
                                  "maint", (number(&l, admin) & 1) != 0));
        }
        *ret = list;
        return 0;
}

/* --- entries --- */

static const char *text_of(const json_t *obj, const char *key)
{
        const char *s = json_string_value(json_object_get(obj, key));

        return s != NULL ? s : "";
}

/* Fields are parted by bars, keys and values by blanks, commands by semicolons. */
static bool plain(const char *s)
{
        return *s != '\0' && strpbrk(s, "| ;\\\"'\t\r\n#") == NULL;
}

int hap_entry(const json_t *route, struct mlc_str *ret, struct mlc_err *err)
{
        const json_t *variants = json_object_get(route, "variants");
        size_t n = json_array_size(variants);
        const json_t *stable = json_array_get(variants, n - 1);
        const json_t *candidate = n == 2 ? json_array_get(variants, 0) : NULL;
        const char *name = text_of(route, "route"),
                   *other = candidate != NULL ? text_of(candidate, "model") : "-";

        if (n == 0 || n > 2 || !mlc_streq(text_of(stable, "name"), "stable") ||
            (n == 2 && !mlc_streq(text_of(candidate, "name"), "candidate")))
                return mlc_fail(err, MLC_E_NOT_SUPPORTED,
                                "haproxy splits route '%s' between candidate and stable only",
                                name);
        if (!plain(name) || *name == '/' || !plain(text_of(route, "salt")) ||
            !plain(text_of(route, "key")) || !plain(text_of(stable, "model")) || !plain(other))
                return mlc_fail(err, MLC_E_NOT_SUPPORTED,
                                "route '%s' has a name that haproxy's maps cannot hold", name);
        mlc_str_addf(
                ret,
                "%" JSON_INTEGER_FORMAT "|%s|%s|%" JSON_INTEGER_FORMAT "|%s|%" JSON_INTEGER_FORMAT
                "|%s",
                candidate != NULL ? json_integer_value(json_object_get(candidate, "weight")) : 0,
                text_of(route, "salt"), other,
                json_integer_value(json_object_get(candidate, "version")), text_of(stable, "model"),
                json_integer_value(json_object_get(stable, "version")), text_of(route, "key"));
        return mlc_str_check(ret, err);
}

/* --- banks --- */

static void add_counts(struct mlc_str *s, const struct hap_counts *c)
{
        for (size_t i = 0; i < HAP_COUNTS; i++)
                mlc_str_addf(s, "%s%" PRId64, i > 0 ? "," : "", c->n[i]);
}

void hap_bank_write(const struct hap_bank *b, struct mlc_str *ret)
{
        mlc_str_addf(ret, "%s|%" PRId64 "|%" PRId64 "|", b->boot, b->generation, b->version);
        add_counts(ret, &b->base);
        mlc_str_addf(ret, "|%" PRId64 "|%" PRId64 "|", b->before, b->before_version);
        add_counts(ret, &b->of_before);
}

static bool read_counts(const char *text, int len, struct hap_counts *ret)
{
        const char *end = text + len;

        for (size_t i = 0; i < HAP_COUNTS; i++) {
                char *stop = NULL;

                ret->n[i] = strtoll(text, &stop, 10);
                if (stop == text || ret->n[i] < 0 || stop > end)
                        return false;
                if (i + 1 < HAP_COUNTS && *stop != ',')
                        return false;
                text = stop + 1;
        }
        return text == end + 1;
}

bool hap_bank_read(const char *text, struct hap_bank *ret)
{
        struct hap_bank b = {0};
        struct line l;

        if (split(text, '|', &l) == NULL || l.n != 7 || l.len[0] >= HAP_BOOT_MAX)
                return false;
        (void)snprintf(b.boot, sizeof(b.boot), "%.*s", l.len[0], l.at[0]);
        b.generation = number(&l, 1);
        b.version = number(&l, 2);
        b.before = number(&l, 4);
        b.before_version = number(&l, 5);
        if (!read_counts(l.at[3], l.len[3], &b.base) ||
            !read_counts(l.at[6], l.len[6], &b.of_before))
                return false;
        *ret = b;
        return true;
}

void hap_counts_read(const json_t *list, struct hap_counts *ret)
{
        for (size_t i = 0; i < HAP_COUNTS; i++)
                ret->n[i] = json_integer_value(json_array_get(list, i));
}

struct hap_counts hap_counts_since(const struct hap_counts *now, const struct hap_counts *then)
{
        struct hap_counts c;

        for (size_t i = 0; i < HAP_COUNTS; i++)
                c.n[i] = now->n[i] > then->n[i] ? now->n[i] - then->n[i] : 0;
        return c;
}
