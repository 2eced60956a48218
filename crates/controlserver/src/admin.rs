//! The administrator's side: what may be ordered. [`http`](crate::admin_http) offers the same to other processes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tailcfg::go::GoTime;
use tailcfg::{
    CapMap, DerpMap, DnsConfig, FilterRule, MapResponse, NodeId, PingRequest, PingResponse,
};
use transport::head::Head;

use crate::state::{Matters, NoWay, State, go_now};
use crate::tailnet::{
    Approval, AuthKeyInfo, LoginInfo, NewAuthKey, NodeInfo, Refused, Settings, Tailnet,
};

/// How long a node may take to answer a ping; it gives its peers ten seconds.
const PING_TIMEOUT: Duration = Duration::from_secs(25);
/// How long it may take to answer a request; its handlers may take a minute.
const C2N_TIMEOUT: Duration = Duration::from_secs(75);

/// What an administrator may do. All changes reach the nodes at once.
#[derive(Debug, Clone)]
pub struct Admin {
    state: Arc<State>,
}

/// Why a node gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// There is no such node.
    NoSuchNode,
    /// It has no map stream.
    NotConnected,
    /// It does not read its map stream.
    Behind,
    /// It did not answer in time.
    Silent,
    /// The question or the answer makes no sense.
    Invalid(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchNode => f.write_str("node not found"),
            Self::NotConnected => f.write_str("the node is not connected"),
            Self::Behind => f.write_str("the node does not read what it was sent before"),
            Self::Silent => f.write_str("the node did not answer in time"),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for AskError {}

impl From<NoWay> for AskError {
    fn from(why: NoWay) -> Self {
        match why {
            NoWay::NotConnected => Self::NotConnected,
            NoWay::Behind => Self::Behind,
        }
    }
}

/// What a node answered to a request of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct C2nAnswer {
    /// The status.
    pub status: u16,
    /// The fields in their order.
    pub headers: Vec<(String, String)>,
    /// The body; what is no text is replaced.
    pub body: String,
}

/// A request of the server to a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct C2nQuestion {
    /// The method; empty is GET.
    pub method: String,
    /// The path with what follows it.
    pub path: String,
    /// The body.
    pub body: String,
}

/// What a node shall ping.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PingQuestion {
    /// Empty for a sign of life, or a comma list of `disco`, `TSMP`, `ICMP`, `peerapi`.
    pub types: String,
    /// Whom to ping.
    pub ip: Option<std::net::IpAddr>,
}

impl Admin {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    async fn change<T>(&self, edit: impl FnOnce(&mut Tailnet) -> T) -> T {
        self.state.change(Matters::Now, edit).await
    }

    /// Makes a key that lets machines in. Its text is in this answer only.
    ///
    /// # Errors
    /// When a tag is none.
    pub async fn create_auth_key(&self, new: NewAuthKey) -> Result<AuthKeyInfo, Refused> {
        self.change(|tailnet| tailnet.create_auth_key(new, go_now(), &mut rt::OsRng))
            .await
    }

    /// All keys.
    #[must_use]
    pub fn auth_keys(&self) -> Vec<AuthKeyInfo> {
        self.state.read(Tailnet::auth_keys)
    }

    /// Ends a key's life. Nodes that came in by it stay.
    ///
    /// # Errors
    /// When there is no such key.
    pub async fn expire_auth_key(&self, id: &str) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.expire_auth_key(id, go_now()))
            .await
    }

    /// The machines that wait for a person to let them in.
    #[must_use]
    pub fn logins(&self) -> Vec<LoginInfo> {
        self.state.read(Tailnet::logins)
    }

    /// Lets a machine in that waits.
    ///
    /// # Errors
    /// When there is no such login, or a tag is none.
    pub async fn approve_login(&self, id: &str, approval: Approval) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.approve_login(id, approval))
            .await
    }

    /// Tells a machine that waits that it may not come in.
    ///
    /// # Errors
    /// When there is no such login.
    pub async fn refuse_login(&self, id: &str) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.refuse_login(id)).await
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.state.read(Tailnet::nodes)
    }

    /// Lets a machine take part, or keeps it out.
    ///
    /// # Errors
    /// When there is no such node; so below.
    pub async fn set_approved(&self, id: NodeId, approved: bool) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.set_approved(id, approved))
            .await
    }

    /// Expires a node's key: it must register again.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn expire_node(&self, id: NodeId) -> Result<(), Refused> {
        self.set_key_expiry(id, go_now()).await
    }

    /// Sets when a node's key runs out; zero is never.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn set_key_expiry(&self, id: NodeId, expiry: GoTime) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.set_key_expiry(id, expiry))
            .await
    }

    /// Gives a node a name that its host cannot change; an empty one takes it back.
    ///
    /// # Errors
    /// When there is no such node, or the name is none or another's.
    pub async fn set_name(&self, id: NodeId, name: &str) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.set_name(id, name)).await
    }

    /// Sets a node's tags.
    ///
    /// # Errors
    /// When there is no such node, or a tag is none.
    pub async fn set_tags(&self, id: NodeId, tags: Vec<String>) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.set_tags(id, tags)).await
    }

    /// Sets a node's attributes: the capabilities that it has for itself.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn set_attributes(&self, id: NodeId, attributes: CapMap) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.set_attributes(id, attributes))
            .await
    }

    /// Says whether the others let nothing in that a node begins, whatever the rules are.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn set_jailed(&self, id: NodeId, jailed: bool) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.set_jailed(id, jailed)).await
    }

    /// Sets the subnets that are routed to a node while it advertises them.
    ///
    /// # Errors
    /// When there is no such node, or a subnet is none.
    pub async fn set_routes(&self, id: NodeId, routes: Vec<IpNet>) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.set_routes(id, routes)).await
    }

    /// Removes a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn remove_node(&self, id: NodeId) -> Result<(), Refused> {
        self.change(|tailnet| tailnet.remove_node(id)).await?;
        self.state.end_stream(id);
        Ok(())
    }

    /// Ends a node's map stream, as if the connection had broken. The node comes back by itself.
    ///
    /// # Errors
    /// When the node has none.
    pub fn disconnect(&self, id: NodeId) -> Result<(), AskError> {
        match self.state.end_stream(id) {
            true => Ok(()),
            false => Err(AskError::NotConnected),
        }
    }

    /// Adds nodes that exist on paper only; they count as connected until the server ends. Their numbers.
    ///
    /// # Errors
    /// When there are no addresses left.
    pub async fn add_nodes(&self, count: u32) -> Result<Vec<NodeId>, Refused> {
        self.change(|tailnet| tailnet.add_paper_nodes(count, go_now(), &mut rt::OsRng))
            .await
    }

    /// Sets whether a node that exists on paper only counts as connected.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn set_online(&self, id: NodeId, online: bool) -> Result<(), Refused> {
        self.state
            .change(Matters::Soon, |tailnet| {
                tailnet.set_online(id, online, go_now())
            })
            .await
    }

    /// The filter rules.
    #[must_use]
    pub fn filter(&self) -> Arc<Vec<FilterRule>> {
        self.state.read(|tailnet| Arc::clone(tailnet.filter()))
    }

    /// Sets the filter rules, the same for all nodes. No rule at all means that nobody may talk to anybody.
    pub async fn set_filter(&self, rules: Vec<FilterRule>) {
        self.change(|tailnet| tailnet.set_filter(rules)).await;
    }

    /// What is told about name resolution beside the names of nodes.
    #[must_use]
    pub fn dns(&self) -> Arc<DnsConfig> {
        self.state.read(|tailnet| Arc::clone(tailnet.dns()))
    }

    /// Sets what is told about name resolution beside the names of nodes.
    pub async fn set_dns(&self, dns: DnsConfig) {
        self.change(|tailnet| tailnet.set_dns(dns)).await;
    }

    /// The relay map.
    #[must_use]
    pub fn derp_map(&self) -> Arc<DerpMap> {
        self.state.read(|tailnet| Arc::clone(tailnet.derp_map()))
    }

    /// Sets the relay map until the server ends; it starts with that of its configuration again.
    pub async fn set_derp_map(&self, map: DerpMap) {
        self.state
            .change(Matters::Never, |tailnet| tailnet.set_derp_map(map))
            .await;
    }

    /// How nodes are treated.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.state.read(|tailnet| tailnet.settings().clone())
    }

    /// Sets how nodes are treated, until the server ends; it starts with its configuration's settings again.
    pub async fn set_settings(&self, settings: Settings) {
        self.state
            .change(Matters::Never, |tailnet| tailnet.set_settings(settings))
            .await;
    }

    /// Puts a `MapResponse`, in JSON and as it is, into a node's map stream. The server does not remember it: it goes on
    /// telling the changes of what it knows itself.
    ///
    /// # Errors
    /// When it is no JSON object, or the node has no stream.
    pub fn inject(&self, id: NodeId, json: Bytes) -> Result<(), AskError> {
        let invalid = |error: serde_json::Error| AskError::Invalid(error.to_string());
        let _: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&json).map_err(invalid)?;
        self.state.read(|tailnet| tailnet.machine_of(id))?;
        Ok(self.state.send_extra(id, json)?)
    }

    /// Asks a node to ping somebody, or for a sign of life, which has nothing to tell.
    ///
    /// # Errors
    /// When the node does not answer, or with nonsense.
    pub async fn ping(&self, id: NodeId, what: PingQuestion) -> Result<PingResponse, AskError> {
        let ask = |url| PingRequest {
            url,
            url_is_noise: true,
            log: true,
            types: what.types.clone(),
            ip: what.ip,
            ..PingRequest::default()
        };
        let answer = self.ask(id, ask, PING_TIMEOUT).await?;
        if what.types.is_empty() {
            return Ok(PingResponse::default());
        }
        serde_json::from_slice(&answer)
            .map_err(|error| AskError::Invalid(format!("the node's answer: {error}")))
    }

    /// Sends a node an HTTP request through the map stream (C2N).
    ///
    /// # Errors
    /// When the node does not answer, or with nonsense.
    pub async fn c2n(&self, id: NodeId, request: &C2nQuestion) -> Result<C2nAnswer, AskError> {
        let payload = c2n_payload(request)?;
        let ask = |url| PingRequest {
            url,
            url_is_noise: true,
            log: true,
            types: "c2n".into(),
            payload: tailcfg::go::Bytes(payload),
            ..PingRequest::default()
        };
        parse_c2n(&self.ask(id, ask, C2N_TIMEOUT).await?)
    }

    async fn ask(
        &self,
        id: NodeId,
        request: impl FnOnce(String) -> PingRequest,
        limit: Duration,
    ) -> Result<Bytes, AskError> {
        let machine = self.state.read(|tailnet| tailnet.machine_of(id))?;
        let mut call = self.state.calls().begin(machine);
        let message = MapResponse {
            ping_request: Some(Box::new(request(call.url()))),
            ..MapResponse::default()
        };
        let json =
            tailcfg::go::to_vec(&message).map_err(|error| AskError::Invalid(error.to_string()))?;
        self.state.send_extra(id, json.into())?;
        match tokio::time::timeout(limit, &mut call.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(AskError::Silent),
        }
    }
}

impl From<Refused> for AskError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoSuchNode => Self::NoSuchNode,
            other => Self::Invalid(other.to_string()),
        }
    }
}

fn c2n_payload(request: &C2nQuestion) -> Result<Vec<u8>, AskError> {
    let method = match request.method.as_str() {
        "" => "GET",
        method => method,
    };
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain(method) || !is_plain(&request.path) || !request.path.starts_with('/') {
        return Err(AskError::Invalid(
            "the method is a word, and the path starts with `/`".into(),
        ));
    }
    let head = format!(
        "{method} {} HTTP/1.1\r\nHost: node\r\nContent-Length: {}\r\n\r\n",
        request.path,
        request.body.len()
    );
    Ok([head.as_bytes(), request.body.as_bytes()].concat())
}

fn parse_c2n(answer: &[u8]) -> Result<C2nAnswer, AskError> {
    let invalid = |why: String| AskError::Invalid(format!("the node's answer: {why}"));
    let (head, len) = Head::parse(answer)
        .map_err(|error| invalid(error.to_string()))?
        .ok_or_else(|| invalid("cut off".into()))?;
    let status = head.status().map_err(|error| invalid(error.to_string()))?;
    let body = answer.get(len..).unwrap_or_default();
    Ok(C2nAnswer {
        status,
        headers: head.headers,
        body: String::from_utf8_lossy(body).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_http() {
        let question = C2nQuestion {
            path: "/echo?x=1".into(),
            body: "hi".into(),
            ..C2nQuestion::default()
        };
        assert_eq!(
            c2n_payload(&question).unwrap(),
            b"GET /echo?x=1 HTTP/1.1\r\nHost: node\r\nContent-Length: 2\r\n\r\nhi"
        );
        for (method, path) in [("GET", "echo"), ("GE T", "/"), ("", "/a\r\nX: y"), ("", "")] {
            let question = C2nQuestion {
                method: method.into(),
                path: path.into(),
                ..C2nQuestion::default()
            };
            assert!(c2n_payload(&question).is_err(), "{method} {path}");
        }
        let answer = parse_c2n(b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\nbody").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (204, "body"));
        assert_eq!(answer.headers, [("A".to_owned(), "b".to_owned())]);
        for bad in [
            &b""[..],
            b"HTTP/1.1 200",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff\xff\r\n\r\n",
        ] {
            assert!(matches!(parse_c2n(bad), Err(AskError::Invalid(_))));
        }
    }
}
