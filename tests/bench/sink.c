/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-sink FILE: the least that takes an upload as mlctld promises to. One libmicrohttpd thread
 * for each connection; the callback hashes (SHA-256) and writes what arrives, then syncs. Prints
 * its port, serves until its standard input ends. Each PUT replaces FILE; the reply's body is the
 * digest.
 */
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL_SIZE (128u << 10) /* as mlctld's: it bounds what one recv() may bring */

struct upload {
        int fd;
        EVP_MD_CTX *hash;
};

static void fail(const char *what)
{
        perror(what);
        exit(1);
}

static struct upload *upload_new(const char *path)
{
        struct upload *u = calloc(1, sizeof(*u));

        if (u == NULL)
                fail("calloc");
        u->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        u->hash = EVP_MD_CTX_new();
        if (u->fd < 0 || u->hash == NULL || EVP_DigestInit_ex(u->hash, EVP_sha256(), NULL) != 1)
                fail(path);
        return u;
}

static void upload_write(struct upload *u, const char *data, size_t len)
{
        if (EVP_DigestUpdate(u->hash, data, len) != 1)
                fail("hash");
        while (len > 0) {
                ssize_t n = write(u->fd, data, len);

                if (n < 0)
                        fail("write");
                data += n;
                len -= (size_t)n;
        }
}

static enum MHD_Result upload_finish(struct upload *u, struct MHD_Connection *mhd)
{
        unsigned char digest[EVP_MAX_MD_SIZE];
        struct MHD_Response *response;
        char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
        enum MHD_Result queued;
        unsigned n = 0;

        if (EVP_DigestFinal_ex(u->hash, digest, &n) != 1 || fsync(u->fd) < 0)
                fail("fsync");
        for (unsigned i = 0; i < n; i++)
                (void)snprintf(hex + 2 * (size_t)i, 3, "%02x", digest[i]);
        response = MHD_create_response_from_buffer(strlen(hex), hex, MHD_RESPMEM_MUST_COPY);
        queued = MHD_queue_response(mhd, MHD_HTTP_CREATED, response);
        MHD_destroy_response(response);
        return queued;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **con_cls)
{
        (void)url;
        (void)method;
        (void)version;
        if (*con_cls == NULL) {
                *con_cls = upload_new(cls);
                return MHD_YES;
        }
        if (*len == 0)
                return upload_finish(*con_cls, mhd);
        upload_write(*con_cls, data, *len);
        *len = 0;
        return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
        struct upload *u = *con_cls;

        (void)cls;
        (void)mhd;
        (void)why;
        if (u == NULL)
                return;
        EVP_MD_CTX_free(u->hash);
        (void)close(u->fd);
        free(u);
        *con_cls = NULL;
}

int main(int argc, char **argv)
{
        struct sockaddr_in loopback = {.sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        const union MHD_DaemonInfo *info;
        struct MHD_Daemon *daemon;
        char end;

        if (argc != 2)
                return 2;
        daemon = MHD_start_daemon(
                MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL, 0,
                NULL, NULL, on_request, argv[1], MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&loopback,
                MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_SIZE, MHD_OPTION_NOTIFY_COMPLETED,
                on_completed, NULL, MHD_OPTION_END);
        if (daemon == NULL)
                fail("MHD_start_daemon");
        info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
        (void)printf("%u\n", info->port);
        (void)fflush(stdout);
        while (read(STDIN_FILENO, &end, 1) > 0)
                ;
        MHD_stop_daemon(daemon);
        return 0;
}
