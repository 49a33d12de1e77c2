/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "mlctl/error.h"

struct app;

/*
 * The embedded data path: nginx with our module as a child of `mlctld serve --gateway HOST:PORT`.
 * Everything of it is in DIR/gateway; the control socket is DIR/gateway/control.sock and speaks
 * what README.md says. Called from the main thread only, whose end ends the child.
 *
 * mlctld itself holds the listening sockets and hands them on: when nginx is killed, callers wait
 * the moment until the next one runs and are not refused. As root the child runs as www-data.
 */

/* Without --gateway: does nothing. Returns when nginx answers, with DIR/gateway-address written. */
int gateway_start(struct app *app, struct mlc_err *err) MLC_CHECK;
/* Lets requests in progress end (8 s), then stops the child; removes the address. */
void gateway_stop(struct app *app);
/* Every tick: starts a child that ended again. Negative when that failed; it is tried again. */
int gateway_tend(struct app *app, struct mlc_err *err) MLC_CHECK;
