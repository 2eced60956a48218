//! What the bus tells during logins at headscale: Go's daemon and ours, side by side.
//!
//! The differences that are left out here are those that `docs/parity.md` explains.

use serde_json::{Value, json};
use testkit::originals::{self, Daemon, TailscaledOptions};

use crate::common::*;
use crate::local::{Watch, local_ok, local_with};

const NEEDS_LOGIN: u64 = 2;
const STARTING: u64 = 5;
const RUNNING: u64 = 6;

/// State and prefs in the first message, and whole peers never.
const MASK: u64 = 2 | 4 | 1 << 13;

/// One daemon under the same script as another.
struct Subject<'a> {
    tailnet: &'a Foreign,
    daemon: Daemon,
    watch: Watch,
    steps: Vec<(String, Vec<String>)>,
}

impl<'a> Subject<'a> {
    fn new(tailnet: &'a Foreign, daemon: Daemon) -> Self {
        testkit::wait_until("the daemon to have started", || {
            (status(&tailnet.go_cli, &daemon)["BackendState"] == "NeedsLogin").then_some(())
        });
        let watch = Watch::open(&daemon, MASK);
        Self {
            tailnet,
            daemon,
            watch,
            steps: Vec::new(),
        }
    }

    /// What has come since the last step, once `is_end` has: everything that was under way by then.
    fn step(&mut self, name: &str, is_end: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = self.watch.until(name, is_end);
        let mark = format!("mark {}", self.steps.len());
        let (status, _) = local_with(
            &self.daemon,
            "POST",
            "debug",
            "Debug-Action: notify\r\n",
            &json!({ "ErrMessage": mark }).to_string(),
        );
        assert_eq!(status, 200);
        seen.extend(
            self.watch
                .until(&mark, |message| message["ErrMessage"] == *mark),
        );
        seen.pop();
        if ["let in", "login with a key", "switch"].contains(&name) {
            let own = seen.iter().position(has("SelfChange"));
            let starting = seen.iter().position(state(STARTING));
            assert!(own.is_some() && own < starting, "{name}: {seen:#?}");
        }
        let words = seen.iter().filter_map(|message| self.words(message));
        let mut words: Vec<String> = words.collect();
        words.dedup();
        if ["let in", "login with a key"].contains(&name) {
            words = without_repetitions(words);
        }
        self.steps.push((name.to_owned(), words));
        seen
    }

    /// A message without what differs between two nodes, or between two runs.
    fn words(&self, message: &Value) -> Option<String> {
        let mut message = message.as_object().unwrap().clone();
        let version = message.remove("Version").unwrap();
        assert!(!version.as_str().unwrap().is_empty());
        for own in ["Health", "Engine", "ClientVersion"] {
            message.remove(own);
        }
        // How often the server tells us of ourselves is its own affair.
        message.remove("SelfChange");
        // Directories to be shared are not built.
        if message["DriveShares"] == json!([]) {
            message.insert("DriveShares".into(), Value::Null);
        }
        if message.values().all(Value::is_null) {
            return None;
        }
        if let Some(prefs) = message["Prefs"].as_object_mut() {
            // We never update ourselves, so the tailnet's default is not taken over.
            prefs["AutoUpdate"]["Apply"] = Value::Null;
            if prefs["Config"].is_object() {
                prefs["Config"]["NodeID"] = "*".into();
            }
        }
        let mut text = Value::Object(message).to_string();
        text = text.replace(&self.tailnet.headscale.url(), "<server>");
        Some(blot(
            &blot(&text, "\"SessionID\":\"", '"'),
            "/register/",
            '"',
        ))
    }

    fn call(&self, status: u16, method: &str, path: &str, body: &Value) -> String {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        local_ok(&self.daemon, status, method, path, &body)
    }

    fn start(&self, name: &str, auth_key: &str) {
        let options = json!({
            "AuthKey": auth_key,
            "UpdatePrefs": {
                "ControlURL": self.tailnet.headscale.url(),
                "WantRunning": true,
                "CorpDNS": true,
                "Hostname": name,
                "NetfilterMode": 0,
            },
        });
        self.call(204, "POST", "start", &options);
    }

    fn want_running(&self, want: bool) {
        let edit = json!({ "WantRunning": want, "WantRunningSet": true });
        self.call(200, "PATCH", "prefs", &edit);
    }

    fn profile(&self) -> String {
        let current = self.call(200, "GET", "profiles/current", &Value::Null);
        let current: Value = serde_json::from_str(&current).unwrap();
        current["ID"].as_str().unwrap().to_owned()
    }
}

/// The original learns who it is from two sources, in either order, and tells its prefs after each; we tell as soon as
/// we know. What counts is where the prefs change in anything else.
fn without_repetitions(words: Vec<String>) -> Vec<String> {
    let mut last = String::new();
    let mut out = Vec::new();
    for word in words {
        let prefs = match word.split_once("\"ControlURL\"") {
            Some((_, prefs)) => prefs.to_owned(),
            None => {
                out.push(word);
                continue;
            }
        };
        if prefs != last {
            out.push(format!("prefs {prefs}"));
        }
        last = prefs;
    }
    out
}

/// Replaces what stands between each `before` and the next `after`.
fn blot(text: &str, before: &str, after: char) -> String {
    let mut parts = text.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(after).unwrap_or(part.len());
        out.push_str(before);
        out.push('*');
        out.push_str(&part[end..]);
    }
    out
}

fn state(number: u64) -> impl Fn(&Value) -> bool {
    move |message| message["State"] == number
}

fn has(field: &'static str) -> impl Fn(&Value) -> bool {
    move |message| !message[field].is_null()
}

/// The parts of the first message for each wish alone.
fn first_messages(daemon: &Daemon) -> Vec<String> {
    let alone = [1, 2, 5, 10, 11, 14, 18].map(|bit| 1_u64 << bit);
    let together = [6, 7, 9, 12, 13, 15].map(|bit| 2 | 1_u64 << bit);
    let shape = |mask: u64| {
        let watch = Watch::open(daemon, mask);
        let first = watch.until("first message", |_| true).remove(0);
        let parts = first.as_object().unwrap().iter().map(|(name, value)| {
            let value = match value {
                Value::Null => "null",
                _ => "*",
            };
            format!("{name}={value}")
        });
        format!("{mask}: {}", parts.collect::<Vec<_>>().join(" "))
    };
    alone.into_iter().chain(together).map(shape).collect()
}

/// Every way in and out, in one life of a daemon.
fn script(subject: &mut Subject<'_>, second_key: &str) {
    subject.step("first", has("SessionID"));
    subject.start("one", "");
    subject.step("start", state(NEEDS_LOGIN));
    subject.call(204, "POST", "login-interactive", &Value::Null);
    let page = subject.step("login", has("BrowseToURL"));
    let page = page
        .iter()
        .find_map(|message| message["BrowseToURL"].as_str());
    let page = page.unwrap().to_owned();
    subject.call(204, "POST", "login-interactive", &Value::Null);
    subject.step("login again", |message| message["BrowseToURL"] == *page);
    let firsts = first_messages(&subject.daemon);
    subject
        .steps
        .push(("first messages in login".into(), firsts));
    subject.tailnet.headscale.register("tester", &page);
    subject.step("let in", state(RUNNING));
    let first = subject.profile();
    let firsts = first_messages(&subject.daemon);
    subject.steps.push(("first messages".into(), firsts));

    subject.want_running(false);
    subject.step("down", has("Prefs"));
    subject.want_running(true);
    subject.step("up", state(RUNNING));
    subject.call(
        200,
        "PATCH",
        "prefs",
        &json!({ "ShieldsUp": true, "ShieldsUpSet": true }),
    );
    subject.step("shields up", has("Prefs"));

    subject.call(201, "PUT", "profiles/", &Value::Null);
    subject.step("new profile", state(NEEDS_LOGIN));
    subject.start("two", second_key);
    subject.step("start with a key", state(NEEDS_LOGIN));
    subject.call(204, "POST", "login-interactive", &Value::Null);
    subject.step("login with a key", state(RUNNING));
    let second = subject.profile();

    subject.call(204, "POST", &format!("profiles/{first}"), &Value::Null);
    subject.step("switch", state(RUNNING));
    subject.call(204, "POST", "logout", &Value::Null);
    subject.step("logout", state(NEEDS_LOGIN));
    subject.call(204, "POST", &format!("profiles/{second}"), &Value::Null);
    subject.step("switch after logout", state(RUNNING));
    subject.call(204, "DELETE", &format!("profiles/{second}"), &Value::Null);
    subject.step("delete", state(NEEDS_LOGIN));
}

#[test]
fn the_bus_tells_the_same_story() {
    let test = "the_bus_tells_the_same_story";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let other = tailnet.headscale.create_user("other");
    let key = tailnet.headscale.auth_key(&other, &[]);
    let options = TailscaledOptions::default();
    let mut go = Subject::new(&tailnet, originals::go_tailscaled(test, &options).unwrap());
    script(&mut go, &key);
    let mut ours = Subject::new(&tailnet, our_daemon(&options));
    script(&mut ours, &key);
    let mut differences = String::new();
    for ((name, theirs), (_, ours)) in go.steps.iter().zip(&ours.steps) {
        if theirs != ours {
            differences += &format!(
                "\n== {name}\nGo:\n  {}\nours:\n  {}\n",
                theirs.join("\n  "),
                ours.join("\n  ")
            );
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
