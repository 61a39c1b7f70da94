use std::{
    thread,
    time::{Duration, Instant},
};

use crate::RedisServer;

/// How many nodes share the slots.
const NODES: usize = 3;
/// The slots of every Redis Cluster.
const SLOTS: usize = 16_384;
/// How long the nodes may take to agree.
const AGREEING_MAX: Duration = Duration::from_secs(60);

/// A Redis Cluster of three masters without replicas, each with a third of the slots.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes, makes them known to each other, and waits until all of them agree on who has which slot.
    #[must_use]
    pub fn start() -> Self {
        let nodes: Vec<_> = (0..NODES).map(|_| RedisServer::start_with(&[("cluster-enabled", "yes")])).collect();
        for (index, node) in nodes.iter().enumerate() {
            let (from, to) = (SLOTS * index / NODES, SLOTS * (index + 1) / NODES - 1);
            node.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
            nodes[0].run::<()>(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]);
        }
        let began = Instant::now();
        while !nodes.iter().all(agrees) {
            assert!(began.elapsed() < AGREEING_MAX, "the cluster does not come up: {}", nodes[0].log());
            thread::sleep(Duration::from_millis(20));
        }
        Self { nodes }
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The node that has the slot of `key`.
    #[must_use]
    pub fn owner(&self, key: &str) -> &RedisServer {
        let slot: usize = self.nodes[0].run(&["CLUSTER", "KEYSLOT", key]);
        &self.nodes[(0..NODES).find(|index| slot < SLOTS * (index + 1) / NODES).expect("a slot of the cluster")]
    }
}

fn agrees(node: &RedisServer) -> bool {
    let info: String = node.run(&["CLUSTER", "INFO"]);
    info.contains("cluster_state:ok") && info.contains(&format!("cluster_size:{NODES}"))
}
