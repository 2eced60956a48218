#!/bin/sh
# Installs the programs and all that belongs to them: install.sh DESTDIR BINARIES [--no-systemd]
set -eu
if [ "$#" -lt 2 ]; then
    echo "usage: $0 DESTDIR BINARIES [--no-systemd]" >&2
    exit 2
fi
to=$1 from=$2 here=$(dirname "$0")
put() { install -D -m "$1" "$2" "$to$3"; }

put 0755 "$from/tailscale" /usr/bin/tailscale
put 0755 "$from/tailscaled" /usr/sbin/tailscaled
put 0644 "$here/../LICENSE" /usr/share/doc/tailscale-rust/copyright
completion() {
    mkdir -p "$to$(dirname "$2")"
    "$from/tailscale" completion "$1" >"$to$2"
    chmod 0644 "$to$2"
}
completion bash /usr/share/bash-completion/completions/tailscale
completion zsh /usr/share/zsh/vendor-completions/_tailscale
completion fish /usr/share/fish/vendor_completions.d/tailscale.fish
[ "${3:-}" != --no-systemd ] || exit 0
put 0644 "$here/default" /etc/default/tailscaled
for unit in tailscaled.service tailscale-wait-online.service tailscale-online.target; do
    put 0644 "$here/systemd/$unit" "/usr/lib/systemd/system/$unit"
done
put 0644 "$here/systemd/strict.conf" /usr/share/tailscale/strict.conf
put 0644 "$here/systemd/sysusers.conf" /usr/lib/sysusers.d/tailscale.conf
put 0644 "$here/systemd/polkit.rules" /usr/share/polkit-1/rules.d/tailscale.rules
