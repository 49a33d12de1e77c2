/* SPDX-License-Identifier: Apache-2.0 */
/* Maximum matching of people to the places that rules have (augmenting paths). */
#include "policy/approval.h"

#include <string.h>

#include "base/str.h"
#include "policy/document.h"

struct match {
        const bool *may; /* [person * n_rules + rule] */
        size_t n_people, n_rules;
        struct mlc_approval_rule *rules;
        int *placed;
        bool *visited; /* rules, in the search for one person */
};

static bool listed(const char *const *list, size_t n, const char *s)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(list[i], s) == 0)
                        return true;
        return false;
}

static int rule_of(const struct mlc_approval_in *in, size_t i, const json_t **ret_from,
                   struct mlc_approval_rule *ret, struct mlc_err *err)
{
        const json_t *rule = json_array_get(in->rules, i);
        const json_t *count = json_object_get(rule, "count");
        const json_t *from = json_object_get(rule, "from");
        const char *name = json_string_value(json_object_get(rule, "name"));

        if (name == NULL || !json_is_integer(count) || json_integer_value(count) < 1 ||
            json_integer_value(count) > MLC_APPROVAL_COUNT_MAX || !json_is_array(from))
                return mlc_fail(err, MLC_E_INVALID, "approval rule %zu needs name, from and count",
                                i);
        *ret = (struct mlc_approval_rule){name, (unsigned)json_integer_value(count), 0};
        *ret_from = from;
        return 0;
}

static int holds_any(const struct mlc_approval_in *in, const json_t *from, const char *person,
                     bool *ret, struct mlc_err *err)
{
        json_t *v;
        size_t i;

        *ret = false;
        if (listed(in->excluded, in->n_excluded, person))
                return 0;
        json_array_foreach (from, i, v) {
                int r;

                if (!json_is_string(v))
                        return mlc_fail(err, MLC_E_INVALID, "'from' holds what is not text");
                r = in->holds(in->userdata, person, json_string_value(v), ret, err);
                if (r < 0 || *ret)
                        return r;
        }
        return 0;
}

int mlc_approval_may(const struct mlc_approval_in *in, size_t rule, const char *person, bool *ret,
                     struct mlc_err *err)
{
        struct mlc_approval_rule ignored;
        const json_t *from;
        bool may = false;
        int r = rule_of(in, rule, &from, &ignored, err);

        if (r == 0)
                r = holds_any(in, from, person, &may, err);
        if (r == 0)
                *ret = may;
        return r;
}

/* Finds a place for the person, moving others where that makes room. Depth: the number of rules. */
static bool place(struct match *m, size_t person)
{
        for (size_t k = 0; k < m->n_rules; k++) {
                struct mlc_approval_rule *rule = &m->rules[k];

                if (!m->may[person * m->n_rules + k] || m->visited[k])
                        continue;
                m->visited[k] = true;
                if (rule->have < rule->need) {
                        rule->have++;
                        m->placed[person] = (int)k;
                        return true;
                }
                for (size_t other = 0; other < m->n_people; other++) {
                        if (m->placed[other] != (int)k)
                                continue;
                        if (!place(m, other))
                                continue;
                        m->placed[person] = (int)k;
                        return true;
                }
        }
        return false;
}

static int fill_may(const struct mlc_approval_in *in, struct match *m, bool *may,
                    struct mlc_err *err)
{
        for (size_t k = 0; k < m->n_rules; k++) {
                const json_t *from;
                int r = rule_of(in, k, &from, &m->rules[k], err);

                if (r < 0)
                        return r;
                for (size_t i = 0; i < in->n_people; i++) {
                        if (listed(in->people, i, in->people[i]))
                                continue; /* the same person again */
                        r = holds_any(in, from, in->people[i], &may[i * m->n_rules + k], err);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

int mlc_approval_count(const struct mlc_approval_in *in, struct mlc_arena *a,
                       struct mlc_approval_count *ret, struct mlc_err *err)
{
        struct match m = {.n_people = in->n_people, .n_rules = json_array_size(in->rules)};
        bool *may, satisfied = true;
        int r;

        if (!json_is_array(in->rules) || m.n_rules > 2 * MLC_APPROVAL_RULES_MAX)
                return mlc_fail(err, MLC_E_INVALID, "approval rules are a list of at most %d",
                                2 * MLC_APPROVAL_RULES_MAX);
        if (in->n_people > MLC_APPROVAL_PEOPLE_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "more than %d people", MLC_APPROVAL_PEOPLE_MAX);
        may = mlc_arena_array(a, m.n_people * m.n_rules + 1, sizeof(*may), err);
        m.rules = mlc_arena_array(a, m.n_rules + 1, sizeof(*m.rules), err);
        m.placed = mlc_arena_array(a, m.n_people + 1, sizeof(*m.placed), err);
        m.visited = mlc_arena_array(a, m.n_rules + 1, sizeof(*m.visited), err);
        if (may == NULL || m.rules == NULL || m.placed == NULL || m.visited == NULL)
                return MLC_E_LIMIT;
        r = fill_may(in, &m, may, err);
        if (r < 0)
                return r;
        m.may = may;
        for (size_t i = 0; i < m.n_people; i++)
                m.placed[i] = -1;
        for (size_t i = 0; i < m.n_people; i++) {
                memset(m.visited, 0, m.n_rules * sizeof(*m.visited));
                (void)place(&m, i);
        }
        for (size_t k = 0; k < m.n_rules; k++)
                satisfied = satisfied && m.rules[k].have >= m.rules[k].need;
        *ret = (struct mlc_approval_count){satisfied, m.rules, m.n_rules, m.placed};
        return 0;
}
