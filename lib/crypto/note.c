/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/note.h"

#include <assert.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/base64.h"
#include "codec/utf8.h"
#include "crypto/hash.h"

#define ALG_ED25519 0x01
#define SIG_PREFIX "\xe2\x80\x94 " /* em dash and a space */
#define SIG_PREFIX_LEN (sizeof(SIG_PREFIX) - 1)
#define SIG_BLOB_MAX 8192 /* room for the larger post-quantum signatures of unknown keys */

static bool unicode_space(uint32_t c)
{
        return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
               (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
               c == 0x205f || c == 0x3000;
}

static bool key_name_ok(const char *s, size_t len)
{
        uint32_t c;

        if (len == 0)
                return false;
        for (size_t i = 0, n; i < len; i += n) {
                n = mlc_utf8_next(s + i, len - i, &c);
                if (n == 0 || c < 0x20 || c == '+' || unicode_space(c))
                        return false;
        }
        return true;
}

static uint32_t get_be32(const unsigned char *p)
{
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_be32(unsigned char *p, uint32_t v)
{
        p[0] = (unsigned char)(v >> 24);
        p[1] = (unsigned char)(v >> 16 & 0xff);
        p[2] = (unsigned char)(v >> 8 & 0xff);
        p[3] = (unsigned char)(v & 0xff);
}

int mlc_vkey_make(const char *name, const unsigned char pub[MLC_ED25519_KEY_LEN],
                  struct mlc_vkey *ret, struct mlc_err *err)
{
        static const unsigned char sep[2] = {'\n', ALG_ED25519};
        struct mlc_vkey k = {0};
        struct mlc_sha256 h;
        struct mlc_digest d;
        size_t len = strlen(name);

        if (len > MLC_KEY_NAME_MAX || !key_name_ok(name, len))
                return mlc_fail(err, MLC_E_INVALID,
                                "key name '%.80s' is empty, longer than %d bytes, or has a '+', a "
                                "blank or a control character",
                                name, MLC_KEY_NAME_MAX);
        mlc_sha256_init(&h);
        mlc_sha256_update(&h, name, len);
        mlc_sha256_update(&h, sep, sizeof(sep));
        mlc_sha256_update(&h, pub, MLC_ED25519_KEY_LEN);
        mlc_sha256_final(&h, &d);
        memcpy(k.name, name, len);
        memcpy(k.pub, pub, sizeof(k.pub));
        k.id = get_be32(d.b);
        *ret = k;
        return 0;
}

int mlc_vkey_parse(const char *s, struct mlc_vkey *ret, struct mlc_err *err)
{
        const char *plus = strchr(s, '+');
        char name[MLC_KEY_NAME_MAX + 1] = "", id[9];
        unsigned char key[1 + MLC_ED25519_KEY_LEN];
        struct mlc_vkey k;
        int r;

        if (plus == NULL || (size_t)(plus - s) >= sizeof(name) || strlen(plus) < 11 ||
            plus[9] != '+')
                return mlc_fail(err, MLC_E_INVALID,
                                "verifier key '%.80s' is not of the form NAME+HEX8+BASE64", s);
        memcpy(name, s, (size_t)(plus - s));
        if (!mlc_base64_decode_exact(MLC_BASE64_STD, plus + 10, strlen(plus + 10), key,
                                     sizeof(key)) ||
            key[0] != ALG_ED25519)
                return mlc_fail(err, MLC_E_INVALID, "verifier key '%.80s' is no Ed25519 key", s);
        r = mlc_vkey_make(name, key + 1, &k, err);
        if (r < 0)
                return r;
        (void)snprintf(id, sizeof(id), "%08x", (unsigned)k.id);
        if (memcmp(id, plus + 1, 8) != 0)
                return mlc_fail(err, MLC_E_INVALID,
                                "verifier key '%.80s' has key id %.8s, but its key gives %s", s,
                                plus + 1, id);
        *ret = k;
        return 0;
}

void mlc_vkey_format(const struct mlc_vkey *k, struct mlc_str *ret)
{
        unsigned char key[1 + MLC_ED25519_KEY_LEN] = {ALG_ED25519};

        memcpy(key + 1, k->pub, sizeof(k->pub));
        mlc_str_addf(ret, "%s+%08x+", k->name, (unsigned)k->id);
        mlc_base64_encode(MLC_BASE64_STD, key, sizeof(key), ret);
}

/* UTF-8 without control characters other than LF. */
static bool plain_lines(const char *s, size_t len)
{
        for (size_t i = 0; i < len; i++)
                if ((unsigned char)s[i] < 0x20 && s[i] != '\n')
                        return false;
        return mlc_utf8_valid(s, len);
}

static int sign_line(const char *text, const struct mlc_note_signer *s, struct mlc_str *ret,
                     struct mlc_err *err)
{
        unsigned char blob[4 + MLC_ED25519_SIG_LEN];
        struct mlc_vkey k;
        int r;

        r = mlc_vkey_make(s->name, s->key->pub, &k, err);
        if (r < 0)
                return r;
        put_be32(blob, k.id);
        r = mlc_sign(s->key, text, strlen(text), blob + 4, err);
        if (r < 0)
                return r;
        mlc_str_addf(ret, SIG_PREFIX "%s ", k.name);
        mlc_base64_encode(MLC_BASE64_STD, blob, sizeof(blob), ret);
        mlc_str_addc(ret, '\n');
        return 0;
}

int mlc_note_sign(const char *text, const struct mlc_note_signer *signers, size_t n,
                  struct mlc_str *ret, struct mlc_err *err)
{
        size_t len = strlen(text);

        assert(n > 0 && n <= MLC_NOTE_SIGS_MAX);
        if (len == 0 || text[len - 1] != '\n' || !plain_lines(text, len))
                return mlc_fail(err, MLC_E_INVALID,
                                "text of a note must be lines of UTF-8 without control characters");
        mlc_str_addn(ret, text, len);
        mlc_str_addc(ret, '\n');
        for (size_t i = 0; i < n; i++) {
                int r = sign_line(text, &signers[i], ret, err);

                if (r < 0)
                        return r;
        }
        return mlc_str_check(ret, err);
}

static size_t known_key(const struct mlc_vkeys *known, const char *name, size_t len, uint32_t id)
{
        for (size_t i = 0; i < known->n; i++) {
                const struct mlc_vkey *k = &known->keys[i];

                if (k->id == id && strlen(k->name) == len && memcmp(k->name, name, len) == 0)
                        return i;
        }
        return known->n;
}

/* One signature line without its LF. */
static int open_line(const char *line, size_t len, const struct mlc_vkeys *known,
                     struct mlc_note *n, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str blob;
        const char *name = line + SIG_PREFIX_LEN, *sp, *b64;
        size_t name_len, i;
        int r;

        mlc_str_init(&blob, SIG_BLOB_MAX);
        if (len < SIG_PREFIX_LEN || memcmp(line, SIG_PREFIX, SIG_PREFIX_LEN) != 0)
                return mlc_fail(err, MLC_E_INVALID, "note has a line that is no signature");
        sp = memchr(name, ' ', len - SIG_PREFIX_LEN);
        if (sp == NULL)
                return mlc_fail(err, MLC_E_INVALID, "note has a signature line without a name");
        name_len = (size_t)(sp - name);
        b64 = sp + 1;
        if (!key_name_ok(name, name_len))
                return mlc_fail(err, MLC_E_INVALID, "note has a signature with a bad key name");
        r = mlc_base64_decode(MLC_BASE64_STD, b64, (size_t)(line + len - b64), &blob, err);
        if (r < 0)
                return mlc_wrap(err, "signature line of a note");
        if (blob.len < 5)
                return mlc_fail(err, MLC_E_INVALID, "note has a signature that is too short");
        i = known_key(known, name, name_len, get_be32((const unsigned char *)blob.data));
        if (i == known->n || (n->verified >> i & 1) != 0)
                return 0;
        if (blob.len != 4 + MLC_ED25519_SIG_LEN)
                return mlc_fail(err, MLC_E_VERIFY, "signature by '%s' has a wrong length",
                                known->keys[i].name);
        r = mlc_verify(known->keys[i].pub, n->text, n->text_len,
                       (const unsigned char *)blob.data + 4, err);
        if (r < 0)
                return mlc_wrap(err, "note signed as '%s'", known->keys[i].name);
        n->verified |= 1ULL << i;
        return 0;
}

/* The text ends at the last blank line; returns where the signature lines start, or NULL. */
static const char *split_note(const char *note, size_t len, size_t *ret_text_len)
{
        for (size_t i = len; i >= 2; i--) {
                if (note[i - 1] == '\n' && note[i - 2] == '\n') {
                        *ret_text_len = i - 1;
                        return note + i;
                }
        }
        return NULL;
}

int mlc_note_open(const char *note, size_t len, const struct mlc_vkeys *known, struct mlc_note *ret,
                  struct mlc_err *err)
{
        struct mlc_note n = {.text = note};
        const char *end = note + len, *line;
        size_t n_sigs = 0;

        assert(known->n <= MLC_NOTE_KEYS_MAX);
        if (len > MLC_NOTE_MAX)
                return mlc_fail(err, MLC_E_INVALID, "note is longer than %u bytes", MLC_NOTE_MAX);
        if (!plain_lines(note, len))
                return mlc_fail(err, MLC_E_INVALID, "note is not UTF-8, or has control characters");
        line = split_note(note, len, &n.text_len);
        if (line == NULL || line == end || end[-1] != '\n')
                return mlc_fail(err, MLC_E_INVALID, "note has no signature lines");
        while (line < end) {
                const char *lf = memchr(line, '\n', (size_t)(end - line));
                int r;

                assert(lf != NULL);
                if (++n_sigs > MLC_NOTE_SIGS_MAX)
                        return mlc_fail(err, MLC_E_INVALID, "note has more than %d signatures",
                                        MLC_NOTE_SIGS_MAX);
                r = open_line(line, (size_t)(lf - line), known, &n, err);
                if (r < 0)
                        return r;
                line = lf + 1;
        }
        if (n.verified == 0)
                return mlc_fail(err, MLC_E_VERIFY, "note is not signed by a known key");
        *ret = n;
        return 0;
}

/* Cuts the next line (without LF) off *pos; false at the end or without a final LF. */
static bool next_line(const char **pos, const char *end, const char **ret, size_t *ret_len)
{
        const char *lf = *pos < end ? memchr(*pos, '\n', (size_t)(end - *pos)) : NULL;

        if (lf == NULL)
                return false;
        *ret = *pos;
        *ret_len = (size_t)(lf - *pos);
        *pos = lf + 1;
        return true;
}

static bool parse_size(const char *s, size_t len, uint64_t *ret)
{
        char buf[21];
        unsigned long long v;

        if (len >= sizeof(buf))
                return false;
        memcpy(buf, s, len);
        buf[len] = '\0';
        if (strlen(buf) != len || !mlc_parse_u64(buf, &v) || v > INT64_MAX)
                return false;
        *ret = v;
        return true;
}

int mlc_checkpoint_parse(const char *text, size_t len, struct mlc_checkpoint *ret,
                         struct mlc_err *err)
{
        const char *pos = text, *end = text + len, *line;
        struct mlc_checkpoint c = {0};
        size_t n;

        if (!plain_lines(text, len) || !next_line(&pos, end, &line, &n) || n == 0 ||
            n > MLC_KEY_NAME_MAX)
                return mlc_fail(err, MLC_E_INVALID,
                                "checkpoint has no origin line of 1 to %d bytes", MLC_KEY_NAME_MAX);
        memcpy(c.origin, line, n);
        if (!next_line(&pos, end, &line, &n) || !parse_size(line, n, &c.size))
                return mlc_fail(err, MLC_E_INVALID, "checkpoint has no tree size in its 2nd line");
        if (!next_line(&pos, end, &line, &n) ||
            !mlc_base64_decode_exact(MLC_BASE64_STD, line, n, c.root.b, sizeof(c.root.b)))
                return mlc_fail(err, MLC_E_INVALID, "checkpoint has no root hash in its 3rd line");
        while (pos < end)
                if (!next_line(&pos, end, &line, &n) || n == 0)
                        return mlc_fail(err, MLC_E_INVALID,
                                        "checkpoint has an empty or unfinished extension line");
        *ret = c;
        return 0;
}

void mlc_checkpoint_format(const struct mlc_checkpoint *c, struct mlc_str *ret)
{
        mlc_str_addf(ret, "%s\n%llu\n", c->origin, (unsigned long long)c->size);
        mlc_base64_encode(MLC_BASE64_STD, c->root.b, sizeof(c->root.b), ret);
        mlc_str_addc(ret, '\n');
}

int mlc_checkpoint_open(const char *note, size_t len, const struct mlc_vkey *key,
                        struct mlc_checkpoint *ret, struct mlc_err *err)
{
        struct mlc_vkeys known = {.keys = key, .n = 1};
        struct mlc_checkpoint c;
        struct mlc_note n;
        int r;

        r = mlc_note_open(note, len, &known, &n, err);
        if (r < 0)
                return r;
        r = mlc_checkpoint_parse(n.text, n.text_len, &c, err);
        if (r < 0)
                return r;
        if (strcmp(c.origin, key->name) != 0)
                return mlc_fail(err, MLC_E_VERIFY,
                                "checkpoint is of the log '%.80s', not of '%.80s'", c.origin,
                                key->name);
        *ret = c;
        return 0;
}
