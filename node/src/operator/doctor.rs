//! `aiox doctor`: each check with a verdict and, where it fails, what to do.

use anyhow::{Result, bail};

use super::{
    process::{self, Status},
    prosody,
    site::{Mesh, Site},
    up::credentials,
};
use crate::{api::Api, say};

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
        readiness(&mut report, mesh, &site).await;
        peers(&mut report, mesh, &site).await;
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
                Err(error) => Err((error.to_string(), remedy())),
            },
        );
    }
}

async fn readiness(report: &mut Report, mesh: &Mesh, site: &Site) {
    let seen = async { Api::new(&site.url(), Some(&mesh.ca()), None)?.get("/health/ready").await }.await;
    let name = format!("{} readiness", site.name);
    let ready = match seen {
        Ok(ready) => ready,
        Err(error) => {
            report.check(&name, Err((format!("{error:#}"), format!("see: aiox logs {}", site.name))));
            return;
        }
    };
    for part in ["database", "workers", "xmpp", "peers"] {
        let state = ready["data"][part].as_str().unwrap_or("unknown").to_owned();
        let remedy = match part {
            "workers" => format!("see: aiox logs {} worker", site.name),
            "xmpp" => format!("see: aiox logs {} xmpp", site.name),
            "peers" => "see: aiox peer list".to_owned(),
            _ => format!("see: aiox logs {}", site.name),
        };
        let fine = state == "healthy" || state == "not configured";
        report.check(&format!("{} {part}", site.name), if fine { Ok(state) } else { Err((state, remedy)) });
    }
}

async fn peers(report: &mut Report, mesh: &Mesh, site: &Site) {
    let listed = async {
        let made = credentials(site)?;
        let api = Api::new(&site.url(), Some(&mesh.ca()), None)?.login(&made.admin.username, &made.admin.password).await?;
        api.get("/api/v1/admin/peers").await
    };
    let Ok(listed) = listed.await else { return };
    for peer in listed["data"].as_array().into_iter().flatten() {
        let domain = peer["domain"].as_str().unwrap_or_default();
        let state = peer["state"].as_str().unwrap_or_default();
        let waiting = peer["waiting"].as_u64().unwrap_or(0);
        let found = match (state, waiting) {
            ("active", 0) => Ok("active, nothing waits".to_owned()),
            ("active", _) => Err((format!("active, {waiting} envelopes wait"), format!("is {domain} up? see: aiox logs {}", site.name))),
            ("suspended", _) => Err(("suspended".into(), format!("aiox peer resume {domain} --hub {}", site.name))),
            _ => Err((state.to_owned(), format!("aiox peer show {domain} --hub {}", site.name))),
        };
        report.check(&format!("{} peer {domain}", site.name), found);
    }
}
