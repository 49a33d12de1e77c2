/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        return fuzz_format(data, size, "model.pkl");
}
