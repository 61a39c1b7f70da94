use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The orchestrator's pods.
pub(super) const PODS: [&str; 3] = ["pod-0", "pod-1", "pod-2"];
/// Indexes that clients write to.
pub(super) const INDEXES: [&str; 6] = ["products", "articles", "users", "reviews", "orders", "places"];
/// Nodes at the beginning of the day: groups 0 and 1, half of them each.
pub(super) const NODES: [&str; 6] = ["meili-0", "meili-1", "meili-2", "meili-3", "meili-4", "meili-5"];
/// Kinds of writes, as Meilisearch names them.
pub(super) const TASK_TYPES: [&str; 3] = ["documentAdditionOrUpdate", "documentDeletion", "documentEdition"];
/// Finished tasks and idempotency keys that are remembered, to come back to them.
const REMEMBERED_MAX: usize = 200;

/// An idempotency key that was recorded.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) key: String,
    pub(super) body: String,
    pub(super) task: String,
}

/// What the actors know of each other's doings.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Tasks so far.
    tasks: u64,
    /// The last task UID that each node gave out.
    pub(super) node_uids: BTreeMap<&'static str, u64>,
    /// Tasks that succeeded, newest last.
    pub(super) succeeded: VecDeque<String>,
    /// Keys that are live until tomorrow, newest last.
    pub(super) keys: VecDeque<Recorded>,
    /// Sessions that clients go on with.
    pub(super) sessions: Vec<String>,
    /// Nodes that take part in settings broadcasts.
    pub(super) nodes: Vec<&'static str>,
    /// Committed settings version by index.
    pub(super) settings: BTreeMap<&'static str, i64>,
    /// Indexes with a settings broadcast under way.
    pub(super) broadcasting: BTreeSet<&'static str>,
    /// Jobs that can be claimed, about.
    pub(super) queued: u64,
    /// Jobs that are to be split by whoever claims them.
    pub(super) parents: BTreeSet<String>,
    /// Jobs that have ended well.
    pub(super) completed: BTreeSet<String>,
    /// `(id, token)` of a claim that is no longer the current one.
    pub(super) lost_claim: Option<(String, i64)>,
    /// Version of each single alias.
    pub(super) aliases: BTreeMap<String, i64>,
    /// The live term of the lease `ilm`.
    pub(super) ilm_term: i64,
    /// Hash of the admin key in use.
    pub(super) admin_key: String,
    /// When an admin session was opened, in ms of the day, and its arguments.
    pub(super) admin_session: Option<(u64, serde_json::Value)>,
    /// Ids of the canaries, by their place in the list.
    pub(super) canaries: Vec<String>,
    /// Hashes of API keys that are mapped.
    pub(super) api_keys: Vec<String>,
    /// Rev of each search page.
    pub(super) pages: BTreeMap<&'static str, i64>,
    /// A cursor's present value.
    pub(super) cursors: BTreeMap<(&'static str, &'static str), i64>,
}

impl World {
    pub(super) fn succeeded(&mut self, task: &str) {
        remember(&mut self.succeeded, task.to_owned());
    }

    pub(super) fn recorded(&mut self, key: Recorded) {
        remember(&mut self.keys, key);
    }

    /// The id of a new task; `chance` makes it look like one that was not counted.
    pub(super) fn task_id(&mut self, chance: &str) -> String {
        self.tasks += 1;
        format!("mtask-{chance}{:05x}", self.tasks)
    }

    /// The next task UID of a node.
    pub(super) fn node_uid(&mut self, node: &'static str) -> u64 {
        let uid = self.node_uids.entry(node).or_insert(1_000);
        *uid += 1;
        *uid
    }
}

fn remember<T>(among: &mut VecDeque<T>, one: T) {
    if among.len() == REMEMBERED_MAX {
        among.pop_front();
    }
    among.push_back(one);
}
