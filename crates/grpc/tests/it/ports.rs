//! The smallest queue and signals that a dispatcher can work with.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use aiox_core::Result;
use aiox_core::ports::{Events, Offers, Signal, SignalReader, Stranded, Waiting, WorkQueue};
use aiox_model::RunId;
use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};

/// First come, first served.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<VecDeque<Waiting>>,
    taken: Mutex<HashMap<RunId, Waiting>>,
    news: Notify,
}

#[async_trait]
impl WorkQueue for Queue {
    async fn offer(&self, waiting: Waiting) -> Result<()> {
        self.waiting.lock().unwrap().push_back(waiting);
        self.news.notify_waiters();
        Ok(())
    }

    async fn take(&self, offers: &Offers) -> Result<Waiting> {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            {
                let mut waiting = self.waiting.lock().unwrap();
                let fits = waiting.iter().position(|one| offers.fits(&one.needs));
                if let Some(one) = fits.and_then(|at| waiting.remove(at)) {
                    self.taken.lock().unwrap().insert(one.run, one.clone());
                    return Ok(one);
                }
            }
            news.await;
        }
    }

    async fn done(&self, run: RunId) -> Result<()> {
        self.taken.lock().unwrap().remove(&run);
        Ok(())
    }

    async fn give_back(&self, run: RunId) -> Result<()> {
        let one = self.taken.lock().unwrap().remove(&run);
        if let Some(one) = one {
            self.waiting.lock().unwrap().push_front(one);
            self.news.notify_waiters();
        }
        Ok(())
    }

    async fn remove(&self, run: RunId) -> Result<bool> {
        let mut waiting = self.waiting.lock().unwrap();
        let before = waiting.len();
        waiting.retain(|one| one.run != run);
        Ok(waiting.len() < before)
    }

    async fn depth(&self) -> usize {
        self.waiting.lock().unwrap().len()
    }

    async fn stranded(&self, workers: &[Offers]) -> Vec<Stranded> {
        let waiting = self.waiting.lock().unwrap();
        let lonely = waiting.iter().filter(|one| !workers.iter().any(|offers| offers.fits(&one.needs)));
        lonely.map(|one| Stranded { needs: one.needs.clone(), runs: vec![(one.run, one.patience)] }).collect()
    }
}

/// Every signal, to one reader for each run.
#[derive(Default)]
pub struct Signals(Mutex<HashMap<RunId, mpsc::UnboundedSender<Signal>>>);

struct Reader(mpsc::UnboundedReceiver<Signal>);

#[async_trait]
impl SignalReader for Reader {
    async fn next(&mut self) -> Option<Signal> {
        self.0.recv().await
    }
}

#[async_trait]
impl Events for Signals {
    async fn publish(&self, run: RunId, signal: Signal) {
        if let Some(reader) = self.0.lock().unwrap().get(&run) {
            let _ = reader.send(signal);
        }
    }

    async fn subscribe(&self, run: RunId) -> Box<dyn SignalReader> {
        let (into, out) = mpsc::unbounded_channel();
        self.0.lock().unwrap().insert(run, into);
        Box::new(Reader(out))
    }
}
