/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "codec/json.h"
#include "mlctl/error.h"

/*
 * Inside the traffic driver for HAProxy (2.6, runtime API; deploy/haproxy/mlctl.cfg): the CLI, what
 * it prints, and the map from which the configuration reads splits. `control` is
 * "unix:SOCKET;map=FILE" (traffic.h). The map holds, one line each, in memory and in FILE:
 *
 *   ROUTE             WEIGHT|SALT|CANDIDATE|ITS VERSION|STABLE|ITS VERSION|KEY (names on servers)
 *   /bank/ROUTE/NAME  BOOT|GENERATION|VERSION|COUNTS|GENERATION|VERSION|COUNTS: what the backend
 *                     ROUTE.NAME had counted when the generation began, and what was counted in the
 *                     one before
 *   /boot             of the process that was told
 *   /generation       of the table; written last
 */
#define HAP_REPLY_MAX ((size_t)16 << 20)
#define HAP_CALL_MS 3000
#define HAP_PATH_MAX 512
#define HAP_COUNTS 6 /* requests, 2xx, 3xx, 4xx, 5xx, no status */
#define HAP_BOOT_MAX 64

struct hap {
        char socket[108], map[HAP_PATH_MAX];
};
struct hap_counts {
        int64_t n[HAP_COUNTS];
};
struct hap_bank {
        char boot[HAP_BOOT_MAX];
        int64_t generation, version, before, before_version; /* before: 0 when there was none */
        struct hap_counts base, of_before;
};

/* --- haproxy_cli.c --- */

/* MLC_E_INVALID when it is not "unix:SOCKET;map=FILE". */
int hap_where(const char *control, struct hap *ret, struct mlc_err *err) MLC_CHECK;
/* One command, without line feed; *ret is initialised by this call. MLC_E_UNREACHABLE, _TIMEOUT. */
int hap_ask(const struct hap *h, const char *command, struct mlc_str *ret,
            struct mlc_err *err) MLC_CHECK;
/* A command that answers with nothing but blanks, or it is MLC_E_CONFLICT with the answer. */
int hap_do(const struct hap *h, struct mlc_err *err, const char *fmt, ...)
        __attribute__((format(printf, 3, 4))) MLC_CHECK;
/* The map in memory as {KEY: VALUE}, the caller's. MLC_E_NOT_FOUND: haproxy has no such map. */
int hap_map(const struct hap *h, json_t **ret, struct mlc_err *err) MLC_CHECK;
/* Which process answers; another one has begun its counters at 0. */
int hap_boot(const struct hap *h, char ret[HAP_BOOT_MAX], struct mlc_err *err) MLC_CHECK;
/* {BACKEND: [counts]} of all backends, the caller's. */
int hap_counters(const struct hap *h, json_t **ret, struct mlc_err *err) MLC_CHECK;
/* [{"name","address" ("127.0.0.1:8081"),"maint":bool}…] of a backend, the caller's;
 * MLC_E_NOT_FOUND. */
int hap_servers(const struct hap *h, const char *backend, json_t **ret,
                struct mlc_err *err) MLC_CHECK;

/* --- haproxy_text.c: pure --- */

/* {KEY: VALUE} from lines "ADDRESS KEY VALUE". */
json_t *hap_parse_map(const char *text);
/* {BACKEND: [counts]} from CSV with a header; MLC_E_INVALID. */
int hap_parse_stat(const char *text, json_t **ret, struct mlc_err *err) MLC_CHECK;
int hap_parse_servers(const char *text, json_t **ret, struct mlc_err *err) MLC_CHECK;
/* The value of a route's entry. MLC_E_NOT_SUPPORTED for what two backends cannot do. */
int hap_entry(const json_t *route, struct mlc_str *ret, struct mlc_err *err) MLC_CHECK;
void hap_bank_write(const struct hap_bank *b, struct mlc_str *ret);
bool hap_bank_read(const char *text, struct hap_bank *ret);
void hap_counts_read(const json_t *list, struct hap_counts *ret);
/* now - then, never below 0. */
struct hap_counts hap_counts_since(const struct hap_counts *now, const struct hap_counts *then);
