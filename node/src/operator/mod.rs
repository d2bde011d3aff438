//! What `aiox up` runs beside a hub: the private XMPP server, the DNS responder that lets two such
//! servers find each other, and the supervision of the processes.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod accounts;
mod demo;
pub mod dns;
pub mod doctor;
pub mod ejabberd;
pub mod ejabberd_sessions;
mod ports;
pub mod process;
pub mod prosody;
pub mod server;
mod service_user;
pub mod site;
pub mod status;
pub mod up;
pub mod verify;
