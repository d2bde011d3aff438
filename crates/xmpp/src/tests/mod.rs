//! The door against a server and a hub of the test's own.

mod chat;
mod flood;
mod hostile;
mod hub;
mod link;
mod manners;
mod server;
mod wired;

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use xmpp_parsers::minidom::Element;

use crate::{LinkState, XmppOptions, runner::Runner};
use hub::World;
use server::{SECRET, Server};

/// A running door.
struct Running {
    state: watch::Receiver<LinkState>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn options(server: &Server) -> XmppOptions {
    let mut options = XmppOptions::new("hub-a.example", &server.address(), SECRET.to_owned().into());
    options.first_retry = std::time::Duration::from_millis(20);
    options.last_retry = std::time::Duration::from_millis(200);
    options
}

fn start(options: XmppOptions, world: &World) -> Running {
    let runner = Runner::new(options, "agents.hub-a.example", world.clone()).unwrap();
    let (state, shutdown) = (runner.state(), CancellationToken::new());
    let task = tokio::spawn(runner.run(shutdown.clone()));
    Running { state, shutdown, task }
}

fn attr<'a>(element: &'a Element, name: &'a str) -> &'a str {
    element.attr::<str>(name).unwrap_or_default()
}

fn body(element: &Element) -> String {
    element.get_child("body", crate::stanza::NS_COMPONENT).map(Element::text).unwrap_or_default()
}
