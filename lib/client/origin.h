/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "mlctl/error.h"

#define MLC_ORIGIN_TEXT_MAX 2048

/*
 * Where an artifact comes from, as far as the place that a command runs in tells: the variables of
 * GitHub's and GitLab's CI, else the git checkout. Empty texts: not known.
 */
struct mlc_origin {
        char code[MLC_ORIGIN_TEXT_MAX]; /* URL@COMMIT, no user or password in the URL */
        char run[MLC_ORIGIN_TEXT_MAX]; /* address of the CI's run */
        char actor[256]; /* who set the CI off */
        const char *code_from, *run_from; /* "GitHub", "GitLab", "git"; NULL when not known */
        bool dirty; /* the checkout has changes that the commit does not hold */
};

/*
 * `lookup` is getenv, or a stand-in. `git` says whether to look at the checkout of the working
 * directory, by running git, when no CI is found. Never fails: what cannot be learned is empty.
 */
void mlc_origin_detect(const char *(*lookup)(void *userdata, const char *name), void *userdata,
                       bool git, struct mlc_origin *ret);

/* Copies a repository's address without user and password ("https://u:p@h/x" -> "https://h/x");
 * "git@host:path" keeps its login name. False when it does not fit or holds control characters. */
bool mlc_origin_clean_url(const char *url, char *ret, unsigned long size);
