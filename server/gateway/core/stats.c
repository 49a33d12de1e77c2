/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <assert.h>
#include <inttypes.h>

#include "base/cleanup.h"

static uint64_t load(const uint64_t *counter)
{
        return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* Names of routes and variants have no characters that JSON or Prometheus would escape. */
static void cell_json(const struct gw_cell *c, struct mlc_str *ret)
{
        bool first = true;

        mlc_str_addf(ret,
                     "{\"generation\":%" PRIu64 ",\"variant\":\"%s\",\"version\":%" PRIu32
                     ",\"requests\":%" PRIu64 ",\"status\":{\"2xx\":%" PRIu64 ",\"3xx\":%" PRIu64
                     ",\"4xx\":%" PRIu64 ",\"5xx\":%" PRIu64 "}",
                     c->generation, c->name, c->version, load(&c->requests), load(&c->status[0]),
                     load(&c->status[1]), load(&c->status[2]), load(&c->status[3]));
        mlc_str_addf(ret,
                     ",\"upstream_errors\":%" PRIu64 ",\"timeouts\":%" PRIu64
                     ",\"wrong_version\":%" PRIu64 ",\"invalid\":%" PRIu64 ",\"rejected\":%" PRIu64
                     ",\"errors\":%" PRIu64,
                     load(&c->upstream_errors), load(&c->timeouts), load(&c->wrong_version),
                     load(&c->invalid), load(&c->rejected), load(&c->errors));
        mlc_str_addf(ret,
                     ",\"latency\":{\"gamma\":\"" MLC_LATENCY_GAMMA_TEXT
                     "\",\"min_us\":%d,\"sum_us\":%" PRIu64 ",\"buckets\":[",
                     MLC_LATENCY_MIN_US, load(&c->latency_sum_us));
        for (unsigned i = 0; i < MLC_LATENCY_BUCKETS; i++) {
                uint64_t n = load(&c->latency.n[i]);

                if (n == 0)
                        continue;
                mlc_str_addf(ret, "%s[%u,%" PRIu64 "]", first ? "" : ",", MLC_LATENCY_FIRST + i, n);
                first = false;
        }
        mlc_str_add(ret, "]}}");
}

static void route_json(const struct gw_shm *shm, const struct gw_route *route, struct mlc_str *ret)
{
        bool first = true;

        mlc_str_addf(ret, "{\"route\":\"%s\",\"variants\":[", route->name);
        for (size_t b = 0; b < 2; b++)
                for (size_t i = 0; i < route->banks[b].n; i++) {
                        if (!first)
                                mlc_str_addc(ret, ',');
                        cell_json(&shm->cells[route->banks[b].cells[i]], ret);
                        first = false;
                }
        mlc_str_add(ret, "]}");
}

static void tripped_json(const struct gw_shm *shm, const struct gw_table *t, struct mlc_str *ret)
{
        bool first = true;

        mlc_str_add(ret, "\"tripped\":[");
        for (size_t i = 0; i < t->n_routes; i++)
                for (size_t v = 0; v < t->routes[i].n_variants; v++) {
                        if (!gw_shm_tripped(shm, t, &t->routes[i], v))
                                continue;
                        mlc_str_addf(ret, "%s{\"route\":\"%s\",\"variant\":\"%s\"}",
                                     first ? "" : ",", t->routes[i].name,
                                     t->variants[t->routes[i].first_variant + v].name);
                        first = false;
                }
        mlc_str_addc(ret, ']');
}

void gw_stats_json(const struct gw_shm *shm, const char *now, const bool *wanted,
                   struct mlc_str *ret)
{
        const struct gw_table *t = gw_shm_table(shm);
        bool first = true;

        mlc_str_addf(ret,
                     "{\"now\":\"%s\",\"boot\":\"%016" PRIx64 "\",\"generation\":%" PRIu64
                     ",\"tap\":{\"sent\":%" PRIu64 ",\"dropped\":%" PRIu64 "},\"late\":%" PRIu64
                     ",",
                     now, shm->boot, t->generation, load(&shm->tap_sent), load(&shm->tap_dropped),
                     load(&shm->late));
        tripped_json(shm, t, ret);
        mlc_str_add(ret, ",\"routes\":[");
        for (size_t i = 0; i < t->n_routes; i++) {
                if (wanted != NULL && !wanted[i])
                        continue;
                if (!first)
                        mlc_str_addc(ret, ',');
                route_json(shm, &t->routes[i], ret);
                first = false;
        }
        mlc_str_add(ret, "]}\n");
}

static uint64_t lease_left(const struct gw_shm *shm, uint64_t now_ms)
{
        uint64_t until = gw_shm_lease_until(shm);

        return until > now_ms ? until - now_ms : 0;
}

static bool has_lease(const struct gw_table *t, const struct gw_route *route)
{
        for (size_t i = 0; i < route->n_variants; i++)
                if (t->variants[route->first_variant + i].lease)
                        return true;
        return false;
}

void gw_stats_table(const struct gw_shm *shm, uint64_t now_ms, struct mlc_str *ret)
{
        const struct gw_table *t = gw_shm_table(shm);
        size_t len = t->text_len;
        bool first = true;

        while (len > 0 && t->text[len - 1] != '}') /* space after it; a table is an object */
                len--;
        assert(len > 0);
        mlc_str_addn(ret, t->text, len - 1);
        mlc_str_add(ret, ",\"leases\":{");
        for (size_t i = 0; i < t->n_routes; i++) {
                if (!has_lease(t, &t->routes[i]))
                        continue;
                mlc_str_addf(ret, "%s\"%s\":%" PRIu64, first ? "" : ",", t->routes[i].name,
                             lease_left(shm, now_ms));
                first = false;
        }
        mlc_str_add(ret, "},");
        tripped_json(shm, t, ret);
        mlc_str_add(ret, "}\n");
}

/* --- Prometheus ------------------------------------------------------------------------------- */

struct counter {
        const char *name, *help;
        size_t offset;
};

#define OF(member) offsetof(struct gw_cell, member)

static const struct counter COUNTERS[] = {
        {"mlctl_gateway_requests_total", "Requests for which the variant was chosen.",
         OF(requests)},
        {"mlctl_gateway_upstream_errors_total", "Requests without a usable answer of the server.",
         OF(upstream_errors)},
        {"mlctl_gateway_timeouts_total", "Requests that the server did not answer in time.",
         OF(timeouts)},
        {"mlctl_gateway_wrong_version_total", "Answers of another model than was asked.",
         OF(wrong_version)},
        {"mlctl_gateway_invalid_total", "Requests that do not fit the declared inputs.",
         OF(invalid)},
        {"mlctl_gateway_rejected_total",
         "Requests that were answered, not with 5xx, before they were sent to a server.",
         OF(rejected)},
};

static void for_cells(const struct gw_shm *shm,
                      void (*print)(const struct gw_cell *c, const char *labels, const void *arg,
                                    struct mlc_str *ret),
                      const void *arg, struct mlc_str *ret)
{
        const struct gw_table *t = gw_shm_table(shm);
        char labels[320];

        for (size_t i = 0; i < t->n_routes; i++)
                for (size_t b = 0; b < 2; b++)
                        for (size_t j = 0; j < t->routes[i].banks[b].n; j++) {
                                const struct gw_cell *c =
                                        &shm->cells[t->routes[i].banks[b].cells[j]];

                                (void)snprintf(labels, sizeof(labels),
                                               "route=\"%s\",variant=\"%s\",version=\"%" PRIu32
                                               "\",generation=\"%" PRIu64 "\"",
                                               t->routes[i].name, c->name, c->version,
                                               c->generation);
                                print(c, labels, arg, ret);
                        }
}

static void print_counter(const struct gw_cell *c, const char *labels, const void *arg,
                          struct mlc_str *ret)
{
        const struct counter *counter = arg;
        const void *at = (const char *)c + counter->offset;

        mlc_str_addf(ret, "%s{%s} %" PRIu64 "\n", counter->name, labels, load(at));
}

static void print_status(const struct gw_cell *c, const char *labels, const void *arg,
                         struct mlc_str *ret)
{
        (void)arg;
        for (int i = 0; i < 4; i++)
                mlc_str_addf(ret, "mlctl_gateway_responses_total{%s,code=\"%dxx\"} %" PRIu64 "\n",
                             labels, i + 2, load(&c->status[i]));
}

static void print_latency(const struct gw_cell *c, const char *labels, const void *arg,
                          struct mlc_str *ret)
{
        static const double bounds_ms[] = {0.5, 1,   2.5, 5,    10,   25,   50,
                                           100, 250, 500, 1000, 2500, 5000, 10000};
        uint64_t sum = 0;
        unsigned i = 0;

        (void)arg;
        for (size_t b = 0; b < ARRAY_LEN(bounds_ms); b++) {
                unsigned last = mlc_latency_bucket((uint64_t)(bounds_ms[b] * 1000));

                for (; i <= last - MLC_LATENCY_FIRST; i++)
                        sum += load(&c->latency.n[i]);
                mlc_str_addf(ret,
                             "mlctl_gateway_latency_seconds_bucket{%s,le=\"%g\"} %" PRIu64 "\n",
                             labels, bounds_ms[b] / 1000, sum);
        }
        for (; i < MLC_LATENCY_BUCKETS; i++)
                sum += load(&c->latency.n[i]);
        mlc_str_addf(ret,
                     "mlctl_gateway_latency_seconds_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n"
                     "mlctl_gateway_latency_seconds_sum{%s} %.6f\n"
                     "mlctl_gateway_latency_seconds_count{%s} %" PRIu64 "\n",
                     labels, sum, labels, (double)load(&c->latency_sum_us) / 1e6, labels, sum);
}

static void head(struct mlc_str *ret, const char *name, const char *type, const char *help)
{
        mlc_str_addf(ret, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void gw_stats_prometheus(const struct gw_shm *shm, uint64_t now_ms, struct mlc_str *ret)
{
        for (size_t i = 0; i < ARRAY_LEN(COUNTERS); i++) {
                head(ret, COUNTERS[i].name, "counter", COUNTERS[i].help);
                for_cells(shm, print_counter, &COUNTERS[i], ret);
        }
        head(ret, "mlctl_gateway_responses_total", "counter", "Answers by class of status.");
        for_cells(shm, print_status, NULL, ret);
        head(ret, "mlctl_gateway_latency_seconds", "histogram",
             "Time from the complete request to the complete answer of the server; bounds are "
             "exact "
             "to 2 %.");
        for_cells(shm, print_latency, NULL, ret);
        head(ret, "mlctl_gateway_generation", "gauge", "Generation of the table in force.");
        mlc_str_addf(ret, "mlctl_gateway_generation %" PRIu64 "\n", gw_shm_table(shm)->generation);
        head(ret, "mlctl_gateway_lease_seconds", "gauge",
             "How long candidates keep their share without news.");
        mlc_str_addf(ret, "mlctl_gateway_lease_seconds %.3f\n",
                     (double)lease_left(shm, now_ms) / 1000);
        head(ret, "mlctl_gateway_tap_records_total", "counter", "Copies of requests and answers.");
        mlc_str_addf(ret,
                     "mlctl_gateway_tap_records_total{result=\"sent\"} %" PRIu64
                     "\nmlctl_gateway_tap_records_total{result=\"dropped\"} %" PRIu64 "\n",
                     load(&shm->tap_sent), load(&shm->tap_dropped));
        head(ret, "mlctl_gateway_late_total", "counter",
             "Requests that ended after their counters were gone.");
        mlc_str_addf(ret, "mlctl_gateway_late_total %" PRIu64 "\n", load(&shm->late));
}
