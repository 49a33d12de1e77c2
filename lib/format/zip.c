/* SPDX-License-Identifier: Apache-2.0 */
#include "format/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/path.h"

/*
 * Read by the central directory; the local header must say the same, since readers differ in which
 * of the two they believe. Neither gaps nor overlaps: every byte belongs to one member, a data
 * descriptor, or the directory. Member counts, sizes and inflated bytes are capped.
 */
#define MEMBERS_MAX UINT64_C(100000)
#define DIRECTORY_MAX ((uint64_t)32 << 20)
#define INFLATE_ONE_MAX ((uint64_t)32 << 20)
#define EOCD_SIZE 22
#define EOCD64_SIZE 56
#define LOCATOR_SIZE 20
#define CENTRAL_SIZE 46
#define LOCAL_SIZE 30
#define DESCRIPTOR_MAX 24
#define FLAG_ENCRYPTED 0x2041u /* encrypted, strong, masked headers */
#define FLAG_DESCRIPTOR 0x0008u

struct member {
        size_t name; /* offset in struct zip.text */
        uint64_t at; /* of the local header */
        uint64_t packed, size;
        uint64_t data; /* of the first byte, once the local header was read */
        uint32_t crc;
        unsigned method, flags;
};

struct zip {
        struct fmt *f;
        const struct mlc_reader *r;
        unsigned char *dir;
        uint64_t dir_at, dir_len, n;
        struct member *m;
        struct mlc_str text; /* the names, each with its NUL */
        uint64_t prefix; /* length of the common first folder, '/' included; PyTorch's stem */
        bool pytorch, torchscript, keras, only_npy;
};

static const char *name_of(const struct zip *z, const struct member *m)
{
        return z->text.data + m->name;
}

/* Zip64: the real numbers are in extra field 1, in this order, for those that are all ones. */
static bool zip64(const unsigned char *extra, size_t len, uint64_t *fields[], size_t n)
{
        for (size_t i = 0; len - i >= 4;) {
                size_t id = fmt_le(extra + i, 2), size = fmt_le(extra + i + 2, 2);

                i += 4;
                if (size > len - i)
                        return false;
                if (id == 1) {
                        for (size_t k = 0; k < n; k++) {
                                if (*fields[k] != UINT32_MAX)
                                        continue;
                                if (size < 8)
                                        return false;
                                *fields[k] = fmt_le(extra + i, 8);
                                i += 8;
                                size -= 8;
                        }
                        return true;
                }
                i += size;
        }
        return true;
}

static int find_end64(struct zip *z, uint64_t eocd_at, bool *ret_found)
{
        unsigned char l[LOCATOR_SIZE], e[EOCD64_SIZE];
        uint64_t at;
        int r;

        *ret_found = false;
        if (eocd_at < LOCATOR_SIZE + EOCD64_SIZE)
                return 0;
        r = fmt_pread(z->f, z->r, l, sizeof(l), eocd_at - LOCATOR_SIZE);
        if (r < 0)
                return r;
        if (memcmp(l, "PK\x06\x07", 4) != 0)
                return 0;
        at = fmt_le(l + 8, 8);
        if (at != eocd_at - LOCATOR_SIZE - EOCD64_SIZE)
                return fmt_malformed(z->f, eocd_at - LOCATOR_SIZE,
                                     "zip64 locator points elsewhere");
        r = fmt_pread(z->f, z->r, e, sizeof(e), at);
        if (r < 0)
                return r;
        if (memcmp(e, "PK\x06\x06", 4) != 0 || fmt_le(e + 16, 4) != 0 || fmt_le(e + 20, 4) != 0 ||
            fmt_le(e + 4, 8) != EOCD64_SIZE - 12)
                return fmt_malformed(z->f, at, "zip64 end record is damaged");
        z->n = fmt_le(e + 32, 8);
        z->dir_len = fmt_le(e + 40, 8);
        z->dir_at = fmt_le(e + 48, 8);
        if (fmt_le(e + 24, 8) != z->n || z->dir_at > at || z->dir_len != at - z->dir_at)
                return fmt_malformed(z->f, at, "zip64 directory does not end at its end record");
        *ret_found = true;
        return 0;
}

static int find_end(struct zip *z)
{
        unsigned char e[EOCD_SIZE];
        uint64_t at;
        bool found;
        int r;

        if (z->r->size < EOCD_SIZE)
                return fmt_malformed(z->f, 0, "zip without end record");
        /* no comment is allowed: it could hold a second end record */
        at = z->r->size - EOCD_SIZE;
        r = fmt_pread(z->f, z->r, e, sizeof(e), at);
        if (r < 0)
                return r;
        if (memcmp(e, "PK\x05\x06", 4) != 0 || fmt_le(e + 20, 2) != 0)
                return fmt_malformed(z->f, at, "zip end record is missing or followed by data");
        if (fmt_le(e + 4, 4) != 0 || fmt_le(e + 8, 2) != fmt_le(e + 10, 2))
                return fmt_malformed(z->f, at, "zip of several disks");
        r = find_end64(z, at, &found);
        if (r < 0)
                return r;
        if (!found) {
                z->n = fmt_le(e + 10, 2);
                z->dir_len = fmt_le(e + 12, 4);
                z->dir_at = fmt_le(e + 16, 4);
                if (z->dir_at > at || z->dir_len != at - z->dir_at)
                        return fmt_malformed(z->f, at,
                                             "zip directory does not end at its end "
                                             "record");
                return 0;
        }
        if ((fmt_le(e + 12, 4) != UINT32_MAX && fmt_le(e + 12, 4) != z->dir_len) ||
            (fmt_le(e + 16, 4) != UINT32_MAX && fmt_le(e + 16, 4) != z->dir_at) ||
            (fmt_le(e + 10, 2) != UINT16_MAX && fmt_le(e + 10, 2) != z->n))
                return fmt_malformed(z->f, at, "the two zip end records disagree");
        return 0;
}

/* One entry of the directory at *at. */
static int central(struct zip *z, size_t *at, struct member *m)
{
        const unsigned char *c = z->dir + *at;
        size_t left = (size_t)z->dir_len - *at, name, extra, comment;
        uint64_t off = z->dir_at + *at;
        uint64_t *fields[] = {&m->size, &m->packed, &m->at};

        if (left < CENTRAL_SIZE || memcmp(c, "PK\x01\x02", 4) != 0)
                return fmt_malformed(z->f, off, "zip directory entry is damaged");
        name = fmt_le(c + 28, 2);
        extra = fmt_le(c + 30, 2);
        comment = fmt_le(c + 32, 2);
        if (name + extra + comment > left - CENTRAL_SIZE)
                return fmt_malformed(z->f, off, "zip directory entry is cut");
        m->flags = (unsigned)fmt_le(c + 8, 2);
        m->method = (unsigned)fmt_le(c + 10, 2);
        m->crc = (uint32_t)fmt_le(c + 16, 4);
        m->packed = fmt_le(c + 20, 4);
        m->size = fmt_le(c + 24, 4);
        m->at = fmt_le(c + 42, 4);
        if (!zip64(c + CENTRAL_SIZE + name, extra, fields, 3))
                return fmt_malformed(z->f, off, "zip64 field is cut");
        if (name == 0 || memchr(c + CENTRAL_SIZE, '\0', name) != NULL)
                return fmt_malformed(z->f, off, "zip member without a name, or with NUL in it");
        m->name = z->text.len;
        mlc_str_addn(&z->text, c + CENTRAL_SIZE, name);
        mlc_str_addn(&z->text, "", 1);
        *at += CENTRAL_SIZE + name + extra + comment;
        return 0;
}

static int check_name(struct zip *z, const struct member *m)
{
        char copy[MLC_PATH_MAX + 1];
        const char *name = name_of(z, m);
        size_t n = strlen(name);
        struct mlc_err why = {0};

        if (n > 1 && name[n - 1] == '/')
                n--; /* a folder */
        if (n > MLC_PATH_MAX)
                return fmt_malformed(z->f, m->at, "zip member with a path of %zu bytes", n);
        memcpy(copy, name, n);
        copy[n] = '\0';
        if (mlc_path_check(copy, &why) < 0)
                return fmt_malformed(z->f, m->at, "zip member: %s", why.msg);
        return 0;
}

static int directory(struct zip *z)
{
        struct fmt_names names;
        size_t at = 0;
        int r = 0;

        if (z->n > MEMBERS_MAX || z->dir_len > DIRECTORY_MAX || z->n > z->dir_len / CENTRAL_SIZE)
                return fmt_malformed(z->f, z->dir_at, "zip of %llu members in %llu bytes",
                                     (unsigned long long)z->n, (unsigned long long)z->dir_len);
        z->dir = malloc((size_t)z->dir_len + 1);
        z->m = calloc((size_t)z->n + 1, sizeof(*z->m));
        if (z->dir == NULL || z->m == NULL)
                abort();
        r = fmt_pread(z->f, z->r, z->dir, (size_t)z->dir_len, z->dir_at);
        fmt_names_init(&names);
        for (uint64_t i = 0; i < z->n && r == 0; i++) {
                r = central(z, &at, &z->m[i]);
                if (r == 0)
                        r = check_name(z, &z->m[i]);
                if (r == 0)
                        r = fmt_names_add(z->f, &names, name_of(z, &z->m[i]),
                                          strlen(name_of(z, &z->m[i])));
        }
        if (r == 0 && at != z->dir_len)
                r = fmt_malformed(z->f, z->dir_at + at, "data after the zip directory");
        if (r == 0 && fmt_names_twin(&names) != NULL)
                r = fmt_malformed(z->f, z->dir_at, "two zip members of one name");
        fmt_names_done(&names);
        return r;
}

/* With a descriptor the local header may leave what it did not know yet at 0. */
static bool agrees(const struct member *m, uint64_t local, uint64_t central_value)
{
        return local == central_value || ((m->flags & FLAG_DESCRIPTOR) != 0 && local == 0);
}

static int local(struct zip *z, struct member *m)
{
        unsigned char h[LOCAL_SIZE];
        _cleanup_(free_p) unsigned char *rest = NULL;
        uint64_t size, packed;
        uint64_t *fields[] = {&size, &packed};
        size_t name, extra, len = strlen(name_of(z, m));
        int r;

        if (m->at > z->dir_at || z->dir_at - m->at < LOCAL_SIZE)
                return fmt_malformed(z->f, m->at, "zip member lies outside");
        r = fmt_pread(z->f, z->r, h, sizeof(h), m->at);
        if (r < 0)
                return r;
        name = fmt_le(h + 26, 2);
        extra = fmt_le(h + 28, 2);
        if (memcmp(h, "PK\x03\x04", 4) != 0 || name + extra > z->dir_at - m->at - LOCAL_SIZE)
                return fmt_malformed(z->f, m->at, "zip local header is damaged");
        rest = malloc(name + extra + 1);
        if (rest == NULL)
                abort();
        r = fmt_pread(z->f, z->r, rest, name + extra, m->at + LOCAL_SIZE);
        if (r < 0)
                return r;
        packed = fmt_le(h + 18, 4);
        size = fmt_le(h + 22, 4);
        if (!zip64(rest + name, extra, fields, 2))
                return fmt_malformed(z->f, m->at, "zip64 field is cut");
        if (name != len || memcmp(rest, name_of(z, m), len) != 0 || fmt_le(h + 8, 2) != m->method ||
            fmt_le(h + 6, 2) != m->flags || !agrees(m, fmt_le(h + 14, 4), m->crc) ||
            !agrees(m, packed, m->packed) || !agrees(m, size, m->size))
                return fmt_malformed(z->f, m->at,
                                     "zip local header and directory disagree on a member");
        m->data = m->at + LOCAL_SIZE + name + extra;
        if (m->packed > z->dir_at - m->data)
                return fmt_malformed(z->f, m->at, "zip member ends after the directory begins");
        if ((m->flags & FLAG_ENCRYPTED) != 0)
                return fmt_malformed(z->f, m->at, "zip member is encrypted");
        if (m->method == 0 && m->packed != m->size)
                return fmt_malformed(z->f, m->at, "stored zip member with two sizes");
        return 0;
}

static int by_place(const void *a, const void *b)
{
        const struct member *x = a, *y = b;

        return x->at < y->at ? -1 : x->at > y->at;
}

static int layout(struct zip *z)
{
        uint64_t at = 0;
        unsigned slack = 0;

        if (z->n > 1)
                qsort(z->m, (size_t)z->n, sizeof(*z->m), by_place);
        for (uint64_t i = 0; i <= z->n; i++) {
                struct member *m = &z->m[i];
                uint64_t next = i < z->n ? m->at : z->dir_at;
                int r;

                if (next < at)
                        return fmt_malformed(z->f, next, "zip members overlap");
                if (next - at > slack)
                        return fmt_malformed(z->f, at, "%llu bytes between zip members",
                                             (unsigned long long)(next - at));
                if (i == z->n)
                        break;
                r = local(z, m);
                if (r < 0)
                        return r;
                at = m->data + m->packed;
                slack = (m->flags & FLAG_DESCRIPTOR) != 0 ? DESCRIPTOR_MAX : 0;
        }
        return 0;
}

/* The whole member in memory; *ret NULL when it is too large (then recorded as unverified). */
static int load(struct zip *z, const struct member *m, unsigned char **ret)
{
        _cleanup_(free_p) unsigned char *packed = NULL, *plain = NULL;
        uLongf n = (uLongf)m->size;
        z_stream s = {0};
        bool ok;
        int r;

        *ret = NULL;
        if (m->method != 0 && m->method != 8)
                return fmt_unverified(z->f, "packed by method %u", m->method);
        if (m->size > INFLATE_ONE_MAX || m->packed > INFLATE_ONE_MAX ||
            m->size > FMT_INFLATE_MAX - z->f->inflated)
                return fmt_unverified(z->f, "%llu bytes are too many to unpack",
                                      (unsigned long long)m->size);
        z->f->inflated += m->size;
        packed = malloc((size_t)m->packed + 1);
        plain = malloc((size_t)m->size + 1);
        if (packed == NULL || plain == NULL)
                abort();
        r = fmt_pread(z->f, z->r, packed, (size_t)m->packed, m->data);
        if (r < 0)
                return r;
        if (m->method == 0) {
                *ret = TAKE_PTR(packed);
                return crc32(0, *ret, (uInt)m->size) == m->crc
                               ? 0
                               : fmt_malformed(z->f, m->data, "checksum of the member is wrong");
        }
        s.next_in = packed;
        s.avail_in = (uInt)m->packed;
        s.next_out = plain;
        s.avail_out = (uInt)m->size + 1; /* one more, to see that it does not go on */
        if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
                abort();
        ok = inflate(&s, Z_FINISH) == Z_STREAM_END && s.total_out == n && s.avail_in == 0;
        (void)inflateEnd(&s);
        if (!ok || crc32(0, plain, (uInt)m->size) != m->crc)
                return fmt_malformed(z->f, m->data, "member does not unpack to what it says");
        *ret = TAKE_PTR(plain);
        return 0;
}

static const char *base_of(const char *name)
{
        const char *slash = strrchr(name, '/');

        return slash != NULL ? slash + 1 : name;
}

/* A part of another reader: for stored members, which need not be in memory. */
struct part {
        struct zip *z;
        uint64_t at;
};

static int part_pread(void *userdata, void *buf, size_t len, uint64_t off, struct mlc_err *err)
{
        struct part *p = userdata;

        return p->z->r->pread(p->z->r->userdata, buf, len, p->at + off, err);
}

static int check_crc(struct zip *z, const struct mlc_reader *r, uint32_t want)
{
        unsigned char buf[16384];
        uLong crc = crc32(0, NULL, 0);

        for (uint64_t off = 0; off < r->size;) {
                size_t n = r->size - off < sizeof(buf) ? (size_t)(r->size - off) : sizeof(buf);
                int rc = fmt_pread(z->f, r, buf, n, off);

                if (rc < 0)
                        return rc;
                crc = crc32(crc, buf, (uInt)n);
                off += n;
        }
        return crc == want ? 0 : fmt_malformed(z->f, 0, "checksum of the member is wrong");
}

/* Arrays may be large: their bytes are not read, so neither is their checksum. */
static int inspect(struct zip *z, const struct member *m, bool array)
{
        _cleanup_(free_p) unsigned char *plain = NULL;
        struct part part = {.z = z, .at = m->data};
        struct mlc_reader r = {.pread = part_pread, .size = m->size, .userdata = &part};
        char name[256];
        int rc;

        if (m->method != 0) {
                rc = load(z, m, &plain);
                if (rc < 0 || plain == NULL)
                        return rc;
                mlc_reader_mem(&r, plain, (size_t)m->size);
        } else if (!array) {
                rc = check_crc(z, &r, m->crc);
                if (rc < 0)
                        return rc;
        }
        if (!array)
                return fmt_pickle(z->f, &r, 0, FMT_PICKLE_MEMBER);
        (void)snprintf(name, sizeof(name), "%.*s", (int)strlen(base_of(name_of(z, m))) - 4,
                       base_of(name_of(z, m)));
        return fmt_npy(z->f, &r, name);
}

/* Keras 3: layers and their classes. A Lambda layer is marshalled Python bytecode. */
static int keras_config(struct zip *z, const struct member *m)
{
        _cleanup_(free_p) unsigned char *text = NULL;
        int r = load(z, m, &text);

        if (r < 0 || text == NULL)
                return r;
        if (memmem(text, (size_t)m->size, "\"Lambda\"", 8) != NULL ||
            memmem(text, (size_t)m->size, "__lambda__", 10) != NULL)
                return fmt_malformed(z->f, m->data, "holds a Lambda layer, which is code");
        return 0;
}

static bool is_digits(const char *s)
{
        return *s != '\0' && strspn(s, "0123456789") == strlen(s);
}

/* Members of PyTorch's container that hold no code: raw storages and small texts. */
static bool is_torch_data(const char *tail)
{
        static const char *const TEXTS[] = {"version", "byteorder", ".format_version",
                                            ".storage_alignment", ".data/serialization_id"};

        for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++)
                if (strcmp(tail, TEXTS[i]) == 0)
                        return true;
        return (mlc_starts_with(tail, "data/") && is_digits(tail + 5)) ||
               (mlc_starts_with(tail, "constants/") && is_digits(tail + 10));
}

static int member(struct zip *z, const struct member *m)
{
        const char *name = name_of(z, m);
        const char *tail = z->pytorch ? name + z->prefix : name;
        const char *base = base_of(name);

        if (*base == '\0')
                return m->size == 0 ? 0 : fmt_malformed(z->f, m->at, "folder with content");
        if (mlc_ends_with(name, ".npy") && strlen(base) > 4)
                return inspect(z, m, true);
        if (mlc_ends_with(name, ".pkl") || mlc_ends_with(name, ".pickle") ||
            mlc_ends_with(name, ".joblib"))
                return inspect(z, m, false);
        if (z->pytorch && is_torch_data(tail))
                return 0;
        if (z->pytorch && mlc_starts_with(tail, "code/"))
                return fmt_unverified(z->f, "TorchScript code, which PyTorch runs");
        if (z->keras && strcmp(name, "config.json") == 0)
                return keras_config(z, m);
        if (z->keras && strcmp(name, "metadata.json") == 0)
                return 0;
        return fmt_unverified(z->f, "a member of a kind that is not looked into");
}

/* What the names together say. */
static void classify(struct zip *z)
{
        bool config = false, weights = false;

        z->only_npy = z->n > 0;
        for (uint64_t i = 0; i < z->n; i++) {
                const char *name = name_of(z, &z->m[i]), *slash = strchr(name, '/');

                if (slash != NULL && strcmp(slash, "/data.pkl") == 0) {
                        z->pytorch = true;
                        z->prefix = (uint64_t)(slash + 1 - name);
                }
                config = config || strcmp(name, "config.json") == 0;
                weights = weights || mlc_ends_with(name, ".weights.h5");
                z->only_npy = z->only_npy && mlc_ends_with(name, ".npy");
        }
        for (uint64_t i = 0; i < z->n && z->pytorch; i++) {
                const char *name = name_of(z, &z->m[i]);

                if (strlen(name) < z->prefix || memcmp(name, name_of(z, &z->m[0]), z->prefix) != 0)
                        z->prefix = 0; /* several stems: nothing is known as raw data */
                else if (mlc_streq(name + z->prefix, "constants.pkl"))
                        z->torchscript = true;
        }
        z->keras = config && weights;
        z->f->info->format = z->torchscript ? "torchscript"
                             : z->pytorch   ? "pytorch"
                             : z->keras     ? "keras"
                             : z->only_npy  ? "npz"
                                            : "zip";
}

static int members(struct zip *z)
{
        int r = 0;

        for (uint64_t i = 0; i < z->n && r == 0; i++) {
                char shown[200];

                mlc_text_escape(name_of(z, &z->m[i]), strlen(name_of(z, &z->m[i])), shown,
                                sizeof(shown));
                z->f->member = shown;
                r = member(z, &z->m[i]);
                /* one member that cannot be walked must not hide what the next one imports */
                if (r < 0 && z->f->err->code == 0 && z->f->info->malformed == NULL)
                        r = 0;
                z->f->member = "";
        }
        return r;
}

int fmt_zip(struct fmt *f, const struct mlc_reader *r)
{
        struct zip z = {.f = f, .r = r};
        int rc;

        mlc_str_init(&z.text, (size_t)DIRECTORY_MAX);
        rc = find_end(&z);
        if (rc == 0)
                rc = directory(&z);
        if (rc == 0)
                classify(&z);
        if (rc == 0)
                rc = layout(&z);
        if (rc == 0)
                rc = members(&z);
        mlc_str_done(&z.text);
        free(z.dir);
        free(z.m);
        return rc;
}
