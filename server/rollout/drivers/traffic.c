/* SPDX-License-Identifier: Apache-2.0 */
#include "rollout/drivers/traffic.h"

#include "base/cleanup.h"
#include "base/str.h"

const struct traffic_ops *traffic_find(const char *name)
{
        static const struct traffic_ops *const all[] = {&traffic_nginx, &traffic_haproxy};

        for (size_t i = 0; i < ARRAY_LEN(all); i++)
                if (mlc_streq(all[i]->name, name))
                        return all[i];
        return NULL;
}
