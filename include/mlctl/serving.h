/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "mlctl/error.h"

struct json_t; /* jansson's */
struct mlc_caller; /* client/call.h */
struct mlc_str; /* base/str.h */

/*
 * Serving drivers bring a version onto an inference server and prove that it is ready there. Each
 * version is a server-side model of its own, NS--MODEL--N, whose name is never used for anything
 * else, so that loading one touches no other: nothing is ever loaded in place.
 *
 * Calls are synchronous, any thread, one struct mlc_serving_call per thread. The server on the
 * other side is not trusted: every call has a deadline and a reply cap, follows no redirect, and
 * what the server says of itself is believed only where a table in the driver says so.
 */

#define MLC_SERVING_NAME_MAX 224 /* NS--MODEL--N, NUL included */
#define MLC_SERVING_TEXT_MAX 384
#define MLC_SERVING_LIST_MAX 4096 /* models that one instance may have */

/*
 * NS--MODEL--N of "NS/MODEL" and N. MLC_E_INVALID when it is no model, or when namespace or model
 * contain "--": two models could then have one name.
 */
int mlc_serving_name(const char *model, unsigned long long version, char ret[MLC_SERVING_NAME_MAX],
                     struct mlc_err *err) MLC_CHECK;
/* The reverse: true when `name` is one that mlc_serving_name makes. */
bool mlc_serving_name_parse(const char *name, char ret_model[MLC_SERVING_NAME_MAX],
                            unsigned long long *ret_version);

/* How a call ended. The maps from HTTP status stand in each driver. */
enum mlc_serving_outcome {
        MLC_SERVING_OK,
        MLC_SERVING_NOT_READY, /* exists, is not ready (yet) */
        MLC_SERVING_NOT_FOUND, /* the server has no such model or version */
        MLC_SERVING_REFUSED, /* it will not do this, and trying again will not help */
        MLC_SERVING_TRANSIENT, /* it could not do this now: overloaded, restarting, 5xx */
        MLC_SERVING_UNREACHABLE, /* no whole answer: what it did is unknown */
};
const char *mlc_serving_outcome_name(enum mlc_serving_outcome o); /* "not_ready"; static */

struct mlc_serving_result {
        enum mlc_serving_outcome outcome;
        int status; /* HTTP; 0 when no answer came */
        char peer[64]; /* "ADDRESS:PORT" that the last answer came from; "" before any */
        /* one printable line: the server's own words, or what went wrong; "" when ok */
        char text[MLC_SERVING_TEXT_MAX];
};

/* One of the document's serving.instances, and what the driver may use of its surroundings. All
 * borrowed for the time of the call. */
struct mlc_serving_call {
        const char *url; /* "http://HOST:PORT", maybe with a path prefix */
        const struct json_t *settings; /* the target's normalised `serving` object */
        const char *address; /* "ADDRESS:PORT" to connect to; NULL or "": what url means */
        const char *environment, *target; /* for webhooks: whom this is about */
        int64_t deadline_ms; /* mlc_monotonic_ms() by which all of it must have ended */
        /* 0, with *ret_loopback_only for struct mlc_call, when the server may call url; else
         * MLC_E_FORBIDDEN. NULL: loopback only. */
        int (*egress)(void *userdata, const char *url, bool *ret_loopback_only,
                      struct mlc_err *err);
        /* Ed25519 with the server's key; only the webhook driver signs. */
        int (*sign)(void *userdata, const void *msg, size_t len, unsigned char ret[64],
                    struct mlc_err *err);
        /* Appends what {secret|file|env: …} of a document stands for; only the webhook driver asks.
         * NULL: such settings fail. */
        int (*secret)(void *userdata, const struct json_t *ref, struct mlc_str *ret,
                      struct mlc_err *err);
        bool (*cancelled)(void *userdata); /* NULL: never */
        void *userdata;
        struct mlc_caller *caller; /* keeps connections; NULL: one of its own for each call */
};

/* The version, as the server is to know it. */
struct mlc_serving_model {
        const char *name; /* from mlc_serving_name */
        const char *model; /* "fraud/scorer" */
        unsigned long long version;
        const char *digest; /* of the manifest, "sha256:…" */
        const char *dir; /* its folder in the instance's repository; NULL: it has none */
        /* An inference request ({"inputs":[…]}) that must succeed before the version counts as
         * ready: a recorded example. NULL: none known. */
        const struct json_t *example;
};

/* What a driver wants to lie in the version's folder. */
struct mlc_serving_artifact {
        const struct mlc_serving_model *model;
        const struct json_t *settings; /* the target's normalised `serving` object */
        const struct json_t *model_yaml; /* the artifact's model.yaml, or NULL */
        const char *const *paths; /* of its files, sorted by bytes */
        size_t n_paths;
};

struct mlc_serving_file {
        const char *path; /* below the version's folder */
        const char *data;
        size_t len;
};

struct mlc_serving_layout {
        const char *files_under; /* where the artifact's files go: "artifact", "3"; "" for none */
        struct mlc_serving_file extra[2]; /* settings that the driver adds */
        size_t n_extra;
};

struct mlc_serving_listed {
        char name[MLC_SERVING_NAME_MAX]; /* as the server says; longer ones end in "…" */
        char version[32]; /* "" when it does not say */
        char state[32]; /* the server's word, in lower case */
};

struct mlc_serving_list {
        struct mlc_serving_listed *items; /* in the arena */
        size_t n;
};

struct mlc_serving_ops {
        const char *name; /* serving.driver in documents */
        bool repository; /* instances need repository.dir */
        /*
         * The target's normalised `serving` object. MLC_E_INVALID with err->field (a JSON pointer
         * within it) for an unknown key or value: a setting that would be ignored is refused.
         */
        int (*check)(const struct json_t *settings, struct mlc_err *err);
        /*
         * MLC_E_INVALID, saying what to do, when this server could not run the artifact, or when
         * one of its files would mean something to the server that nobody approved. NULL: files go
         * as they are (only without `repository`).
         */
        int (*layout)(const struct mlc_serving_artifact *in, struct mlc_arena *a,
                      struct mlc_serving_layout *ret, struct mlc_err *err);
        /* Asks for the model to be loaded; ok only means that the server took it. A model that is
         * ready under this name already is not loaded again. */
        void (*load)(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                     struct mlc_serving_result *ret);
        /* Is exactly this version ready? */
        void (*ready)(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                      struct mlc_serving_result *ret);
        /* Asks for the model to go; ok when it was not there. */
        void (*unload)(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                       struct mlc_serving_result *ret);
        /* What the server says it has. Servers that only know of what lies on disk, or only of what
         * is in memory, are no proof of the rest: see drift in server/rollout/drift.h. */
        void (*list)(const struct mlc_serving_call *c, struct mlc_arena *a,
                     struct mlc_serving_list *ret_list, struct mlc_serving_result *ret);
        /* One inference on exactly this version; *ret_reply (initialised here, the caller's to
         * free; empty unless ok) names model and version then. NULL: the driver cannot. */
        void (*infer)(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                      const struct json_t *request, struct mlc_str *ret_reply,
                      struct mlc_serving_result *ret);
        /* Tells the other side how much traffic each version is to get: {"route","weights":[{
         * "name","version","weight" of 10000}],"generation"}. NULL: traffic is not the driver's. */
        void (*weights)(const struct mlc_serving_call *c, const struct json_t *weights,
                        struct mlc_serving_result *ret);
};

/* "oip", "triton", "webhook"; NULL when there is none of that name. */
const struct mlc_serving_ops *mlc_serving_find(const char *driver);

/*
 * Loads, waits until the version is ready and stays so (three times in a row, polled), has it
 * answer m->example if there is one. What fails half-way, is refused, or is not ready by the
 * deadline is unloaded again before this returns (at most 10 s beyond the deadline); the folder is
 * the caller's to remove. When it is cancelled nothing is unloaded. Idempotent: a version that is
 * ready already is only checked.
 */
void mlc_serving_bring_up(const struct mlc_serving_ops *ops, const struct mlc_serving_call *c,
                          const struct mlc_serving_model *m, struct mlc_serving_result *ret);
/* Unloads and waits until the version is no longer ready. */
void mlc_serving_take_down(const struct mlc_serving_ops *ops, const struct mlc_serving_call *c,
                           const struct mlc_serving_model *m, struct mlc_serving_result *ret);
