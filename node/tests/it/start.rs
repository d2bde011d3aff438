//! A start that must not succeed.

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};

use crate::process::{Place, within};

/// Starts a hub that has to refuse; what it says.
async fn refused(place: &Place, settings: &[String]) -> String {
    let output = within(place.command(&["serve"], settings).stdout(Stdio::null()).stderr(Stdio::piped()).output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{settings:?}\n{said}");
    assert!(!said.contains("hub is up"), "{settings:?}\n{said}");
    said
}

fn set(key: &str, file: &Path) -> String {
    format!("{key}={}", file.display())
}

#[tokio::test]
async fn a_missing_or_unusable_key_file_stops_the_start_and_is_named() {
    let place = Place::new();
    let certs = place.file("certs");
    let create = ["certs", "create", "--domain", "hub-a.example", "--host", "localhost", "--dir"];
    let made = within(tokio::process::Command::new(env!("CARGO_BIN_EXE_aiox")).args(create).arg(&certs).output()).await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let (absent, empty) = (place.file("absent"), place.file("empty"));
    std::fs::write(&empty, "").unwrap();
    let (good_cert, good_key) = (certs.join("grpc.pem"), certs.join("grpc.key"));
    for section in ["grpc", "http"] {
        let (cert, key) = (format!("{section}.tls_cert"), format!("{section}.tls_key"));
        for (settings, named) in
            [([set(&cert, &absent), set(&key, &good_key)], &absent), ([set(&cert, &good_cert), set(&key, &absent)], &absent)]
        {
            let said = refused(&place, &settings).await;
            assert!(said.contains(&named.display().to_string()), "{settings:?}\n{said}");
        }
        let said = refused(&place, &[set(&cert, &empty), set(&key, &good_key)]).await;
        assert!(said.contains(section), "{said}");
    }
    let ca = [set("grpc.tls_cert", &good_cert), set("grpc.tls_key", &good_key), set("grpc.worker_ca", &absent)];
    assert!(refused(&place, &ca).await.contains(&absent.display().to_string()));
    for key in ["auth.access_secret_file", "auth.encryption_key_file"] {
        let said = refused(&place, &[set(key, &absent)]).await;
        assert!(said.contains(key.trim_end_matches("_file")) && said.contains(&absent.display().to_string()), "{said}");
    }

    // A key that others can read is as good as none.
    let open = place.file("open.key");
    std::fs::copy(&good_key, &open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(&place, &[set("grpc.tls_cert", &good_cert), set("grpc.tls_key", &open)]).await;
    assert!(said.contains(&open.display().to_string()), "{said}");
}

#[tokio::test]
async fn each_file_of_the_federation_is_needed_and_named() {
    let place = Place::new();
    let certs = place.file("certs");
    let create = ["certs", "create", "--domain", "hub-a.example", "--host", "localhost", "--dir"];
    let made = within(tokio::process::Command::new(env!("CARGO_BIN_EXE_aiox")).args(create).arg(&certs).output()).await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let settings = ["federation.enabled=true".to_owned(), "federation.port=0".to_owned(), set("federation.certs_dir", &certs)];
    for name in ["federation.pem", "federation.key", "token.key", "envelope.key", "domain-ca.pem"] {
        let (file, aside) = (certs.join(name), certs.join("aside"));
        std::fs::rename(&file, &aside).unwrap();
        let said = refused(&place, &settings).await;
        assert!(said.contains(&file.display().to_string()), "{name}\n{said}");
        std::fs::rename(&aside, &file).unwrap();
    }
}

#[tokio::test]
async fn an_audit_sink_that_cannot_be_written_stops_the_start_and_is_named() {
    let place = Place::new();
    let absent = place.file("absent").join("audit.jsonl");
    let said = refused(&place, &[format!("audit.sink=file:{}", absent.display())]).await;
    assert!(said.contains("audit.sink") && said.contains(&absent.display().to_string()), "{said}");
    let open = place.file("open.jsonl");
    std::fs::write(&open, "").unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(&place, &[format!("audit.sink=file:{}", open.display())]).await;
    assert!(said.contains("chmod 600"), "{said}");
    assert!(refused(&place, &["audit.sink=syslog".to_owned()]).await.contains("audit.sink"));
}

#[tokio::test]
async fn federation_files_of_their_own_settings_are_used_and_named() {
    let place = Place::new();
    let (certs, other) = (place.file("certs"), place.file("other"));
    for directory in [&certs, &other] {
        let create = ["certs", "create", "--domain", "hub-a.example", "--host", "localhost", "--dir"];
        let made = within(tokio::process::Command::new(env!("CARGO_BIN_EXE_aiox")).args(create).arg(directory).output()).await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let moved = |name: &str| {
        let file = place.file(name);
        std::fs::rename(certs.join(name), &file).unwrap();
        file
    };
    let (certificate, key, authority) = (moved("federation.pem"), moved("federation.key"), moved("domain-ca.pem"));
    let public = place.file("token.pub");
    let token = rcgen::KeyPair::from_pem(&std::fs::read_to_string(certs.join("token.key")).unwrap()).unwrap();
    std::fs::write(&public, token.public_key_pem()).unwrap();
    let on = ["federation.enabled=true".to_owned(), "federation.port=0".to_owned(), set("federation.certs_dir", &certs)];
    let given = [
        ("AGENTOS_FED_SERVER_CERT", &certificate),
        ("AGENTOS_FED_SERVER_KEY_FILE", &key),
        ("AGENTOS_FED_CA_CERT", &authority),
        ("AGENTOS_FED_CLIENT_CERT_FILE", &certificate),
        ("AGENTOS_FED_CLIENT_KEY", &key),
        ("AGENTOS_FED_JWT_PUBLIC_KEY", &public),
    ];
    let hub = place.serve_in(&on, given.map(|(name, file)| (name, file.display().to_string()))).await;
    hub.terminate();
    assert!(hub.ended().await.0.success());
    // The text itself does as well as its path.
    let texts = given.map(|(name, file)| (name.trim_end_matches("_FILE"), std::fs::read_to_string(file).unwrap()));
    let hub = place.serve_in(&on, texts).await;
    hub.terminate();
    assert!(hub.ended().await.0.success());

    let (absent, damaged) = (place.file("absent"), place.file("damaged"));
    std::fs::write(&damaged, "-----BEGIN NOTHING-----").unwrap();
    std::fs::set_permissions(&damaged, std::fs::Permissions::from_mode(0o600)).unwrap();
    let foreign = place.file("foreign.pub");
    std::fs::write(&foreign, rcgen::KeyPair::generate().unwrap().public_key_pem()).unwrap();
    let (other_key, other_leaf) = (other.join("federation.key"), other.join("federation.pem"));
    for (setting, file, beside) in [
        ("certificate", &absent, Some(("key", &key))),
        ("certificate", &damaged, Some(("key", &key))),
        ("key", &absent, Some(("certificate", &certificate))),
        ("key", &other_key, Some(("certificate", &certificate))),
        ("client_certificate", &absent, Some(("client_key", &key))),
        ("client_key", &damaged, Some(("client_certificate", &other_leaf))),
        ("ca_certificate", &absent, None),
        ("ca_certificate", &damaged, None),
    ] {
        let mut settings = vec![set(&format!("federation.{setting}"), file)];
        settings.extend(beside.map(|(name, file)| set(&format!("federation.{name}"), file)));
        // Also where nothing would use them.
        let said = refused(&place, &settings).await;
        assert!(said.contains(&format!("federation.{setting}")) && said.contains(&file.display().to_string()), "{settings:?}\n{said}");
    }
    let whole = [
        on.to_vec(),
        vec![set("federation.certificate", &certificate), set("federation.key", &key), set("federation.ca_certificate", &authority)],
    ]
    .concat();
    for file in [&absent, &damaged, &foreign] {
        let said = refused(&place, &[&whole[..], &[set("federation.token_public_key", file)]].concat()).await;
        assert!(said.contains("federation.token_public_key") && said.contains(&file.display().to_string()), "{said}");
    }
    let stranger = place.file("stranger");
    let create = ["certs", "create", "--domain", "hub-c.example", "--host", "localhost", "--dir"];
    let made = within(tokio::process::Command::new(env!("CARGO_BIN_EXE_aiox")).args(create).arg(&stranger).output()).await.unwrap();
    assert!(made.status.success());
    let client = [
        set("federation.client_certificate", &stranger.join("federation.pem")),
        set("federation.client_key", &stranger.join("federation.key")),
    ];
    let said = refused(&place, &[&whole[..], &client].concat()).await;
    assert!(said.contains("another node"), "{said}");
}
