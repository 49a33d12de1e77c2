/* SPDX-License-Identifier: Apache-2.0 */
#include "tlog/proof.h"

#include "codec/base64.h"
#include "tlog/source.h"

#define HEAD "c2sp.org/tlog-proof@v1\n"

void mlc_tlog_proof_format(const struct mlc_tlog_proof *p, struct mlc_str *ret)
{
        mlc_str_addf(ret, HEAD "index %llu\n", (unsigned long long)p->index);
        for (size_t i = 0; i < p->path.n; i++) {
                mlc_base64_encode(MLC_BASE64_STD, p->path.h[i].b, sizeof(p->path.h[i].b), ret);
                mlc_str_addc(ret, '\n');
        }
        mlc_str_addc(ret, '\n');
        mlc_str_addn(ret, p->checkpoint, p->checkpoint_len);
}

struct lines {
        const char *p;
        size_t left;
};

/* The next line without its LF; false at the end or when the last line has none. */
static bool next_line(struct lines *l, const char **ret, size_t *ret_len)
{
        const char *lf = l->left > 0 ? memchr(l->p, '\n', l->left) : NULL;

        if (lf == NULL)
                return false;
        *ret = l->p;
        *ret_len = (size_t)(lf - l->p);
        l->left -= *ret_len + 1;
        l->p = lf + 1;
        return true;
}

static bool parse_index(const char *line, size_t len, uint64_t *ret)
{
        char buf[24];
        unsigned long long v;

        if (len < 7 || len - 6 >= sizeof(buf) || memcmp(line, "index ", 6) != 0)
                return false;
        memcpy(buf, line + 6, len - 6);
        buf[len - 6] = '\0';
        if (strlen(buf) != len - 6 || !mlc_parse_u64(buf, &v) || v > INT64_MAX)
                return false;
        *ret = v;
        return true;
}

int mlc_tlog_proof_parse(const char *text, size_t len, struct mlc_tlog_proof *ret,
                         struct mlc_err *err)
{
        struct lines l = {text, len};
        struct mlc_tlog_proof p = {0};
        const char *line;
        size_t n;

        if (len > MLC_TLOG_PROOF_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "the proof is larger than %u bytes",
                                MLC_TLOG_PROOF_MAX);
        if (!next_line(&l, &line, &n) || n != sizeof(HEAD) - 2 || memcmp(line, HEAD, n) != 0)
                return mlc_fail(err, MLC_E_INVALID, "the proof does not start with '%.22s'", HEAD);
        if (!next_line(&l, &line, &n))
                return mlc_fail(err, MLC_E_INVALID, "the proof has no index line");
        if (n > 6 && memcmp(line, "extra ", 6) == 0 && !next_line(&l, &line, &n))
                return mlc_fail(err, MLC_E_INVALID, "the proof has no index line");
        if (!parse_index(line, n, &p.index))
                return mlc_fail(err, MLC_E_INVALID, "the proof's index line is malformed");
        for (;;) {
                if (!next_line(&l, &line, &n))
                        return mlc_fail(err, MLC_E_INVALID, "the proof has no checkpoint");
                if (n == 0)
                        break;
                if (p.path.n == MLC_MERKLE_PROOF_MAX - 1 ||
                    !mlc_base64_decode_exact(MLC_BASE64_STD, line, n, p.path.h[p.path.n].b, 32))
                        return mlc_fail(err, MLC_E_INVALID, "hash %zu of the proof is malformed",
                                        p.path.n);
                p.path.n++;
        }
        p.checkpoint = l.p;
        p.checkpoint_len = l.left;
        *ret = p;
        return 0;
}

int mlc_tlog_proof_verify(const struct mlc_tlog_proof *p, const struct mlc_digest *leaf,
                          const struct mlc_vkeys *keys, struct mlc_checkpoint *ret,
                          struct mlc_err *err)
{
        struct mlc_merkle_inclusion in = {.index = p->index, .leaf = *leaf, .proof = p->path.h};
        struct mlc_checkpoint c;
        int r;

        r = mlc_tlog_open_checkpoint(p->checkpoint, p->checkpoint_len, keys, &c, err);
        if (r < 0)
                return r;
        in.size = c.size;
        in.root = c.root;
        in.n_proof = p->path.n;
        r = mlc_merkle_check_inclusion(&in, err);
        if (r < 0)
                return r;
        if (ret != NULL)
                *ret = c;
        return 0;
}
