/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "cli.h"

/* What the commands about promotions share. */

/* GET …/promotions/ID. */
int promotion_get(struct cli *cli, const char *id, json_t **ret) MLC_CHECK;
/* The resource as people read it. */
void promotion_print(struct cli *cli, const json_t *j);

/* What …/decision is asked to wait for. */
enum promotion_until { UNTIL_EVALUATED, UNTIL_APPROVED, UNTIL_LIVE };
struct promotion_decision {
        bool ok; /* what was waited for is reached */
        char state[32];
};
/*
 * Waits for it, for the end of the promotion, or for `held`, until the moment (mlc_monotonic_ms)
 * `deadline` at most; a server that cannot be reached or starts anew is waited for too, and is
 * MLC_E_UNREACHABLE or MLC_E_UNAVAILABLE when it does not come back by then.
 */
int promotion_wait(struct cli *cli, const char *id, enum promotion_until until, int64_t deadline,
                   struct promotion_decision *ret) MLC_CHECK;
/* Whether trying again may help: the server is away, starting, or busy. */
bool promotion_may_retry(int code);
/* Whether nothing will happen to it any more. */
bool promotion_ended(const char *state);

#define EVALUATING_MS 30000 /* how long `promote` and `approve` wait for the end of evaluating */

/* junit.c: the checks as JUnit XML, one suite per policy. */
int junit_write(struct cli *cli, const char *file, const json_t *promotion) MLC_CHECK;
