//! What control is told about this machine (`hostinfo/hostinfo_linux.go` of the originals): only what the kernel and a
//! few files say, read once at start.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tailcfg::Hostinfo;

/// The facts about this machine that do not depend on preferences. `env` is the environment.
pub fn hostinfo(env: &dyn Fn(&str) -> Option<String>) -> Hostinfo {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let release = os_release(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    let of = |key: &str| release.get(key).cloned().unwrap_or_default();
    let distro = of("ID");
    let debian_version = fs::read_to_string("/etc/debian_version")
        .ok()
        .map(|version| version.trim().to_owned());
    let version = if distro == "debian" {
        debian_version.unwrap_or_default()
    } else {
        of("VERSION_ID")
    };
    Hostinfo {
        os: "linux".into(),
        os_version: text(uname.release()),
        container: Some(in_container()),
        env: env("TS_HOST_ENV").unwrap_or_else(|| environment_code(env).into()),
        app: env("TS_INTERNAL_APP").unwrap_or_default(),
        distro,
        distro_version: version,
        distro_code_name: of("VERSION_CODENAME"),
        desktop: Some(has_desktop()),
        device_model: fs::read_to_string("/sys/firmware/devicetree/base/model")
            .map(|model| model.trim_matches(char::from(0)).to_owned())
            .unwrap_or_default(),
        hostname: short_host_name(&text(uname.nodename())),
        machine: text(uname.machine()),
        go_arch: go_arch().into(),
        ..Hostinfo::default()
    }
}

/// The first label of the machine's name.
fn short_host_name(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_owned()
}

/// Compat: the field is named for Go, but what consumers read is the architecture's name.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The fields of an os-release file (freedesktop's os-release(5)).
fn os_release(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| {
            (
                key.trim().to_owned(),
                value.trim().trim_matches(['"', '\'']).to_owned(),
            )
        })
        .collect()
}

fn in_container() -> bool {
    Path::new("/.dockerenv").exists()
        || Path::new("/run/.containerenv").exists()
        || fs::read_to_string("/proc/1/cgroup")
            .is_ok_and(|text| text.contains("/docker/") || text.contains("/lxc/"))
        || fs::read_to_string("/proc/mounts")
            .is_ok_and(|text| text.contains("lxcfs /proc/cpuinfo fuse.lxcfs"))
}

fn has_desktop() -> bool {
    fs::read_to_string("/proc/net/unix").is_ok_and(|text| {
        [" @/tmp/dbus-", ".X11-unix", "/wayland-1"]
            .iter()
            .any(|mark| text.contains(mark))
    })
}

/// The hosting environment's short code.
fn environment_code(env: &dyn Fn(&str) -> Option<String>) -> &'static str {
    let has = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    if has("K_REVISION") && has("K_CONFIGURATION") && has("K_SERVICE") && has("PORT") {
        return "kn";
    }
    if has("AWS_LAMBDA_FUNCTION_NAME") && has("AWS_LAMBDA_FUNCTION_VERSION") {
        return "lm";
    }
    if has("PORT") && has("DYNO") {
        return "hr";
    }
    if has("APPSVC_RUN_ZIP") || has("WEBSITE_STACK") || has("WEBSITE_AUTH_AUTO_AAD") {
        return "az";
    }
    if env("AWS_EXECUTION_ENV").as_deref() == Some("AWS_ECS_FARGATE") {
        return "fg";
    }
    if has("FLY_APP_NAME") && has("FLY_REGION") {
        return "fly";
    }
    if has("KUBERNETES_SERVICE_HOST") && has("KUBERNETES_SERVICE_PORT") {
        return "k8s";
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values_lose_their_quotes() {
        let fields = os_release("# c\nID=debian\nVERSION_ID=\"12\"\nNAME='x y'\n\njunk");
        assert_eq!(fields["ID"], "debian");
        assert_eq!(fields["VERSION_ID"], "12");
        assert_eq!(fields["NAME"], "x y");
    }

    #[test]
    fn the_environment_names_its_host() {
        let fly = |name: &str| name.starts_with("FLY_").then(|| "x".to_owned());
        assert_eq!(environment_code(&fly), "fly");
        assert_eq!(environment_code(&|_| None), "");
        assert_eq!(short_host_name("a.b.c"), "a");
    }

    #[test]
    fn this_machine_has_a_kernel_version() {
        assert!(!hostinfo(&|_| None).os_version.is_empty());
    }
}
