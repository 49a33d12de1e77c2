/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/sketch.h"

#include <assert.h>
#include <math.h>

#define LN_GAMMA 0.020000666706669543 /* ln(1.01 / 0.99) */

unsigned mlc_sketch_cell(double x)
{
        double i;

        assert(!isnan(x));
        if (x == 0.0)
                return MLC_SKETCH_SIDE;
        i = ceil(log(fabs(x)) / LN_GAMMA);
        if (i < MLC_SKETCH_FIRST)
                return MLC_SKETCH_SIDE;
        i = fmin(i, MLC_SKETCH_LAST) - MLC_SKETCH_FIRST;
        return x > 0 ? MLC_SKETCH_SIDE + 1 + (unsigned)i : MLC_SKETCH_SIDE - 1 - (unsigned)i;
}

double mlc_sketch_value(unsigned cell)
{
        double gamma = exp(LN_GAMMA), i;

        assert(cell < MLC_SKETCH_CELLS);
        if (cell == MLC_SKETCH_SIDE)
                return 0.0;
        i = cell > MLC_SKETCH_SIDE ? (double)(cell - MLC_SKETCH_SIDE - 1)
                                   : (double)(MLC_SKETCH_SIDE - 1 - cell);
        i = 2.0 * exp(LN_GAMMA * (i + MLC_SKETCH_FIRST)) / (gamma + 1.0);
        return cell > MLC_SKETCH_SIDE ? i : -i;
}

unsigned mlc_rebin(struct mlc_rebin in, int64_t *ret_current, int64_t *ret_reference)
{
        int64_t total = 0, seen = 0;
        unsigned n = 0;

        assert(in.bins >= 1 && in.cells >= 1);
        for (unsigned i = 0; i < in.cells; i++)
                total += in.reference[i];
        ret_current[0] = ret_reference[0] = 0;
        for (unsigned i = 0; i < in.cells; i++) {
                /* the next bin begins once this one has its share of the reference */
                if (n + 1 < in.bins && ret_reference[n] > 0 && in.reference[i] > 0 &&
                    (double)seen * in.bins >= (double)total * (n + 1)) {
                        n++;
                        ret_current[n] = ret_reference[n] = 0;
                }
                ret_current[n] += in.current[i];
                ret_reference[n] += in.reference[i];
                seen += in.reference[i];
        }
        return n + 1;
}
