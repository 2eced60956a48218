//! Completion in real shells.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]
#![expect(clippy::disallowed_methods, reason = "running shells is the test")]

use std::process::Command;

/// What a shell prints for a script, our program being the first `tailscale` that it finds; `None` without the shell.
fn said(shell: &str, script: &str) -> Option<String> {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_tailscale"));
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let run = Command::new(shell)
        .args(["-c", script])
        .env("PATH", path)
        .output();
    let Ok(output) = run else {
        testkit::originals::skip("completion", &format!("the shell {shell} is not installed"));
        return None;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn bash_completes() {
    let ask = |words: &str| {
        let script = format!(
            "source <(tailscale completion bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _tailscale; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        said("bash", &script)
    };
    let Some(names) = ask("tailscale ne") else {
        return;
    };
    assert_eq!(names, "netcheck\n");
    assert_eq!(ask("tailscale set --accept-d").unwrap(), "--accept-dns\n");
    assert_eq!(ask("tailscale exit-node ''").unwrap(), "list\nsuggest\n");
    // The value of a flag is not ours to know.
    assert_eq!(
        ask("tailscale up --login-server = http").unwrap().trim(),
        ""
    );
}

#[test]
fn fish_completes() {
    let script = "tailscale completion fish | source; complete -C 'tailscale exit-node '";
    if let Some(names) = said("fish", script) {
        let names: Vec<&str> = names
            .lines()
            .filter_map(|line| line.split('\t').next())
            .collect();
        assert_eq!(names, ["list", "suggest"]);
    }
}

#[test]
fn zsh_takes_the_script() {
    let script = "autoload -U compinit; compinit -u -D; source <(tailscale completion zsh); print ${_comps[tailscale]}";
    if let Some(name) = said("zsh", script) {
        assert_eq!(name, "_tailscale\n");
    }
}
