//! Logins that wait, are refused, or are left in the middle; and a state file that cannot be written.

use controlserver::{Admin, Approval, Settings};
use ipn::{MaskedPrefs, Options, Prefs};

use crate::ours::{Node, Tailnet, until};

/// What `up` without an auth key asks of the daemon.
async fn ask_for_a_page(node: &Node, url: &str) {
    let prefs = Prefs {
        control_url: url.to_owned(),
        want_running: true,
        ..Prefs::new()
    };
    let options = Options {
        update_prefs: Some(Box::new(prefs)),
        ..Options::default()
    };
    node.api.start(&options).await.unwrap();
    node.api.login_interactive().await.unwrap();
}

/// The login that the server has somebody wait for at this node's page.
async fn waiting(node: &Node, admin: &Admin) -> String {
    until("the page", async || {
        !node.api.status().await.unwrap().auth_url.is_empty()
    })
    .await;
    let url = node.api.status().await.unwrap().auth_url;
    let logins = admin.logins().into_iter();
    let mut logins = logins.filter(|login| url.ends_with(&login.id));
    logins.next().unwrap().id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_waits_for_its_approval_and_loses_it_again() {
    let tailnet = Tailnet::start().await;
    let admin = tailnet.admin();
    admin
        .set_settings(Settings {
            device_approval: true,
            ..Settings::default()
        })
        .await;
    let node = Node::start();
    ask_for_a_page(&node, &tailnet.url()).await;
    let login = waiting(&node, &admin).await;
    admin
        .approve_login(&login, Approval::default())
        .await
        .unwrap();
    let waits = async || node.state().await == "NeedsMachineAuth";
    until("NeedsMachineAuth", waits).await;
    let id = admin.nodes()[0].id;
    for _ in 0..2 {
        admin.set_approved(id, true).await.unwrap();
        node.until_running().await;
        admin.set_approved(id, false).await.unwrap();
        until("NeedsMachineAuth", waits).await;
    }
    let mut node = node;
    node.daemon.kill();
    node.daemon.start_again();
    until("NeedsMachineAuth", async || {
        node.state().await == "NeedsMachineAuth"
    })
    .await;
    admin.set_approved(id, true).await.unwrap();
    node.until_running().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_can_be_asked_for_again() {
    let tailnet = Tailnet::start().await;
    let admin = tailnet.admin();
    let node = Node::start();
    ask_for_a_page(&node, &tailnet.url()).await;
    let refused = waiting(&node, &admin).await;
    admin.refuse_login(&refused).await.unwrap();
    until("the refusal to be told", async || {
        let health = node.health().await;
        health.iter().any(|text| text.contains("login error"))
    })
    .await;
    assert_eq!(node.state().await, "NeedsLogin");
    ask_for_a_page(&node, &tailnet.url()).await;
    let login = waiting(&node, &admin).await;
    assert_ne!(login, refused);
    admin
        .approve_login(&login, Approval::default())
        .await
        .unwrap();
    node.until_running().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_left_for_another_never_comes_back() {
    let tailnet = Tailnet::start().await;
    let admin = tailnet.admin();
    let node = tailnet.node().await;
    let first = node.api.current_profile().await.unwrap().id;
    let key = node.key().await;
    node.api.new_profile().await.unwrap();
    ask_for_a_page(&node, &tailnet.url()).await;
    let login = waiting(&node, &admin).await;
    node.api.switch_profile(&first).await.unwrap();
    // Whether the server still knows that login is its own affair. As the same user's it would be the same node with
    // another key, and the first login would be none any more.
    let somebody_else = Approval {
        user: "somebody-else".into(),
        ..Approval::default()
    };
    let _ = admin.approve_login(&login, somebody_else).await;
    node.until_running().await;
    assert_eq!(node.key().await, key);
    assert_eq!(node.api.profiles().await.unwrap().len(), 1);
    assert_eq!(node.api.status().await.unwrap().auth_url, "");
    assert!(node.api.switch_profile("none").await.is_err());
    node.until_running().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_saved_is_saved_when_it_can() {
    let tailnet = Tailnet::start().await;
    let mut node = tailnet.node().await;
    let state = node.daemon.state_dir().join("tailscaled.state");
    std::fs::remove_file(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    let edit = MaskedPrefs {
        prefs: Prefs {
            hostname: "renamed".into(),
            ..Prefs::default()
        },
        hostname_set: true,
        ..MaskedPrefs::default()
    };
    node.api.patch_prefs(&edit).await.unwrap();
    let warned = async |node: &Node| {
        let health = node.health().await;
        health.iter().any(|text| text.contains("cannot be saved"))
    };
    until("a warning", async || warned(&node).await).await;
    assert_eq!(node.state().await, "Running");
    std::fs::remove_dir(&state).unwrap();
    until("the warning to end", async || !warned(&node).await).await;
    node.daemon.kill();
    node.daemon.start_again();
    node.until_running().await;
    let prefs = node.api.prefs().await.unwrap();
    assert_eq!(prefs.hostname, "renamed");
}
