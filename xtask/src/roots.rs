//! `cargo xtask roots`: directory trees of other systems, in which scenarios meet services that this machine may not have: systemd with its
//! resolver, NetworkManager, and both programs called `resolvconf`. Needs root and `debootstrap`; takes one to five minutes and 400 MB.

use std::path::Path;
use std::process::{Command, ExitCode};

/// The tree with everything but what excludes each other, which lies over it.
const BASE: &str = "trixie";
const PACKAGES: &str = "systemd,systemd-sysv,systemd-resolved,libnss-resolve,dbus,network-manager,libpam-systemd,polkitd,dnsmasq-base,nftables,iptables,iproute2,iputils-ping";
const MIRROR: &str = "http://deb.debian.org/debian";

/// Arguments: where the trees are to be, the packages, the mirror, the name of the base.
const SCRIPT: &str = r#"
set -eu
roots=$1 packages=$2 mirror=$3 base=$4
new=$roots/new
rm -rf "$new"
mkdir -p "$new"
debootstrap --variant=minbase --include="$packages" "$base" "$new/$base" "$mirror"
tree=$new/$base

# The packages that exclude each other, each in a layer of its own. What their installation would set up is set up here.
mkdir -p "$tree/run/systemd/resolve" "$tree/layers"
cp -L /etc/resolv.conf "$tree/run/systemd/resolve/stub-resolv.conf"
chroot "$tree" sh -c '
  cd /layers
  apt-get -q update
  apt-get -q download openresolv resolvconf
  for package in openresolv resolvconf; do mkdir $package; dpkg-deb -x ${package}_*.deb $package; done
'
mv "$tree/layers/openresolv" "$tree/layers/resolvconf" "$new/"
rm -rf "$tree/layers" "$tree/run/systemd"
for layer in openresolv resolvconf; do
  mkdir -p "$new/$layer/etc"
  printf 'nameserver 203.0.113.1\nsearch lan.example\n' >"$new/$layer/etc/resolv.conf"
done
mkdir -p "$new/resolvconf/etc/resolvconf"
ln -sfn /run/resolvconf "$new/resolvconf/etc/resolvconf/run"

# The machine around it is not to be touched, and nobody sits at a console.
for unit in tmp.mount systemd-tmpfiles-setup.service systemd-tmpfiles-clean.timer systemd-tmpfiles-clean.service \
    systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup-dev-early.service console-getty.service getty@.service \
    systemd-networkd.service systemd-timesyncd.service systemd-udevd.service NetworkManager-wait-online.service; do
  ln -sfn /dev/null "$tree/etc/systemd/system/$unit"
done
find "$tree/etc/systemd/system" -name 'NetworkManager*.service' -type l ! -lname /dev/null -delete
: >"$tree/etc/machine-id"
mkdir -p "$tree/etc/systemd/resolved.conf.d" "$tree/etc/NetworkManager/conf.d"
printf '[Resolve]\nDNS=203.0.113.1\nDomains=lan.example\nDNSSEC=no\nLLMNR=no\nMulticastDNS=no\n' \
  >"$tree/etc/systemd/resolved.conf.d/lab.conf"
printf '[main]\nplugins=keyfile\n[device]\nmatch-device=interface-name:eth0\nmanaged=0\n' \
  >"$tree/etc/NetworkManager/conf.d/lab.conf"

for tree in "$base" openresolv resolvconf; do
  rm -rf "${roots:?}/$tree"
  mv "$new/$tree" "$roots/$tree"
done
rm -rf "$new"
"#;

/// Makes the trees, unless they are there.
pub(crate) fn run() -> ExitCode {
    let roots = crate::target_dir().join("roots");
    if roots.join("resolvconf").is_dir() {
        println!("`{}` is there already", roots.display());
        return ExitCode::SUCCESS;
    }
    match make(&roots) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the trees were not made: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(roots: &Path) -> Result<(), String> {
    std::fs::create_dir_all(roots)
        .map_err(|error| format!("make `{}`: {error}", roots.display()))?;
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is a tool for developers: packages come by their own client"
    )]
    let mut command = Command::new("sh");
    command
        .args(["-c", SCRIPT, "roots"])
        .arg(roots)
        .args([PACKAGES, MIRROR, BASE]);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "{status}; it needs root, `debootstrap` and a Debian mirror"
        )),
        Err(error) => Err(format!("start `sh`: {error}")),
    }
}
