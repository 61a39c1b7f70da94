use std::{
    fmt::Display,
    future::Future,
    io::Read,
    ops::Range,
    str::FromStr,
    sync::{Arc, mpsc::sync_channel},
};

use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload, path::Path};
use tasklog_log::{BlobInfo, Blobs, StoreError};
use tokio::runtime::{Builder, Runtime};

use super::check_name;
use crate::rejection::{Error, Rejection};

/// Variables of the environment that say how clouds are reached, and with which secrets.
const OPTION_PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];
/// Folders that are listed at most: blobs have few.
const FOLDERS_MAX: usize = 10_000;

/// Blobs in an object store.
///
/// `put` is one conditional request (create, and nothing if the name is taken), so a blob is whole or absent; what is put is
/// held in memory until it is. Durable is what the store calls so. Calls may come from any thread, in an async runtime or
/// not: a small runtime of its own does the work.
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    place: String,
    bridge: Bridge,
}

impl ObjectBlobs {
    /// Those under `prefix` in `store`. `place` is what it is called in messages, without secrets.
    ///
    /// # Errors
    /// `unavailable` if the system gives no thread.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, place: impl Into<String>) -> Result<Self, StoreError> {
        Ok(Self { store, prefix, place: place.into(), bridge: Bridge::start()? })
    }

    /// Those at a URL that `object_store` knows (`s3://bucket/folder`, `gs://…`, `az://…`, `https://…`). How it is reached,
    /// and with which secrets, stands in the environment: `AWS_…`, `AZURE_…`, `GOOGLE_…`.
    ///
    /// # Errors
    /// `invalid` for a URL that is none, has secrets in it, or is of a kind that this program was built without.
    pub fn open(url: &str) -> Result<Self, Error> {
        refuse_secrets(url)?;
        let options = std::env::vars().filter(|(name, _)| OPTION_PREFIXES.iter().any(|known| name.starts_with(known)));
        let options = options.map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, prefix) = object_store::parse_url_opts(&parsed(url)?, options).map_err(|error| {
            let hint = if cfg!(feature = "cloud") { "" } else { " (this program was built without the feature cloud)" };
            Rejection::invalid(format!("{url}: {}{hint}", without_queries(&error.to_string())))
        })?;
        Ok(Self::new(Arc::from(store), prefix, url)?)
    }

    fn at(&self, name: &str) -> Result<Path, StoreError> {
        check_name(name)?;
        Ok(name.split('/').fold(self.prefix.clone(), |path, part| path.join(part)))
    }

    fn failed(&self, doing: &str, error: &object_store::Error) -> StoreError {
        StoreError::unavailable_because(format!("{doing} at {}", self.place), Hidden(without_queries(&in_full(error))))
    }
}

/// What an object store says, without what may be a secret in it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Hidden(String);

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// A text without the queries of URLs in it, which may carry signatures and tokens.
fn without_queries(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('?') {
        kept.push_str(&rest[..=at]);
        let query = &rest[at + 1..];
        let end = query.find(|c: char| c.is_whitespace() || "\"')>".contains(c)).unwrap_or(query.len());
        if end > 0 {
            kept.push('…');
        }
        rest = &query[end..];
    }
    kept + rest
}

/// Secrets have no place in a URL that is stored, listed and printed.
fn refuse_secrets(url: &str) -> Result<(), Error> {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
    if url.contains('?') || (authority.contains('@') && authority.contains(':')) {
        let shown = url.split_once("://").map_or("the URL", |(scheme, _)| scheme);
        let why = format!(
            "a place of kind {shown} with a query or a password in it: secrets and options belong in the \
                           environment"
        );
        return Err(Rejection::invalid(why).into());
    }
    Ok(())
}

fn parsed<T: FromStr>(url: &str) -> Result<T, Error>
where
    T::Err: Display,
{
    url.parse().map_err(|error| Rejection::invalid(format!("{url:?} is no URL: {error}")).into())
}

impl Blobs for ObjectBlobs {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>, StoreError> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let within = folder.split('/').filter(|part| !part.is_empty());
        let within = within.fold(self.prefix.clone(), |path, part| path.join(part));
        let store = Arc::clone(&self.store);
        let listed = self.bridge.run(async move {
            let (mut folders, mut found) = (vec![within], Vec::new());
            let mut listed = 0;
            while let Some(folder) = folders.pop().filter(|_| listed < FOLDERS_MAX) {
                listed += 1;
                let at = (!folder.as_ref().is_empty()).then_some(&folder);
                let page = store.list_with_delimiter(at).await?;
                found.extend(page.objects);
                folders.extend(page.common_prefixes);
            }
            Ok::<_, object_store::Error>(found)
        })?;
        let listed = listed.map_err(|error| self.failed("listing", &error))?;
        let mut blobs: Vec<_> = listed
            .into_iter()
            .filter_map(|object| {
                let parts: Vec<_> =
                    object.location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
                Some(BlobInfo { name: parts.join("/"), bytes: object.size })
            })
            .filter(|blob| blob.name.starts_with(prefix) && check_name(&blob.name).is_ok())
            .collect();
        blobs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(blobs)
    }

    fn put(&self, name: &str, content: &mut dyn Read) -> Result<bool, StoreError> {
        let path = self.at(name)?;
        let mut bytes = Vec::new();
        let read = content.read_to_end(&mut bytes);
        read.map_err(|error| StoreError::unavailable_because(format!("reading what is to become {name}"), error))?;
        let store = Arc::clone(&self.store);
        let payload = PutPayload::from(bytes);
        let put = self.bridge.run(async move { store.put_opts(&path, payload, PutMode::Create.into()).await })?;
        match put {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.failed(&format!("writing {name}"), &error)),
        }
    }

    fn get(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.at(name)?;
        let store = Arc::clone(&self.store);
        let got = self.bridge.run(async move {
            if range.start < range.end {
                let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
                let read = match store.get_opts(&path, options).await {
                    Ok(found) => found.bytes().await,
                    Err(error) => Err(error),
                };
                match read {
                    Ok(bytes) => return Ok(bytes.to_vec()),
                    Err(error @ object_store::Error::NotFound { .. }) => return Err(error),
                    // A range that begins at the end or beyond it is an error to some.
                    Err(error) if store.head(&path).await?.size > range.start => return Err(error),
                    Err(_) => {}
                }
            }
            store.head(&path).await.map(|_| Vec::new())
        })?;
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&format!("reading {name}"), &error)),
        }
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.at(name)?;
        let store = Arc::clone(&self.store);
        match self.bridge.run(async move { store.delete(&path).await })? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(&format!("removing {name}"), &error)),
        }
    }
}

/// From threads into a runtime with one thread of its own.
struct Bridge(Option<Runtime>);

impl Bridge {
    fn start() -> Result<Self, StoreError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("tasklog-objects").enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::unavailable_because("starting a runtime", error))?;
        Ok(Self(Some(runtime)))
    }

    /// Waits for `work`, which this thread does not drive: it may belong to another runtime.
    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, StoreError> {
        let ended = || StoreError::unavailable("the runtime of an object store has ended");
        let (answer, answered) = sync_channel(1);
        self.0.as_ref().ok_or_else(ended)?.spawn(async move {
            // Whoever waited is still there: nothing but the answer ends its wait.
            let _ = answer.send(work.await);
        });
        answered.recv().map_err(|_| ended())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Waiting for it is not allowed inside another runtime, and nothing is under way.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_left_out_of_messages() {
        let text = "GET https://x.net/a?sv=1&sig=SECRET failed: \"https://y/?t=S\" (why?)";
        assert_eq!(without_queries(text), "GET https://x.net/a?… failed: \"https://y/?…\" (why?)");
    }

    #[test]
    fn a_url_with_secrets_is_refused_without_repeating_them() {
        for url in ["https://user:SECRET@host/a", "https://host/a?sig=SECRET"] {
            let error = ObjectBlobs::open(url).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("environment") && !error.contains("SECRET"), "{error}");
        }
    }
}
