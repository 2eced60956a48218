#!/bin/sh
# Makes a .deb: make.sh BINARIES VERSION OUT. Needs dpkg-deb.
set -eu
if [ "$#" -ne 3 ]; then
    echo "usage: $0 BINARIES VERSION OUT" >&2
    exit 2
fi
from=$1 version=$2 out=$3 here=$(dirname "$0")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 0755 "$tree"
"$here/../install.sh" "$tree" "$from"
# Programs that are linked with the machine's C library need one that is as new.
needs=
case $(od -An -c -N 4096 "$from/tailscaled" | tr -d ' \n') in
*ld-linux*) needs="Depends: libc6 (>= $(dpkg-query -W -f '${Version}' libc6 | sed 's/-.*//'))
" ;;
esac
mkdir "$tree/DEBIAN"
cat >"$tree/DEBIAN/control" <<CONTROL
Package: tailscale-rust
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: the authors of tailscaled in Rust <nobody@example.invalid>
Section: net
Priority: optional
Installed-Size: $(du -sk "$tree/usr" | cut -f1)
${needs}Recommends: iproute2
Provides: tailscale
Conflicts: tailscale
Replaces: tailscale
Description: Tailscale node: daemon and command line, in Rust
 The daemon tailscaled and the command line tailscale, drop-in replacements
 for the originals: same flags, files, socket and protocols.
CONTROL
echo /etc/default/tailscaled >"$tree/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 0755 "$here/$script" "$tree/DEBIAN/$script"
done
mkdir -p "$(dirname "$out")"
dpkg-deb --root-owner-group --build "$tree" "$out" >/dev/null
