/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/decimal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mlc_decimal(double d, char ret[MLC_DECIMAL_MAX])
{
        size_t n;

        assert(isfinite(d));
        (void)snprintf(ret, MLC_DECIMAL_MAX, "%#.9g", d == 0 ? 0.0 : d); /* -0 is 0 */
        n = strlen(ret);
        if (ret[n - 1] == '.')
                ret[n - 1] = '\0';
}

double mlc_decimal_value(const char *s)
{
        char *end;
        double d = strtod(s, &end);

        assert(end != s && *end == '\0' && isfinite(d));
        return d;
}
