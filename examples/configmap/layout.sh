#!/bin/sh
# Makes or updates a directory as the kubelet does for a ConfigMap volume: sh layout.sh DIR [TEXT]
set -eu
dir=$1
text=${2:-hello}
stamp="..$(date -u +%Y_%m_%d_%H_%M_%S).$$"
mkdir -p "$dir/$stamp"
printf 'script: |\n  echo "%s"; exec sleep 3600\n' "$text" >"$dir/$stamp/hello.yaml"
ln -s "$stamp" "$dir/..data_tmp"
old=$(readlink "$dir/..data" 2>/dev/null || true)
mv -T "$dir/..data_tmp" "$dir/..data"
[ -L "$dir/hello.yaml" ] || ln -s ..data/hello.yaml "$dir/hello.yaml"
[ -z "$old" ] || rm -r "${dir:?}/$old"
