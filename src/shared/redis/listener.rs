use std::{sync::Arc, thread, time::Duration};

use redis::{Connection, RedisResult};
use tasklog_log::StoreError;

use super::{Connect, failed};
use crate::shared::{Revocation, revocation::Inbox};

/// How long a listener waits for a message before it looks whether anybody still listens, and whether the server lives.
const QUIET: Duration = Duration::from_secs(1);
/// How long a listener waits between two attempts to connect again.
const RECONNECT: Duration = Duration::from_millis(100);

/// Subscribes, and hears in a thread of its own until the inbox is closed. A lost connection is made again, and then the
/// inbox is told, since something may have been missed.
pub(super) fn listen(connect: Connect, channel: String, inbox: Arc<Inbox>) -> Result<(), StoreError> {
    let (told, subscribed) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        let ended = connect().and_then(|connection| {
            hear(connection, &channel, &inbox, || {
                let _ = told.send(Ok(()));
            })
        });
        if let Err(error) = ended {
            // Of no interest to anybody once the first subscription has succeeded.
            let _ = told.try_send(Err(error));
        }
        drop(told);
        while !inbox.is_closed() {
            let heard = connect()
                .and_then(|connection| hear(connection, &channel, &inbox, || inbox.put(Revocation::Reconnected)));
            if let Err(error) = heard {
                tracing::debug!(%error, "the revocation channel is lost; connecting again");
            }
            thread::sleep(RECONNECT);
        }
    };
    thread::Builder::new()
        .name("revocations".into())
        .spawn(run)
        .map_err(|e| StoreError::unavailable_because("start a thread for the revocation channel", e))?;
    match subscribed.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed("subscribe to the revocation channel", error)),
        Err(_) => Err(StoreError::unavailable("subscribe to the revocation channel: its thread ended")),
    }
}

/// Hears until the connection is lost, which is an error, or the inbox is closed.
fn hear(mut connection: Connection, channel: &str, inbox: &Inbox, subscribed: impl FnOnce()) -> RedisResult<()> {
    let mut pubsub = connection.as_pubsub();
    pubsub.set_read_timeout(Some(QUIET))?;
    pubsub.subscribe(channel)?;
    subscribed();
    while !inbox.is_closed() {
        match pubsub.get_message() {
            Ok(message) => inbox.put(Revocation::Session(message.get_payload()?)),
            Err(error) if error.is_timeout() => _ = pubsub.ping::<redis::Value>()?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
