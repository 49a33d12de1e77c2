/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Who may take how much of the server. README.md says why. */
#define HTTP_HEAD_MS_MAX                                                                           \
        15000 /* from connecting, or from the last reply, to the end of a request's head */
#define HTTP_PATIENCE_MS 1000 /* for a head before its connection may be cut to make room */
#define HTTP_RATE_WINDOW_MS 60000 /* over which a body averages at least HTTP_RATE_MIN */
#define HTTP_RATE_MIN 1024 /* bytes a second */
#define HTTP_REQUEST_MS_MAX 30000 /* what a handler may take, its long poll not counted */
#define HTTP_WAIT_S_MAX 60 /* of Prefer: wait=N */
#define HTTP_LINGER_MS_MAX 2000 /* reading on after an early reply, so that the client sees it */
#define HTTP_DISCARD_MAX 65536 /* bytes of a refused body that are read to keep the connection */
#define HTTP_POOL_SIZE (128 * 1024) /* of a connection: half of it is what one recv() may bring */
#define HTTP_ARENA_MAX (16u << 20)
#define HTTP_STREAM_MAX (16u << 20) /* of what is sent of a stream at a time */
#define HTTP_TARGET_MAX 8192
#define HTTP_REPLY_HEADERS_MAX 32
#define HTTP_CONNECTIONS_DEFAULT 512
#define HTTP_IDEMPOTENCY_KEY_MAX 128
