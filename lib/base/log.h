/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "mlctl/error.h"

/*
 * One JSON line per event on stderr (journald): {"time":…,"level":…,"event":…,"trace":…,FIELDS}.
 * `event` is a fixed noun.verb name. Fields are typed; user text is escaped and capped at 4 KiB.
 * Only the edge logs (server/, cli/); libraries return errors.
 */
enum mlc_log_level { MLC_LOG_DEBUG, MLC_LOG_INFO, MLC_LOG_WARN, MLC_LOG_ERROR };

struct mlc_kv {
        const char *key;
        enum { MLC_KV_STR, MLC_KV_INT } type;
        const char *str; /* NULL is written as null */
        int64_t num;
};

#define KV_STR(k, v) ((struct mlc_kv){.key = (k), .type = MLC_KV_STR, .str = (v)})
#define KV_INT(k, v) ((struct mlc_kv){.key = (k), .type = MLC_KV_INT, .num = (int64_t)(v)})

#define log_event(level, trace, event, ...)                                                        \
        mlc_log((level), (trace), (event), (struct mlc_kv[]){__VA_ARGS__},                         \
                sizeof((struct mlc_kv[]){__VA_ARGS__}) / sizeof(struct mlc_kv))
/* trace: the request's or job's trace id, or NULL. At least one field. */
#define log_debug(trace, event, ...) log_event(MLC_LOG_DEBUG, trace, event, __VA_ARGS__)
#define log_info(trace, event, ...) log_event(MLC_LOG_INFO, trace, event, __VA_ARGS__)
#define log_warn(trace, event, ...) log_event(MLC_LOG_WARN, trace, event, __VA_ARGS__)
#define log_error(trace, event, ...) log_event(MLC_LOG_ERROR, trace, event, __VA_ARGS__)

void mlc_log_level_min(enum mlc_log_level level); /* default MLC_LOG_INFO */
void mlc_log(enum mlc_log_level level, const char *trace, const char *event,
             const struct mlc_kv *kv, unsigned n_kv);
/* Logs an error that is about to be swallowed or turned into a 5xx: its code, message, file and
 * line. */
void mlc_log_err(enum mlc_log_level level, const char *trace, const char *event,
                 const struct mlc_err *err);
