#!/bin/sh
# Makes an .rpm: make.sh BINARIES VERSION OUT. Needs rpmbuild.
set -eu
if [ "$#" -ne 3 ]; then
    echo "usage: $0 BINARIES VERSION OUT" >&2
    exit 2
fi
from=$(cd "$1" && pwd) version=$2 out=$3 here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A dash begins the release in names of packages.
rpmbuild --quiet -bb --define "_topdir $work" --define "version $(echo "$version" | tr - '~')" --define "binaries $from" \
    --define "packaging $here/.." "$here/tailscale-rust.spec"
mkdir -p "$(dirname "$out")"
mv "$work"/RPMS/*/*.rpm "$out"
