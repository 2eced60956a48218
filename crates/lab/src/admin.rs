//! `lab admin`: orders to the control server of a lab, over its admin socket.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use controlserver::{
    AdminClient, Approval, C2nQuestion, NewAuthKey, NodeInfo, PingQuestion, Presence,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tailcfg::NodeId;
use tailcfg::go::GoTime;

/// Gives orders to the control server of a running lab
#[derive(Debug, Clone, Args)]
pub struct AdminOptions {
    /// The server's admin socket, or the lab's directory; by default those of the only lab that runs
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,

    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do
    #[command(subcommand)]
    pub order: Order,
}

/// One order. A node is given by its number or its name; a file `-` is standard input.
#[derive(Debug, Clone, Subcommand)]
pub enum Order {
    /// List the nodes
    List,
    /// List the auth keys
    Keys,
    /// Make an auth key and print it
    CreateKey {
        /// Whose nodes it makes
        #[arg(long, default_value = "lab")]
        user: String,
        /// It can be used more than once
        #[arg(long)]
        reusable: bool,
        /// Its nodes vanish when they are offline
        #[arg(long)]
        ephemeral: bool,
        /// Its nodes need no approval
        #[arg(long)]
        preapproved: bool,
        /// Tags of its nodes
        #[arg(long, value_delimiter = ',')]
        tags: Vec<String>,
        /// How many seconds it is good for
        #[arg(long, value_name = "SECONDS")]
        expires: Option<u64>,
    },
    /// End an auth key's life
    ExpireKey {
        /// The key's id
        id: String,
    },
    /// List the machines that wait for a person
    Logins,
    /// Let a machine in that waits
    ApproveLogin {
        /// The last part of its login page's address
        id: String,
        /// Whose node it becomes
        #[arg(long, default_value = "lab")]
        user: String,
        /// Its tags, instead of those that it asks for
        #[arg(long, value_delimiter = ',')]
        tags: Option<Vec<String>>,
    },
    /// Tell a machine that waits that it may not come in
    RefuseLogin {
        /// The last part of its login page's address
        id: String,
    },
    /// Let a machine take part
    Approve {
        /// The node
        node: String,
    },
    /// Keep a machine out
    Disapprove {
        /// The node
        node: String,
    },
    /// Expire a node's key
    Expire {
        /// The node
        node: String,
        /// In so many seconds instead of now
        #[arg(long = "in", value_name = "SECONDS")]
        after: Option<u32>,
        /// Never instead
        #[arg(long, conflicts_with = "after")]
        never: bool,
    },
    /// Give a node a name that its host cannot change; without a name, take it back
    Rename {
        /// The node
        node: String,
        /// Its name
        name: Option<String>,
    },
    /// Set a node's tags
    Tags {
        /// The node
        node: String,
        /// All its tags
        tags: Vec<String>,
    },
    /// Set the subnets that are routed to a node while it advertises them
    Routes {
        /// The node
        node: String,
        /// All its subnets
        routes: Vec<String>,
    },
    /// Set a node's attributes, the capabilities that it has for itself
    Attributes {
        /// The node
        node: String,
        /// A JSON object: names, and lists of values or null
        attributes: String,
    },
    /// Remove a node
    Remove {
        /// The node
        node: String,
    },
    /// End a node's map stream; it comes back by itself
    Disconnect {
        /// The node
        node: String,
    },
    /// Put a MapResponse in JSON into a node's map stream, as it is
    Inject {
        /// The node
        node: String,
        /// The file with it
        file: PathBuf,
    },
    /// Ask a node to ping an address; without one, for a sign of life
    Ping {
        /// The node that pings
        node: String,
        /// The address that it pings
        ip: Option<IpAddr>,
        /// How: a comma list of disco, TSMP, ICMP, peerapi
        #[arg(long, default_value = "disco")]
        types: String,
    },
    /// Send a node an HTTP request through the map stream
    C2n {
        /// The node
        node: String,
        /// The path, such as /echo
        path: String,
        /// The method
        #[arg(long, default_value = "GET")]
        method: String,
        /// The body
        #[arg(long, default_value = "")]
        body: String,
    },
    /// Add nodes that exist on paper only
    AddNodes {
        /// How many
        count: u32,
    },
    /// Let a node that exists on paper only come
    Online {
        /// The node
        node: String,
    },
    /// Let a node that exists on paper only go
    Offline {
        /// The node
        node: String,
    },
    /// Print the filter rules, or set them from a JSON file
    Filter {
        /// The file
        file: Option<PathBuf>,
    },
    /// Print what is told about name resolution, or set it from a JSON file
    Dns {
        /// The file
        file: Option<PathBuf>,
    },
    /// Print the relay map, or set it from a JSON file
    DerpMap {
        /// The file
        file: Option<PathBuf>,
    },
    /// Print how nodes are treated, or change it
    Settings {
        /// Whether new machines wait for approval
        #[arg(long)]
        device_approval: Option<bool>,
        /// Whether whoever knows a login page's address may decide there
        #[arg(long)]
        open_logins: Option<bool>,
        /// How many seconds a new key is good for; 0 is for ever
        #[arg(long, value_name = "SECONDS")]
        key_lifetime: Option<u64>,
        /// How coming and going is told: patches or maps
        #[arg(long, value_parser = parse_presence)]
        presence: Option<Presence>,
    },
}

fn parse_presence(text: &str) -> Result<Presence, String> {
    match text {
        "patches" => Ok(Presence::Patches),
        "maps" => Ok(Presence::Maps),
        _ => Err("say patches or maps".into()),
    }
}

/// Carries out an order and returns what is to be printed.
pub async fn run(options: &AdminOptions) -> Result<String> {
    let socket = find_socket(options.socket.as_deref())?;
    let admin = AdminClient::new(socket);
    order(&admin, &options.order, options.json).await
}

async fn order(admin: &AdminClient, order: &Order, json: bool) -> Result<String> {
    match order {
        Order::List => {
            let nodes = admin.nodes().await?;
            if json {
                pretty(&nodes)
            } else {
                Ok(table(&nodes))
            }
        }
        Order::Keys => pretty(&admin.auth_keys().await?),
        Order::ExpireKey { id } => done(admin.expire_auth_key(id).await?),
        Order::CreateKey {
            user,
            reusable,
            ephemeral,
            preapproved,
            tags,
            expires,
        } => {
            let made = admin
                .create_auth_key(&NewAuthKey {
                    user: user.clone(),
                    reusable: *reusable,
                    ephemeral: *ephemeral,
                    preapproved: *preapproved,
                    tags: tags.clone(),
                    expiry_secs: *expires,
                })
                .await?;
            if json {
                pretty(&made)
            } else {
                Ok(made.key.unwrap_or_default() + "\n")
            }
        }
        Order::Logins => pretty(&admin.logins().await?),
        Order::ApproveLogin { id, user, tags } => {
            let approval = Approval {
                user: user.clone(),
                tags: tags.clone(),
            };
            done(admin.approve_login(id, &approval).await?)
        }
        Order::RefuseLogin { id } => done(admin.refuse_login(id).await?),
        Order::AddNodes { count } => {
            let ids = admin.add_nodes(*count).await?;
            if json {
                pretty(&ids)
            } else {
                Ok(format!("added {} nodes\n", ids.len()))
            }
        }
        Order::Filter { file: None } => pretty(&admin.filter().await?),
        Order::Filter { file: Some(file) } => done(admin.set_filter(&read::<Vec<_>>(file)?).await?),
        Order::Dns { file: None } => pretty(&admin.dns().await?),
        Order::Dns { file: Some(file) } => done(admin.set_dns(&read(file)?).await?),
        Order::DerpMap { file: None } => pretty(&admin.derp_map().await?),
        Order::DerpMap { file: Some(file) } => done(admin.set_derp_map(&read(file)?).await?),
        Order::Settings {
            device_approval,
            open_logins,
            key_lifetime,
            presence,
        } => {
            let mut settings = admin.settings().await?;
            let before = settings.clone();
            settings.device_approval = device_approval.unwrap_or(settings.device_approval);
            settings.open_logins = open_logins.unwrap_or(settings.open_logins);
            settings.presence = presence.unwrap_or(settings.presence);
            if let Some(secs) = *key_lifetime {
                settings.key_lifetime_secs = (secs != 0).then_some(secs);
            }
            if settings != before {
                admin.set_settings(&settings).await?;
            }
            pretty(&settings)
        }
        _ => order_node(admin, order, json).await,
    }
}

/// The orders that are about one node.
async fn order_node(admin: &AdminClient, order: &Order, json: bool) -> Result<String> {
    let find = async |node: &str| find_node(&admin.nodes().await?, node);
    match order {
        Order::Approve { node } => done(admin.set_approved(find(node).await?, true).await?),
        Order::Disapprove { node } => done(admin.set_approved(find(node).await?, false).await?),
        Order::Expire { node, after, never } => {
            let id = find(node).await?;
            match (after, never) {
                (None, false) => done(admin.expire_node(id).await?),
                (_, true) => done(admin.set_key_expiry(id, GoTime::ZERO).await?),
                (Some(secs), _) => {
                    let nanos = rt::wall().as_unix_nanos() + i128::from(*secs) * 1_000_000_000;
                    done(
                        admin
                            .set_key_expiry(id, GoTime::from_unix_nanos(nanos))
                            .await?,
                    )
                }
            }
        }
        Order::Rename { node, name } => {
            let name = name.as_deref().unwrap_or_default();
            done(admin.set_name(find(node).await?, name).await?)
        }
        Order::Tags { node, tags } => done(admin.set_tags(find(node).await?, tags).await?),
        Order::Routes { node, routes } => {
            let routes: Result<Vec<_>, _> = routes.iter().map(|route| route.parse()).collect();
            let routes = routes.context("a subnet is an address, `/` and a number")?;
            done(admin.set_routes(find(node).await?, &routes).await?)
        }
        Order::Attributes { node, attributes } => {
            let attributes = serde_json::from_str(attributes).context("decode the attributes")?;
            done(admin.set_attributes(find(node).await?, &attributes).await?)
        }
        Order::Remove { node } => done(admin.remove_node(find(node).await?).await?),
        Order::Disconnect { node } => done(admin.disconnect(find(node).await?).await?),
        Order::Inject { node, file } => done(admin.inject(find(node).await?, &read(file)?).await?),
        Order::Ping { node, ip, types } => {
            let what = PingQuestion {
                types: if ip.is_some() {
                    types.clone()
                } else {
                    String::new()
                },
                ip: *ip,
            };
            let answer = admin.ping(find(node).await?, &what).await?;
            match (ip, json) {
                (None, false) => Ok("it lives\n".into()),
                _ => pretty(&answer),
            }
        }
        Order::C2n {
            node,
            path,
            method,
            body,
        } => {
            let question = C2nQuestion {
                method: method.clone(),
                path: path.clone(),
                body: body.clone(),
            };
            let answer = admin.c2n(find(node).await?, &question).await?;
            if json {
                pretty(&answer)
            } else {
                Ok(format!("{}\n{}\n", answer.status, answer.body))
            }
        }
        Order::Online { node } => done(admin.set_online(find(node).await?, true).await?),
        Order::Offline { node } => done(admin.set_online(find(node).await?, false).await?),
        other => bail!("{other:?} is about no node"),
    }
}

fn done((): ()) -> Result<String> {
    Ok(String::new())
}

fn pretty<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("read `{}`", file.display()))?
    };
    serde_json::from_str(&text).with_context(|| format!("decode `{}`", file.display()))
}

/// A node by its number, its name, or its name's first part.
fn find_node(nodes: &[NodeInfo], wanted: &str) -> Result<NodeId> {
    let named =
        |node: &&NodeInfo| node.name == wanted || node.name.split('.').next() == Some(wanted);
    let numbered = |node: &&NodeInfo| Ok(node.id) == wanted.parse();
    let found = nodes.iter().find(numbered);
    let found = found.or_else(|| nodes.iter().find(named));
    Ok(found
        .with_context(|| format!("there is no node `{wanted}`"))?
        .id)
}

fn table(nodes: &[NodeInfo]) -> String {
    let mut out = format!(
        "{:<6} {:<28} {:<16} {:<16} {:<8} {}\n",
        "NUMBER", "NAME", "ADDRESS", "USER", "ONLINE", "REMARKS"
    );
    for node in nodes {
        let mut remarks = node.tags.clone();
        let mut remark = |is: bool, word: &str| {
            if is {
                remarks.push(word.to_owned());
            }
        };
        remark(!node.approved, "not approved");
        remark(node.ephemeral, "ephemeral");
        if !node.key_expiry.is_zero() {
            remarks.push(format!("expires {}", node.key_expiry));
        }
        let address = node.addresses.first().map(IpAddr::to_string);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{:<6} {:<28} {:<16} {:<16} {:<8} {}",
            node.id,
            node.name,
            address.unwrap_or_default(),
            node.user,
            if node.online { "yes" } else { "no" },
            remarks.join(", ")
        );
    }
    out
}

/// The socket that was named, or that of the only lab which runs as us.
fn find_socket(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        let socket = if path.is_dir() {
            path.join("admin.sock")
        } else {
            path.to_owned()
        };
        return Ok(socket);
    }
    let answers = |socket: &PathBuf| std::os::unix::net::UnixStream::connect(socket).is_ok();
    let mut found: Vec<PathBuf> = std::fs::read_dir(std::env::temp_dir())?
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("tailnet-lab-")
        })
        .map(|entry| entry.path().join("admin.sock"))
        .filter(answers)
        .collect();
    ensure!(
        found.len() <= 1,
        "several labs run: name one with --socket: {found:?}"
    );
    found
        .pop()
        .context("no lab runs, or it keeps its directory elsewhere: name it with --socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn orders_reach_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let server = controlserver::Server::start(controlserver::Config {
            admin_socket: Some(socket.clone()),
            ..controlserver::Config::default()
        })
        .await
        .unwrap();
        let say = async |words: &str| {
            let words = words.split(' ').map(str::to_owned);
            let line = ["lab".to_owned(), "admin".to_owned()]
                .into_iter()
                .chain(words);
            let options = <crate::Options as clap::Parser>::try_parse_from(line).unwrap();
            let Some(crate::Command::Admin(mut options)) = options.command else {
                panic!("no order");
            };
            options.socket = Some(dir.path().to_owned());
            run(&options).await
        };
        assert_eq!(say("add-nodes 2").await.unwrap(), "added 2 nodes\n");
        say("rename 1 prod").await.unwrap();
        say("tags prod tag:a tag:b").await.unwrap();
        say("expire paper2 --in 60").await.unwrap();
        say("disapprove 2").await.unwrap();
        say("attributes prod {\"funnel\":null}").await.unwrap();
        let listed = say("list").await.unwrap();
        assert!(
            listed.contains("prod.tailnet.test") && listed.contains("tag:a, tag:b"),
            "{listed}"
        );
        assert!(listed.contains("not approved, expires "), "{listed}");
        assert!(say("list --json").await.unwrap().starts_with("[\n"));
        assert!(
            say("create-key --tags=tag:x")
                .await
                .unwrap()
                .starts_with("tskey-auth-")
        );
        let settings = say("settings --device-approval true --key-lifetime 9 --presence maps");
        assert!(settings.await.unwrap().contains("\"key_lifetime_secs\": 9"));
        assert!(server.admin().settings().device_approval);
        assert!(say("remove nobody").await.is_err());
        assert!(
            say("ping 1")
                .await
                .unwrap_err()
                .to_string()
                .contains("not connected")
        );
        say("remove prod").await.unwrap();
        assert_eq!(server.admin().nodes().len(), 1);
        server.stop().await;
    }
}
