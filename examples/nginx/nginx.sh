#!/bin/sh
# Writes a small configuration for $PORT and starts nginx in the foreground.
set -eu
root=${NGINX_ROOT:-/tmp/plugd-nginx}
mkdir -p "$root/html"
[ -e "$root/html/index.html" ] || echo "it works" >"$root/html/index.html"
cat >"$root/nginx.conf" <<CONF
daemon off;
pid $root/nginx.pid;
error_log stderr warn;
worker_processes 1;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path $root/body;
  proxy_temp_path $root/proxy;
  fastcgi_temp_path $root/fastcgi;
  uwsgi_temp_path $root/uwsgi;
  scgi_temp_path $root/scgi;
  server { listen 127.0.0.1:${PORT:-8080}; root $root/html; }
}
CONF
exec nginx -c "$root/nginx.conf" -e stderr
