/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "codec/json.h"
#include "table.h"

/* What the files about tables share. */

/* Adds routes[n_routes], which has been filled in and has a name of its own. */
void gw_table_add_route(struct gw_table *t);
/* Adds the address, which is not there yet; its index, GW_NONE when there are too many. */
uint16_t gw_table_add_address(struct gw_table *t, const struct gw_address *a);
void gw_table_set_text(struct gw_table *t, const char *text, size_t len);

/* Adds element `i` of "routes", with what belongs to it. */
int gw_parse_route(struct gw_table *t, const json_t *route, size_t i,
                   struct mlc_err *err) MLC_CHECK;
/* What stands around the routes; *ret_routes is borrowed from root. */
int gw_parse_envelope(struct gw_table *t, const json_t *root, json_t **ret_routes,
                      struct mlc_err *err) MLC_CHECK;

/*
 * Finds the elements of "routes" of the outermost object without parsing them. What it finds in a
 * text that is JSON is right; a text that is none may look like one to it, and it need not find
 * what is written in an unusual way. `pos` is behind '[' or an element before the first two.
 */
struct gw_scan {
        const char *text;
        size_t len, pos;
};

/* To the first element; false: there is none, or something else than an object. */
bool gw_scan_begin(struct gw_scan *s);
/* From behind an element to the next one. */
bool gw_scan_next(struct gw_scan *s);
/* From an element to its end, in bytes; 0: it has none. */
size_t gw_scan_object(const struct gw_scan *s);
/* Whether `pos` is at the end of the array, behind white space. */
bool gw_scan_ended(struct gw_scan *s);
