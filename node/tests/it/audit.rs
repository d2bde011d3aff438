//! `aiox audit verify`.

use std::{collections::BTreeSet, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use aiox_model::{TenantId, Ts};
use aiox_store::audit::{self, AuditRow};
use aiox_testkit::Database;
use serde_json::Value;

use crate::process::{HubProcess, Place, within};

async fn verify(place: &Place) -> (bool, String) {
    verify_with(place, &[]).await
}

async fn verify_with(place: &Place, words: &[&str]) -> (bool, String) {
    let words: Vec<&str> = ["audit", "verify"].into_iter().chain(words.iter().copied()).collect();
    let output = within(place.command(&words, &[]).output()).await.unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test]
async fn the_audit_log_of_a_running_hub_is_verified() {
    let place = Place::new();
    let hub = place.serve().await;
    place.user().await;
    let (whole, said) = verify(&place).await;
    assert!(whole && said.contains("tnt_demo: 2 records, head ") && said.contains("as it was written"), "{said}");
    hub.terminate();
    assert!(hub.ended().await.0.success());
}

#[tokio::test]
async fn a_record_that_was_changed_is_named() {
    let id = |number: u8| format!("00000000-0000-0000-0000-00000000000{number}").parse::<TenantId>().unwrap();
    let (place, database, tenant) = (Place::new(), Database::sqlite(), id(7));
    let store = database.open().await;
    let mut tx = store.begin().await.unwrap();
    for number in 0..3 {
        let record = AuditRow {
            id: id(number).uuid(),
            tenant: tenant.uuid(),
            owner: None,
            actor: "user:x".into(),
            action: "tenants.update".into(),
            outcome: "allowed".into(),
            severity: "info".into(),
            resource_type: None,
            resource_id: None,
            detail: None,
            address: None,
            trace: "t".into(),
            at: Ts::from_micros(1),
        };
        audit::insert(&mut tx, &record).await.unwrap();
    }
    tx.commit().await.unwrap();
    store.close().await;
    database.execute("UPDATE audit SET outcome = 'denied' WHERE seq = 2").await;
    std::fs::create_dir_all(place.file("data")).unwrap();
    // A copy of the database's own making: its files come and go while connections close.
    database.execute(&format!("VACUUM INTO '{}'", place.file("data").join("aiox.sqlite").display())).await;
    let (whole, said) = verify(&place).await;
    assert!(!whole && said.contains(&format!("{tenant}: record 2 was changed")), "{said}");
}

/// Waits until a file has a line of this action; all its lines.
async fn told(file: &Path, action: &str) -> Vec<Value> {
    within(async {
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if lines.iter().any(|line| line["action"] == action) {
                return lines;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn killed(hub: HubProcess) {
    hub.kill();
    let _ = hub.ended().await;
}

#[tokio::test]
async fn every_record_is_a_line_of_the_sink_in_the_order_of_its_chain_also_after_a_kill() {
    let place = Place::new();
    let file = place.file("audit.jsonl");
    let settings = [format!("audit.sink=file:{}", file.display())];
    let hub = place.serve_with(&settings).await;
    place.user().await;
    let before = told(&file, "account.registered").await;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(before.iter().all(|line| line["outcome"] == "allowed" && line["hash"].is_string() && line["tenant_id"].is_string()));
    killed(hub).await;
    // A half of a line, as a hub leaves it that is killed in mid write.
    let mut left = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    left.write_all(b"{\"time\":\"20").unwrap();

    let hub = place.serve_with(&settings).await;
    for _ in 0..2 {
        place.client().signed_in("alice@mail.example", "correct horse").await.unwrap();
    }
    told(&file, "auth.login").await;
    // What is left is written before the end.
    hub.terminate();
    assert!(hub.ended().await.0.success());
    let lines = told(&file, "auth.login").await;
    for tenant in lines.iter().map(|line| &line["tenant_id"]).collect::<Vec<_>>() {
        let mut numbers: Vec<u64> =
            lines.iter().filter(|line| line["tenant_id"] == *tenant).map(|line| line["seq"].as_u64().unwrap()).collect();
        assert!(numbers.is_sorted());
        numbers.dedup();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no record is missing");
    }
    let path = file.display().to_string();
    let (whole, said) = verify_with(&place, &["--file", &path]).await;
    assert!(whole && said.contains(&format!("each of the {} lines", lines.len())), "{said}");
    let records = |said: &str| {
        let count = |line: &str| line.split_once(" records, head")?.0.rsplit(' ').next()?.parse::<u64>().ok();
        said.lines().filter_map(count).sum::<u64>()
    };
    let numbers: BTreeSet<(String, u64)> =
        lines.iter().map(|line| (line["tenant_id"].to_string(), line["seq"].as_u64().unwrap())).collect();
    assert_eq!(records(&said), numbers.len() as u64, "every record is there\n{said}");

    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"allowed\"", "\"denied\"", 1)).unwrap();
    let (whole, said) = verify_with(&place, &["--file", &path]).await;
    assert!(!whole && said.contains("line 1 is not record 1"), "{said}");
    std::fs::write(&file, text.lines().filter(|line| !line.contains("\"seq\":2,")).map(|line| format!("{line}\n")).collect::<String>())
        .unwrap();
    let (whole, said) = verify_with(&place, &["--file", &path]).await;
    assert!(!whole && said.contains("record 2 of") && said.contains("is missing"), "{said}");
}
