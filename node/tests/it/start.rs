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
