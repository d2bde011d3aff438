//! Agents whose circle of users may have become smaller.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use aiox_model::AgentId;
use tokio::sync::Notify;

/// Agents that wait for the reader. What comes beyond is dropped: the reader looks at all agents from time to time anyway.
const MAX_WAITING: usize = 4096;

/// What was noted and not read yet.
#[derive(Debug, Default)]
pub(crate) struct Narrowed {
    agents: Mutex<BTreeSet<AgentId>>,
    news: Notify,
}

impl Narrowed {
    /// Notes an agent.
    pub(crate) fn add(&self, agent: AgentId) {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() < MAX_WAITING {
            agents.insert(agent);
        }
        drop(agents);
        self.news.notify_one();
    }

    /// Waits until some were noted, and takes them. Cancel-safe: a dropped call takes nothing.
    pub(crate) async fn next(&self) -> Vec<AgentId> {
        loop {
            let noted = std::mem::take(&mut *self.agents.lock().unwrap_or_else(PoisonError::into_inner));
            if !noted.is_empty() {
                return noted.into_iter().collect();
            }
            self.news.notified().await;
        }
    }
}
