/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdatomic.h>

#include "base/cleanup.h"
#include "http/metrics_store.h"

#define STATUS_MAX 600

static const int64_t BUCKETS_MS[] = {1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000};
#define N_BUCKETS ARRAY_LEN(BUCKETS_MS)

struct operation_numbers {
        atomic_ulong status[STATUS_MAX];
        atomic_ulong bucket[N_BUCKETS + 1];
        atomic_ulong ms, count;
};

/* One for each operation, and a last one for requests that matched none. */
struct metrics_store {
        unsigned n;
        struct operation_numbers *ops;
};

struct metrics_store *metrics_new(void)
{
        struct metrics_store *m = calloc(1, sizeof(*m));

        assert(m != NULL);
        m->n = gen_n_operations + 1;
        m->ops = calloc(m->n, sizeof(*m->ops));
        assert(m->ops != NULL);
        return m;
}

void metrics_free(struct metrics_store *m)
{
        if (m == NULL)
                return;
        free(m->ops);
        free(m);
}

static void add(atomic_ulong *n, unsigned long by)
{
        (void)atomic_fetch_add_explicit(n, by, memory_order_relaxed);
}

void metrics_count(struct metrics_store *m, const struct api_operation *op, int status, int64_t ms)
{
        size_t i = op != NULL ? (size_t)(op - gen_operations) : m->n - 1;
        size_t b = 0;

        assert(i < m->n && status >= 0 && status < STATUS_MAX);
        while (b < N_BUCKETS && ms > BUCKETS_MS[b])
                b++;
        add(&m->ops[i].status[status], 1);
        add(&m->ops[i].bucket[b], 1);
        add(&m->ops[i].ms, ms > 0 ? (unsigned long)ms : 0);
        add(&m->ops[i].count, 1);
}

void metrics_label(char *buf, unsigned size, const char *name, const char *value)
{
        size_t n = strlen(buf);

        n += (size_t)snprintf(buf + n, size - n, "%s%s=\"", n > 0 ? "," : "", name);
        for (; *value != '\0' && n + 4 < size; value++) {
                if (*value == '"' || *value == '\\')
                        buf[n++] = '\\';
                buf[n++] = *value == '\n' ? ' ' : *value;
        }
        if (n + 2 <= size) {
                buf[n++] = '"';
                buf[n] = '\0';
        }
}

struct metric {
        const char *name, *help, *type, *suffix;
};

static void line(struct metrics_out *out, const struct metric *m, const char *labels, double value)
{
        if (out->last_name == NULL || strcmp(out->last_name, m->name) != 0) {
                mlc_str_addf(&out->text, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name,
                             m->type);
                out->last_name = m->name;
        }
        mlc_str_addf(&out->text, "%s%s%s%s%s %.15g\n", m->name, m->suffix,
                     labels != NULL ? "{" : "", labels != NULL ? labels : "",
                     labels != NULL ? "}" : "", value);
}

void metrics_counter(struct metrics_out *out, const char *name, const char *help,
                     const char *labels, double value)
{
        const struct metric m = {name, help, "counter", ""};

        line(out, &m, labels, value);
}

void metrics_gauge(struct metrics_out *out, const char *name, const char *help, const char *labels,
                   double value)
{
        const struct metric m = {name, help, "gauge", ""};

        line(out, &m, labels, value);
}

static const char *operation_name(const struct metrics_store *m, unsigned i)
{
        return i + 1 < m->n ? gen_operations[i].id : "none";
}

static void write_requests(const struct metrics_store *m, struct metrics_out *out)
{
        for (unsigned i = 0; i < m->n; i++)
                for (int s = 0; s < STATUS_MAX; s++) {
                        unsigned long n = atomic_load(&m->ops[i].status[s]);
                        char labels[160] = "", status[8];

                        if (n == 0)
                                continue;
                        (void)snprintf(status, sizeof(status), "%d", s);
                        metrics_label(labels, sizeof(labels), "operation", operation_name(m, i));
                        metrics_label(labels, sizeof(labels), "status", status);
                        metrics_counter(out, "mlctl_http_requests_total",
                                        "Requests by operation and HTTP status.", labels,
                                        (double)n);
                }
}

static void write_durations(const struct metrics_store *m, struct metrics_out *out)
{
        struct metric h = {"mlctl_http_request_seconds",
                           "Time from the end of the head to the reply.", "histogram", "_bucket"};

        for (unsigned i = 0; i < m->n; i++) {
                char operation[128] = "", labels[160], le[32];
                unsigned long sum = 0, count = atomic_load(&m->ops[i].count);

                if (count == 0)
                        continue;
                metrics_label(operation, sizeof(operation), "operation", operation_name(m, i));
                h.suffix = "_bucket";
                for (size_t b = 0; b <= N_BUCKETS; b++) {
                        sum += atomic_load(&m->ops[i].bucket[b]);
                        (void)snprintf(labels, sizeof(labels), "%s", operation);
                        (void)snprintf(le, sizeof(le), "%g",
                                       b < N_BUCKETS ? (double)BUCKETS_MS[b] / 1000 : 0);
                        metrics_label(labels, sizeof(labels), "le", b < N_BUCKETS ? le : "+Inf");
                        line(out, &h, labels, (double)sum);
                }
                h.suffix = "_sum";
                line(out, &h, operation, (double)atomic_load(&m->ops[i].ms) / 1000);
                h.suffix = "_count";
                line(out, &h, operation, (double)sum);
        }
}

void metrics_write(const struct metrics_store *m, struct metrics_out *out)
{
        write_requests(m, out);
        write_durations(m, out);
}
