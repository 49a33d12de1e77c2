/* SPDX-License-Identifier: Apache-2.0 */
/* card: which sections a model card (Markdown, CommonMark headings) has. */
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "policy/judge.h"

#define TITLE_MAX 512

struct line {
        const char *text;
        size_t len;
};

/* Reads lines; front matter and fenced code are no text of the card. */
struct reader {
        const char *next;
        char fence; /* of the open code block, or 0 */
        size_t fence_len;
};

static bool next_line(const char **text, struct line *ret)
{
        size_t n;

        if (**text == '\0')
                return false;
        n = strcspn(*text, "\n");
        *ret = (struct line){*text, n};
        *text += n + ((*text)[n] == '\n');
        while (ret->len > 0 && strchr(" \t\r", ret->text[ret->len - 1]) != NULL)
                ret->len--;
        return true;
}

static bool line_is(struct line l, const char *text)
{
        return l.len == strlen(text) && memcmp(l.text, text, l.len) == 0;
}

static const char *behind_front_matter(const char *card)
{
        const char *p = card;
        struct line l;

        if (mlc_starts_with(p, "\xef\xbb\xbf"))
                p += 3;
        if (!next_line(&p, &l) || !line_is(l, "---"))
                return card;
        while (next_line(&p, &l))
                if (line_is(l, "---") || line_is(l, "..."))
                        return p;
        return card;
}

static struct line indented(struct line l)
{
        for (int i = 0; i < 3 && l.len > 0 && *l.text == ' '; i++) {
                l.text++;
                l.len--;
        }
        return l;
}

static size_t run_of(struct line l, char c)
{
        size_t n = 0;

        while (n < l.len && l.text[n] == c)
                n++;
        return n;
}

/* Keeps track of ``` and ~~~; true for lines of code. */
static bool in_code(struct reader *r, struct line l)
{
        size_t backticks, tildes;

        l = indented(l);
        backticks = run_of(l, '`');
        tildes = run_of(l, '~');
        if (r->fence != 0) {
                size_t n = r->fence == '`' ? backticks : tildes;

                if (n >= r->fence_len && n == l.len)
                        r->fence = 0;
                return true;
        }
        if (backticks < 3 && tildes < 3)
                return false;
        r->fence = backticks >= 3 ? '`' : '~';
        r->fence_len = backticks >= 3 ? backticks : tildes;
        return true;
}

/* "## Title ##": its level, and the title; 0 when it is no heading. */
static unsigned atx(struct line l, struct line *ret)
{
        size_t level;

        l = indented(l);
        level = run_of(l, '#');
        if (level < 1 || level > 6 ||
            (l.len > level && l.text[level] != ' ' && l.text[level] != '\t'))
                return 0;
        l.text += level;
        l.len -= level;
        while (l.len > 0 && (*l.text == ' ' || *l.text == '\t')) {
                l.text++;
                l.len--;
        }
        *ret = l;
        while (l.len > 0 && l.text[l.len - 1] == '#')
                l.len--;
        if (l.len == 0 || l.text[l.len - 1] == ' ') {
                while (l.len > 0 && l.text[l.len - 1] == ' ')
                        l.len--;
                *ret = l;
        }
        return (unsigned)level;
}

/* The level that a line of "===" or "---" gives to the line of text above it. */
static unsigned setext(struct line above, struct line l)
{
        l = indented(l);
        above = indented(above);
        if (above.len == 0 || l.len == 0 || strchr("#>-*+=", *above.text) != NULL)
                return 0;
        if (run_of(l, '=') == l.len)
                return 1;
        return run_of(l, '-') == l.len ? 2 : 0;
}

static bool titled(struct line title, const char *section)
{
        size_t n = strlen(section);

        while (title.len > 0 && (*title.text == '*' || *title.text == '_')) {
                title.text++;
                title.len--;
        }
        while (title.len > 0 && strchr("*_:", title.text[title.len - 1]) != NULL)
                title.len--;
        return title.len == n && n <= TITLE_MAX && strncasecmp(title.text, section, n) == 0;
}

enum found { ABSENT, HOLLOW, FILLED };

/* Filled: text stands below it before the next heading of its level or above. */
static enum found find(const char *card, const char *section)
{
        struct reader r = {.next = behind_front_matter(card)};
        struct line l, above = {"", 0}, title = {"", 0};
        unsigned level, open = 0; /* level of the section that we are in */
        enum found best = ABSENT;

        while (next_line(&r.next, &l)) {
                bool code = in_code(&r, l);

                level = code ? 0 : atx(l, &title);
                if (level == 0 && !code) {
                        level = setext(above, l);
                        if (level > 0)
                                title = indented(above);
                }
                above = code || level > 0 ? (struct line){"", 0} : l;
                if (level > 0) {
                        if (titled(title, section))
                                open = level;
                        else if (open > 0 && level <= open)
                                open = 0;
                        if (open > 0 && best == ABSENT)
                                best = HOLLOW;
                } else if (open > 0 && l.len > 0) {
                        const char *rest = r.next;
                        struct line below = {"", 0};

                        /* the text of a setext heading is not text of the section above */
                        if (!code && next_line(&rest, &below) && setext(l, below) > 0)
                                continue;
                        return FILLED;
                }
        }
        return best;
}

void check_card(struct judge *j, const json_t *check, struct outcome *ret)
{
        const char *card =
                json_string_value(json_object_get(json_object_get(j->bundle, "version"), "card"));
        const json_t *sections = json_object_get(check, "sections");
        const char *needed = "", *absent = "";
        size_t i, n = 0;
        json_t *v;

        ret->verdict = FAIL;
        json_array_foreach (sections, i, v) {
                const char *section = json_is_string(v) ? json_string_value(v) : "?";
                enum found f = card != NULL ? find(card, section) : ABSENT;

                needed = judge_text(j, "%.500s%s%.100s", needed, i > 0 ? ", " : "", section);
                n += f == FILLED;
                if (f != FILLED)
                        absent = judge_text(j, "%.500s%s%.100s%s", absent,
                                            *absent != '\0' ? ", " : "", section,
                                            f == HOLLOW ? " (empty)" : "");
        }
        ret->required = *needed != '\0' ? needed : "a model card";
        if (card == NULL || *card == '\0') {
                ret->reason = "there is no model card: push a README.md with the model";
                return;
        }
        ret->observed = judge_text(j, "%zu of %zu sections", n, json_array_size(sections));
        ret->verdict = *absent == '\0' ? PASS : FAIL;
        ret->reason = *absent == '\0' ? "the model card has every section"
                                      : judge_text(j, "the model card lacks: %s", absent);
}
