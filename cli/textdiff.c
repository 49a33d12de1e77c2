/* SPDX-License-Identifier: Apache-2.0 */
#include "textdiff.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define LINES_MAX 4000 /* the table of both has 16 million cells of 2 bytes */
#define AROUND 3

struct lines {
        char *text;
        char **at;
        size_t n;
};

static void lines_done(struct lines *l)
{
        free(l->text);
        free(l->at);
}

static void split(const json_t *j, struct lines *ret)
{
        size_t n = 1;

        if (j == NULL || json_is_null(j))
                return;
        ret->text = json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY);
        if (ret->text == NULL)
                abort();
        for (const char *p = ret->text; *p != '\0'; p++)
                n += *p == '\n';
        ret->at = calloc(n, sizeof(*ret->at));
        if (ret->at == NULL)
                abort();
        for (char *p = ret->text; p != NULL;) {
                char *end = strchr(p, '\n');

                ret->at[ret->n++] = p;
                if (end != NULL)
                        *end++ = '\0';
                p = end;
        }
}

/* Without the comma that depends on what follows. */
static bool same(const char *a, const char *b)
{
        size_t n = strlen(a), m = strlen(b);

        n -= n > 0 && a[n - 1] == ',';
        m -= m > 0 && b[m - 1] == ',';
        return n == m && memcmp(a, b, n) == 0;
}

/* cell[i * (b.n + 1) + j]: the longest common subsequence of a from i and b from j. */
static uint16_t *common(const struct lines *a, const struct lines *b)
{
        size_t w = b->n + 1;
        uint16_t *t = calloc((a->n + 1) * w, sizeof(*t));

        if (t == NULL)
                abort();
        for (size_t i = a->n; i-- > 0;)
                for (size_t j = b->n; j-- > 0;) {
                        uint16_t down = t[(i + 1) * w + j], right = t[i * w + j + 1];

                        t[i * w + j] = same(a->at[i], b->at[j])
                                               ? (uint16_t)(t[(i + 1) * w + j + 1] + 1)
                                       : down >= right ? down
                                                       : right;
                }
        return t;
}

struct edit {
        char what; /* ' ', '-', '+' */
        const char *line;
};

static size_t walk(const struct lines *a, const struct lines *b, struct edit *ret)
{
        _cleanup_(free_p) uint16_t *t = common(a, b);
        size_t w = b->n + 1, i = 0, j = 0, n = 0;

        while (i < a->n || j < b->n) {
                if (i < a->n && j < b->n && same(a->at[i], b->at[j])) {
                        ret[n++] = (struct edit){' ', b->at[j++]};
                        i++;
                } else if (i < a->n && (j == b->n || t[(i + 1) * w + j] >= t[i * w + j + 1])) {
                        ret[n++] = (struct edit){'-', a->at[i++]};
                } else {
                        ret[n++] = (struct edit){'+', b->at[j++]};
                }
        }
        return n;
}

static bool near_change(const struct edit *e, size_t n, size_t i)
{
        size_t from = i > AROUND ? i - AROUND : 0, to = i + AROUND < n ? i + AROUND : n - 1;

        for (size_t k = from; k <= to; k++)
                if (e[k].what != ' ')
                        return true;
        return false;
}

static void print_edits(struct cli *cli, const struct edit *e, size_t n)
{
        bool skipped = false;

        for (size_t i = 0; i < n; i++) {
                if (!near_change(e, n, i)) {
                        skipped = true;
                        continue;
                }
                if (skipped)
                        (void)printf("  %s…%s\n", out_dim(cli), out_reset(cli));
                skipped = false;
                (void)printf("%s%c ",
                             e[i].what == '+'   ? out_green(cli)
                             : e[i].what == '-' ? out_red(cli)
                                                : "",
                             e[i].what);
                out_text(e[i].line);
                (void)printf("%s\n", out_reset(cli));
        }
}

void textdiff_print(struct cli *cli, const json_t *before, const json_t *after)
{
        _cleanup_(lines_done) struct lines a = {0};
        _cleanup_(lines_done) struct lines b = {0};
        _cleanup_(free_p) struct edit *edits = NULL;

        if (before != NULL && after != NULL && json_equal(before, after))
                return;
        split(before, &a);
        split(after, &b);
        if (a.n > LINES_MAX || b.n > LINES_MAX) {
                (void)printf("  too long to compare here (%zu and %zu lines)\n", a.n, b.n);
                return;
        }
        edits = calloc(a.n + b.n + 1, sizeof(*edits));
        if (edits == NULL)
                abort();
        print_edits(cli, edits, walk(&a, &b, edits));
}
