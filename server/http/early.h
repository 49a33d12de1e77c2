/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

struct http_request;

/*
 * Sends the reply while the body is still on its way (libmicrohttpd has no call for that), then
 * reads on for a moment: closing at once would reset the connection and take the reply from the
 * client. The connection is over afterwards.
 */
void early_send(struct http_request *r, int fd);
