/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves, and their replay: what is accepted is canonical and comes back the same. */
#include <assert.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "tlog/replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(mlc_replay_free) struct mlc_replay *replay = mlc_replay_new();
        _cleanup_(mlc_leaf_done) struct mlc_leaf l = {0};
        _cleanup_(mlc_str_done) struct mlc_str again;
        struct mlc_err err = {0}, unused = {0};

        mlc_str_init(&again, 1 << 17);
        if (mlc_leaf_parse(data, size, &l, &err) < 0) {
                assert(err.code != 0 && err.msg[0] != '\0');
                return 0;
        }
        assert(l.has_after == (l.state != NULL));
        if (!l.has_before) {
                const struct mlc_leaf_in in = {.origin = l.origin,
                                               .actor = l.actor,
                                               .action = l.action,
                                               .kind = l.kind,
                                               .id = l.id,
                                               .time_ms = l.time_ms,
                                               .after = l.state,
                                               .detail = l.detail};
                int r = mlc_leaf_build(&in, &again, &err);

                assert(r == 0 && again.len == size && memcmp(again.data, data, size) == 0);
        }
        if (mlc_replay_leaf(replay, 0, data, size, &unused) == 0)
                assert(strcmp(l.kind, MLC_REPLAY_KIND_LOG) == 0);
        return 0;
}
