//! `tailscale debug localapi` and `local-creds`: the API as it is.

use futures_util::StreamExt as _;
use goflag::Parsed;
use http::Method;
use tokio::io::AsyncReadExt as _;

use crate::command::{Context, Error, default_socket};

/// `tailscale debug local-creds`.
pub(crate) fn credentials(context: &mut Context<'_>, _: &Parsed) -> Result<(), Error> {
    context.out(format!(
        "curl --unix-socket {} http://local-tailscaled.sock/localapi/v0/status\n",
        default_socket().display()
    ))
}

/// `tailscale debug localapi`.
pub(crate) async fn call(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let (method, rest) = match parsed.args() {
        [] => return Err("expected at least one argument".into()),
        [method] if is_method(method) => {
            return Err("expected at least one argument after method".into());
        }
        [method, rest @ ..] if is_method(method) => (method.as_str(), rest),
        rest => ("GET", rest),
    };
    let path = path(rest.first().map_or("", String::as_str));
    let body = match rest.get(1).map(String::as_str) {
        Some("-") => {
            context.err("# reading request body from stdin...\n");
            let mut body = Vec::new();
            let read = context.io.stdin.read_to_end(&mut body).await;
            read.map_err(|error| format!("reading Stdin: {error}"))?;
            body
        }
        Some(body) => body.as_bytes().to_vec(),
        None => Vec::new(),
    };
    let method: Method = method
        .parse()
        .map_err(|_| format!("net/http: invalid method {method}"))?;
    context.err(format!("# doing request {method} {path}\n"));
    let mut answer = context.open(method, &path, body).await?;
    let status = answer.status;
    if parsed.bool("v") {
        let mut head = format!("HTTP/1.1 {status}\r\n");
        for (name, value) in &answer.headers {
            head += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
        }
        context.out(head + "\r\n")?;
    } else if !status.is_success() {
        context.err(format!("# Response status {status}\n"));
    }
    while let Some(piece) = answer.body.next().await {
        context.out_bytes(&piece?)?;
    }
    if status.is_success() {
        Ok(())
    } else {
        Err(status.to_string().into())
    }
}

fn is_method(word: &str) -> bool {
    word.len() <= "OPTIONS".len() && word.chars().all(|c| c.is_ascii_uppercase())
}

/// The whole path: users leave out what all paths have in common.
fn path(path: &str) -> String {
    if path.starts_with("/localapi/") {
        path.to_owned()
    } else if path.contains('/') {
        format!("/localapi/{path}")
    } else {
        format!("/localapi/v0/{path}")
    }
}
