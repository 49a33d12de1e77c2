/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "base/arena.h"
#include "codec/digest.h"
#include "codec/json.h"

/*
 * Documents: what people write in YAML and the server judges by. The normalised form has every key
 * of its kind, defaults filled in, so that documents that mean the same have the same digest:
 *   percents and numbers  decimal strings of 9 significant digits (policy/decimal.h)
 *   durations             KEY_ms, integers: at_most_ms, live_for_ms, request_ttl_ms, for_ms,
 *                         deadline_ms, duration_ms
 *   left out              null, [] or {}
 * Environment {apiVersion, kind, name, policy|null, alias|null, owners[], threshold (0 without
 *   owners), after[{environment, live_for_ms}], targets[{name, serving{driver,
 *   instances[{url, repository{dir}|null}]}, traffic{driver, control}|null}], windows{allow[],
 *   deny[]}} and, only where they are written: serving's ready_timeout_ms, drain_ms, implementation
 *   (oip), backend (triton), token{secret|file|env} (webhook); traffic's map (haproxy, needed);
 *   metrics{prometheus}
 * Policy {apiVersion, kind, name, checks[], approvals[{name, from[], count, request_ttl_ms|null}]}
 *   every check {id, type, mode} and, by type:
 *   threshold {metric, dataset|null, slice{}, at_least|null, at_most|null, bound value|interval,
 *     confidence, minimum_n, unit|null} · compare {metric, dataset|null, slice{}, against, test,
 *     margin, alpha, minimum_n} · freshness {at_most_ms, dataset|null} · imports {unsafe, allow[]}
 *   · card {sections[]} · lineage {requires[]}
 * Model {apiVersion, kind, name (ns/model), owners[], labels{}, policy|null, routes[{route,
 *   key|null, protocol, environments[]}], rollout{strategy, steps[], checks[], on_harm,
 *   on_silence, deadline_ms|null, on_lost_control}|null}; a key is header:NAME, cookie:NAME,
 *   address or random; steps {mirror|null, weight|null, requests, for_ms|null, advance} and, only
 *   where they are written, labels, checks[], wait, approvals[], targets[]; checks {id, type, mode}
 *   and, by type: error-rate, labels {margin, alpha} · slower-than {limit_ms, margin, alpha} ·
 *   latency {quantile, margin (a share of stable's), alpha} · prediction-distribution {alpha} and
 *   where written method, floor · shadow-agreement {at_least} and where written tolerance,
 *   relative_tolerance, alpha · promql {query, at_most|null, at_least|null, consecutive,
 *   source|null}; rollout's exposure, on_deadline and ab{metric (a check's id), alpha, margin,
 *   horizon|null, horizon_ms|null} only where written
 * Group {apiVersion, kind, name, members[]}
 * owners and members are "user:NAME" or (owners) "group:NAME"; from is "role:", "group:" or
 * "user:". Whether those exist is for the caller to check.
 */
#define MLC_DOCUMENT_NAME_MAX 201 /* a model's; others 100 */
#define MLC_CHECKS_MAX 200
#define MLC_APPROVAL_RULES_MAX 32
#define MLC_APPROVAL_COUNT_MAX 32

enum mlc_document_kind { MLC_ENVIRONMENT, MLC_POLICY, MLC_MODEL, MLC_GROUP };

struct mlc_document {
        enum mlc_document_kind kind;
        const char *name; /* borrowed from json */
        json_t *json; /* normalised; owned by the struct mlc_documents */
        struct mlc_digest digest; /* SHA-256 of the RFC 8785 form of json */
        const char *source; /* its YAML as submitted, in the text given */
        size_t source_len;
};

struct mlc_documents {
        struct mlc_document *items; /* in the arena, in the order of the text */
        size_t n;
};

/*
 * One or more YAML documents. MLC_E_INVALID with "line L, column C: what is wrong and what to
 * write", err.field the JSON pointer within its document; MLC_E_NOT_SUPPORTED for what is reserved
 * (kind Namespace, valid_for, standing, repositories by agent, s3 and oci); MLC_E_LIMIT. The same
 * kind and name twice in one text is refused. `text` must outlive ret.
 */
int mlc_documents_parse(const char *text, size_t len, struct mlc_arena *a,
                        struct mlc_documents *ret, struct mlc_err *err) MLC_CHECK;
void mlc_documents_done(struct mlc_documents *d); /* idempotent; before the arena is done */

/* One document that is JSON already (in the form people write). *ret is the normalised form, the
 * caller's. err.field is the JSON pointer. */
int mlc_document_normalise(const json_t *doc, json_t **ret, struct mlc_err *err) MLC_CHECK;

const char *mlc_document_kind_name(enum mlc_document_kind kind); /* "Environment"; static */
/* MLC_E_NOT_FOUND when there is no such kind. */
int mlc_document_kind_parse(const char *s, enum mlc_document_kind *ret,
                            struct mlc_err *err) MLC_CHECK;
