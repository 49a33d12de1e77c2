/* SPDX-License-Identifier: Apache-2.0 */
/* The same as deploy/nginx/mlctl-gateway.conf, for a child of mlctld; the reasons stand there. */
#include "gateway/gateway_priv.h"

static void add_proxy(struct mlc_str *ret)
{
        mlc_str_add(ret,
                    "            proxy_http_version 1.1;\n"
                    "            proxy_set_header Connection \"\";\n"
                    "            proxy_set_header Host $host;\n"
                    "            proxy_set_header X-Request-Id $mlctl_request_id;\n"
                    "            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"
                    "            proxy_set_header Accept-Encoding \"\";\n"
                    "            proxy_hide_header X-Request-Id;\n"
                    "            proxy_hide_header X-Mlctl-Variant;\n"
                    "            proxy_hide_header X-Mlctl-Version;\n"
                    "            proxy_next_upstream error timeout http_404 non_idempotent;\n"
                    "            proxy_connect_timeout 2s;\n"
                    "            proxy_send_timeout 30s;\n"
                    "            proxy_read_timeout 30s;\n"
                    "            proxy_buffer_size 16k;\n"
                    "            proxy_buffers 16 16k;\n"
                    "            proxy_max_temp_file_size 0;\n"
                    "        }\n"
                    "    }\n");
}

void gateway_write_conf(const struct gateway *g, struct mlc_str *ret)
{
        mlc_str_addf(ret,
                     "# written at each start of mlctld\n"
                     "load_module %s;\n"
                     "daemon off;\n"
                     "worker_processes auto;\n"
                     "worker_shutdown_timeout 10s;\n"
                     "pid nginx.pid;\n"
                     "error_log stderr warn;\n"
                     "events { worker_connections 4096; }\n"
                     "http {\n"
                     "    access_log off;\n"
                     "    server_tokens off;\n"
                     "    default_type application/json;\n",
                     g->module);
        mlc_str_add(ret, "    client_body_temp_path tmp/body;\n"
                         "    proxy_temp_path tmp/proxy;\n"
                         "    fastcgi_temp_path tmp/fastcgi;\n"
                         "    uwsgi_temp_path tmp/uwsgi;\n"
                         "    scgi_temp_path tmp/scgi;\n"
                         "    mlctl_gateway_table table.json;\n"
                         "    mlctl_gateway_tap unix:tap.sock;\n"
                         "    upstream models {\n"
                         "        mlctl_gateway_balancer;\n"
                         "        keepalive 128;\n"
                         "        keepalive_timeout 4s;\n"
                         "        keepalive_requests 100000;\n"
                         "    }\n");
        mlc_str_addf(ret,
                     "    server {\n"
                     "        listen %s;\n"
                     "        client_max_body_size 16m;\n"
                     "        client_body_buffer_size 128k;\n"
                     "        keepalive_requests 100000;\n"
                     "        location / { return 404 '{\"error\":\"no such path\"}\\n'; }\n"
                     "        location = /v2/health/live { return 200 '{\"live\":true}\\n'; }\n"
                     "        location /v2/models/ {\n"
                     "            mlctl_gateway;\n"
                     "            mlctl_gateway_buffer 1m;\n"
                     "            proxy_pass http://models;\n",
                     g->address);
        add_proxy(ret);
        mlc_str_addf(ret,
                     "    server {\n"
                     "        listen unix:%s/control.sock;\n"
                     "        client_max_body_size 2m;\n"
                     "        client_body_buffer_size 2m;\n"
                     "        location / { mlctl_gateway_control; }\n"
                     "    }\n"
                     "}\n",
                     g->dir);
}
