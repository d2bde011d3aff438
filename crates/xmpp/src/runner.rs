//! The door as the composition root sees it.

use std::sync::Arc;

use aiox_app::HubNames;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    LinkState, OptionsError, UseCases, XmppOptions,
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

/// The XMPP door of a hub.
pub struct XmppDoor(Runner<UseCases>);

impl XmppDoor {
    /// Checks the options; connects nowhere yet.
    ///
    /// # Errors
    /// [`OptionsError`] for settings that can never work.
    pub fn new(options: XmppOptions, hub: UseCases) -> Result<Self, OptionsError> {
        let component = HubNames::new(&options.domain).agents_domain();
        Runner::new(options, &component, hub).map(Self)
    }

    /// Where the link stands, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.0.state()
    }

    /// Runs until `shutdown`, whatever the server does. After `shutdown` it lets stanzas in work finish, tells every contact that the
    /// agents leave and closes the stream: within 5 s or less.
    pub async fn run(self, shutdown: CancellationToken) {
        self.0.run(shutdown).await;
    }
}
