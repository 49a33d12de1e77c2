/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

#define LINE_MAX_BYTES 65536
#define VALUE_MAX_BYTES 4096

static enum mlc_log_level level_min = MLC_LOG_INFO;

void mlc_log_level_min(enum mlc_log_level level)
{
        level_min = level;
}

static void add_json_string(struct mlc_str *s, const char *text)
{
        size_t n = 0;

        mlc_str_addc(s, '"');
        for (const unsigned char *p = (const unsigned char *)text;
             *p != '\0' && n < VALUE_MAX_BYTES; p++, n++) {
                if (*p == '"' || *p == '\\')
                        mlc_str_addf(s, "\\%c", *p);
                else if (*p < 0x20 || *p == 0x7f)
                        mlc_str_addf(s, "\\u%04x", *p);
                else
                        mlc_str_addc(s, (char)*p);
        }
        mlc_str_addc(s, '"');
}

void mlc_log(enum mlc_log_level level, const char *trace, const char *event,
             const struct mlc_kv *kv, unsigned n_kv)
{
        static const char *const names[] = {"debug", "info", "warn", "error"};
        char now[MLC_TIME_MAX];
        struct mlc_str s;

        if (level < level_min)
                return;
        mlc_str_init(&s, LINE_MAX_BYTES);
        mlc_time_format(mlc_now_ms(), now);
        mlc_str_addf(&s, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", now, names[level],
                     event);
        if (trace != NULL && trace[0] != '\0') {
                mlc_str_add(&s, ",\"trace\":");
                add_json_string(&s, trace);
        }
        for (unsigned i = 0; i < n_kv; i++) {
                mlc_str_addc(&s, ',');
                add_json_string(&s, kv[i].key);
                mlc_str_addc(&s, ':');
                if (kv[i].type == MLC_KV_INT)
                        mlc_str_addf(&s, "%" PRId64, kv[i].num);
                else if (kv[i].str == NULL)
                        mlc_str_add(&s, "null");
                else
                        add_json_string(&s, kv[i].str);
        }
        mlc_str_add(&s, "}\n");
        if (!s.over && write(STDERR_FILENO, s.data, s.len) < 0) {
                /* nowhere left to report it */
        }
        mlc_str_done(&s);
}

void mlc_log_err(enum mlc_log_level level, const char *trace, const char *event,
                 const struct mlc_err *err)
{
        log_event(level, trace, event, KV_STR("code", mlc_error_slug(err->code)),
                  KV_STR("error", err->msg),
                  KV_STR("field", err->field[0] != '\0' ? err->field : NULL),
                  KV_STR("sqlstate", err->sqlstate[0] != '\0' ? err->sqlstate : NULL),
                  KV_STR("file", err->file), KV_INT("line", err->line));
}
