//! `aiox audit verify`.

use aiox_model::{TenantId, Ts};
use aiox_store::audit::{self, AuditRow};
use aiox_testkit::Database;

use crate::process::{Place, within};

async fn verify(place: &Place) -> (bool, String) {
    let output = within(place.command(&["audit", "verify"], &[]).output()).await.unwrap();
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
