//! `aiox doctor`: each check with a verdict and, where it fails, what to do.

use aiox_model::federation::PeerState;
use anyhow::{Result, bail};

use super::{
    process::{self, Status},
    prosody,
    site::{Mesh, Site},
    up::{self, credentials},
};
use crate::say;

struct Report {
    failed: usize,
}

impl Report {
    fn check(&mut self, name: &str, found: std::result::Result<String, (String, String)>) {
        match found {
            Ok(evidence) => say::done(&format!("{name}: {evidence}")),
            Err((evidence, remedy)) => {
                self.failed += 1;
                say::warn(&format!("{name}: {evidence}\n    → {remedy}"));
            }
        }
    }
}

/// Looks at everything and says what is wrong.
///
/// # Errors
/// When something is wrong, so that the exit code says it.
pub async fn doctor(mesh: &Mesh) -> Result<()> {
    let mut report = Report { failed: 0 };
    let xmpp = prosody::installed();
    report.check(
        "Prosody",
        if xmpp { Ok("installed".into()) } else { Err(("not installed; the XMPP door stays closed".into(), prosody::INSTALL.into())) },
    );
    for site in mesh.sites() {
        if !site.credentials_file().exists() {
            report.check(site.name, Err(("not set up".into(), "run: aiox up".into())));
            continue;
        }
        certificates(&mut report, &site);
        for part in ["hub", "worker"] {
            let name = format!("{} {part}", site.name);
            report.check(
                &name,
                match process::status(&site.pid(part))? {
                    Status::Running(pid) => Ok(format!("process {pid}")),
                    Status::Stopped => Err(("stopped".into(), format!("run: aiox up   (why it stopped: aiox logs {} {part})", site.name))),
                },
            );
        }
        // A hub that does not answer has been reported; asking it again would say the same.
        if readiness(&mut report, mesh, &site).await {
            peers(&mut report, mesh, &site).await;
        }
    }
    if report.failed > 0 { bail!("{} check(s) failed", report.failed) } else { Ok(()) }
}

fn certificates(report: &mut Report, site: &Site) {
    use aiox_core::ports::Clock as _;
    let now = aiox_crypto::system::SystemClock.now().seconds();
    for leaf in ["federation", "xmpp", "http", "grpc"] {
        let (certificate, key) = site.certs().leaf(leaf);
        let name = format!("{} certificate {leaf}", site.name);
        let remedy = || format!("make it anew: aiox down, remove {}, aiox up", site.certs_dir().display());
        let found = aiox_certs::load_pair(leaf, &certificate, &key).and_then(|_| aiox_certs::inspect_file(leaf, &certificate));
        report.check(
            &name,
            match found {
                Ok(infos) => {
                    let days = infos.first().map_or(0, |info| (info.not_after - now) / 86_400);
                    if days > 0 { Ok(format!("valid for {days} days")) } else { Err(("expired".into(), remedy())) }
                }
                Err(error) => Err((format!("{:#}", anyhow::Error::from(error)), remedy())),
            },
        );
    }
}

/// Whether the hub answers at all.
async fn readiness(report: &mut Report, mesh: &Mesh, site: &Site) -> bool {
    let seen = async { anyhow::Ok(up::trusting(&site.url(), Some(&mesh.ca()))?.health().await?) }.await;
    let name = format!("{} readiness", site.name);
    let ready = match seen {
        Ok(ready) => ready,
        Err(error) => {
            report.check(&name, Err((format!("{error:#}"), format!("see: aiox logs {}", site.name))));
            return false;
        }
    };
    for part in ["database", "workers", "xmpp", "peers"] {
        let state = ready.part(part).unwrap_or("unknown").to_owned();
        let remedy = match part {
            "workers" => format!("see: aiox logs {} worker", site.name),
            "xmpp" => format!("see: aiox logs {} xmpp", site.name),
            "peers" => "see: aiox peer list".to_owned(),
            _ => format!("see: aiox logs {}", site.name),
        };
        let fine = state == "healthy" || state == "not configured";
        report.check(&format!("{} {part}", site.name), if fine { Ok(state) } else { Err((state, remedy)) });
    }
    true
}

async fn peers(report: &mut Report, mesh: &Mesh, site: &Site) {
    let listed = async { anyhow::Ok(up::signed_in(mesh, site, &credentials(site)?.admin).await?.peers().await?) };
    let name = format!("{} peer", site.name);
    let listed = match listed.await {
        Ok(listed) => listed,
        Err(error) => {
            report.check(&format!("{name}s"), Err((format!("{error:#}"), format!("see: aiox logs {}", site.name))));
            return;
        }
    };
    for peer in listed {
        let domain = &peer.record.domain;
        let found = match (peer.record.state, peer.waiting) {
            (PeerState::Active, 0) => Ok("active, nothing waits".to_owned()),
            (PeerState::Active, waiting) => {
                Err((format!("active, {waiting} envelopes wait"), format!("is {domain} up? see: aiox logs {}", site.name)))
            }
            (PeerState::Suspended, _) => Err(("suspended".into(), format!("aiox peer resume {domain} --hub {}", site.name))),
            _ => Err((peer.state().to_owned(), format!("aiox peer show {domain} --hub {}", site.name))),
        };
        report.check(&format!("{name} {domain}"), found);
    }
}
