//! Questions to nodes: they travel in the map stream, and the answer comes as a request of the node.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use keys::MachinePublic;
use rand_core::Rng as _;
use tokio::sync::oneshot;

/// Where answers go; the token is the last part.
pub(crate) const ANSWER_PATH: &str = "/machine/answer/";

/// The questions whose answers are awaited.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    waiting: Mutex<HashMap<String, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    machine: MachinePublic,
    answer: oneshot::Sender<Bytes>,
}

/// One question; it is forgotten when this is dropped.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    calls: &'a Calls,
    token: String,
    pub(crate) answer: oneshot::Receiver<Bytes>,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Awaits an answer of this machine.
    pub(crate) fn begin(&self, machine: MachinePublic) -> Call<'_> {
        let mut random = [0; 16];
        rt::OsRng.fill_bytes(&mut random);
        let mut token = String::new();
        keys::encode_hex(&random, &mut token);
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting {
            machine,
            answer: sender,
        };
        self.lock().insert(token.clone(), waiting);
        Call {
            calls: self,
            token,
            answer,
        }
    }

    /// Takes an answer; false if nobody waits for it, or waits for it from another machine.
    pub(crate) fn finish(&self, token: &str, machine: &MachinePublic, body: Bytes) -> bool {
        let mut waiting = self.lock();
        if waiting
            .get(token)
            .is_none_or(|call| call.machine != *machine)
        {
            return false;
        }
        let call = waiting.remove(token);
        // Whoever asked may have given up in this moment.
        call.is_some_and(|call| call.answer.send(body).is_ok())
    }
}

impl Call<'_> {
    /// Where the node sends the answer. It goes through the Noise transport, which looks at the path alone.
    pub(crate) fn url(&self) -> String {
        format!("https://control{ANSWER_PATH}{}", self.token)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_machine_that_was_asked_answers_and_only_once() {
        let calls = Calls::default();
        let (asked, other) = (
            MachinePublic::from_bytes([1; 32]),
            MachinePublic::from_bytes([2; 32]),
        );
        let mut call = calls.begin(asked);
        let token = call.url().rsplit('/').next().unwrap().to_owned();
        assert!(!calls.finish("x", &asked, Bytes::new()));
        assert!(!calls.finish(&token, &other, Bytes::from("lie")));
        assert!(calls.finish(&token, &asked, Bytes::from("truth")));
        assert!(!calls.finish(&token, &asked, Bytes::from("again")));
        assert_eq!((&mut call.answer).await.unwrap(), "truth");
        let given_up = calls.begin(asked);
        let token = given_up.url().rsplit('/').next().unwrap().to_owned();
        drop(given_up);
        assert!(!calls.finish(&token, &asked, Bytes::new()));
        assert!(calls.lock().is_empty());
    }
}
