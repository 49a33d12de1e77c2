/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "codec/json.h"

/*
 * Who counts: each rule wants `count` distinct people out of its `from`; one person counts once
 * over all rules, and is placed where that satisfies most (maximum matching). Excluded people
 * (author, requester, services) never count.
 */
#define MLC_APPROVAL_PEOPLE_MAX 1000

struct mlc_approval_in {
        const json_t *rules; /* effective policy's approvals: [{name, from[], count, …}] */
        const char *const *people; /* ids of those who approved; twice the same counts once */
        size_t n_people;
        const char *const *excluded;
        size_t n_excluded;
        /* Whether the person with this id falls under "role:X", "group:X" or "user:NAME". */
        int (*holds)(void *userdata, const char *person, const char *from, bool *ret,
                     struct mlc_err *err);
        void *userdata;
};

struct mlc_approval_rule {
        const char *name; /* borrowed from rules */
        unsigned need, have; /* have: people placed here */
};

struct mlc_approval_count {
        bool satisfied; /* every rule has what it needs; true without rules */
        struct mlc_approval_rule *rules; /* in the arena, in the order given */
        size_t n_rules;
        const int *placed; /* for each of people: the rule it counts for, or -1 */
};

/* MLC_E_INVALID when rules are no list of rules; errors of holds(). */
int mlc_approval_count(const struct mlc_approval_in *in, struct mlc_arena *a,
                       struct mlc_approval_count *ret, struct mlc_err *err) MLC_CHECK;
/* Whether this person could count for rule `rule` (its index): under its from, and not excluded. */
int mlc_approval_may(const struct mlc_approval_in *in, size_t rule, const char *person, bool *ret,
                     struct mlc_err *err) MLC_CHECK;
