//! The door as the composition root sees it.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    LinkState, OptionsError, XmppOptions,
    door::Door,
    hub::Hub,
    link::{self, LinkOptions},
};

/// A door that is ready to run.
pub(crate) struct Runner<H> {
    link: Arc<LinkOptions>,
    options: XmppOptions,
    hub: H,
    state: watch::Sender<LinkState>,
}

impl<H: Hub> Runner<H> {
    pub(crate) fn new(options: XmppOptions, component: &str, hub: H) -> Result<Self, OptionsError> {
        let link = Arc::new(options.link(component)?);
        let state = watch::Sender::new(LinkState::Down { reason: "not started".to_owned() });
        Ok(Self { link, options, hub, state })
    }

    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let (domain, server) = (self.link.domain.clone(), self.link.server_domain.clone());
        let door = Door::new(self.hub, domain, server, self.options.max_concurrent_stanzas, self.options.brakes, shutdown.clone());
        link::supervise(self.link, self.state, shutdown, |session| Arc::clone(&door).serve(session)).await;
    }
}
