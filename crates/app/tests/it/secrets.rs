//! Prompts at rest.

use aiox_model::{AgentId, agent::AgentUpdate};
use aiox_testkit::{Database, World, WorldOptions, both_dbs, on_sqlite, within};
use serde_json::json;

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn on_disk(db: &Database, needle: &[u8]) -> bool {
    db.files().iter().any(|file| holds(&std::fs::read(file).unwrap(), needle))
}

#[test]
fn no_prompt_is_ever_in_clear_in_the_files() {
    on_sqlite(|db| async move {
        let world = World::on(db.clone()).await;
        let alice = world.user("alice").await;
        let long = "a secret sentence that fills pages ".repeat(1500);
        let prompts =
            ["\u{0}SECRET-WITH-NUL\u{0}", "'); DROP TABLE agents; --", "{\"json\": \"secret-json-value\"}", "тайна-ключ-🗝", long.as_str()];
        for prompt in prompts {
            let agent = world.agent_with(&alice, "visible-agent-name", json!({ "system_prompt": prompt })).await;
            assert_eq!(world.agents.get(&alice, AgentId(agent.id)).await.unwrap().profile.system_prompt, prompt);
            let change = AgentUpdate { system_prompt: Some(format!("changed {prompt}")), ..AgentUpdate::default() };
            world.agents.update(&alice, AgentId(agent.id), change).await.unwrap();
        }
        let visible = "visible-agent-name".as_bytes();
        assert!(on_disk(&db, visible), "the search finds what is stored in clear");
        for prompt in prompts {
            let piece = &prompt.as_bytes()[..prompt.len().min(30)];
            assert!(!on_disk(&db, piece), "{prompt:.40}");
        }
        world.store.close().await;
        assert!(on_disk(&db, visible));
        for prompt in prompts {
            assert!(!on_disk(&db, &prompt.as_bytes()[..prompt.len().min(30)]), "after the log was folded in: {prompt:.40}");
        }
    });
}

#[test]
fn no_password_key_or_token_is_in_clear_in_the_files() {
    on_sqlite(|db| async move {
        let world = World::on(db.clone()).await;
        let origin = aiox_app::accounts::Origin { address: None, trace: aiox_model::TraceId(world.fresh()) };
        let body = serde_json::from_value(json!({ "email": "alice@mail.example", "password": "correct horse battery" })).unwrap();
        let pair = world.accounts.register(body, origin).await.unwrap();
        let alice = world.caller("alice@hub-a.example").await;
        let key = serde_json::from_value(json!({ "name": "ci", "scopes": [] })).unwrap();
        let key = world.accounts.create_key(&alice, key).await.unwrap().secret.unwrap();
        assert!(on_disk(&db, b"alice@mail.example"));
        for secret in ["correct horse battery", &key, &key[9..], &pair.access_token, &pair.refresh_token, "stored_key"] {
            assert!(!on_disk(&db, secret.as_bytes()), "{secret:.12}");
        }
    });
}

both_dbs!(a_sealed_prompt_opens_only_where_it_belongs, |db| async move {
    let world = World::on(db.clone()).await;
    let alice = world.user("alice").await;
    let (one, two) = (world.agent(&alice, "one").await, world.agent(&alice, "two").await);
    db.execute("UPDATE agents SET prompt_sealed = (SELECT prompt_sealed FROM agents WHERE name = 'one') WHERE name = 'two'").await;
    world.agents.get(&alice, AgentId(one.id)).await.unwrap();
    let error = world.agents.get(&alice, AgentId(two.id)).await.map(drop).unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), ("internal_error", "stored data is damaged"));
    // A run of it fails without telling why, and nobody's worker sees a prompt.
    let run = world.submit(&alice, &two, "hello").await;
    let serve = world.serve("w1", 1);
    let ended = world.ended(run).await;
    assert_eq!(ended.error.unwrap().code, "internal_error");
    let (list, count) = world.agents.list(&alice, 10, 0).await.unwrap();
    assert_eq!((list.len(), count), (2, 2), "one damaged row does not hide the others");
    let good = world.submit(&alice, &one, "hello").await;
    assert_eq!(world.ended(good).await.output.as_deref(), Some("answer to hello"));
    serve.abort();
});

both_dbs!(a_wrong_master_key_breaks_clearly, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "one").await;
    let wrong = WorldOptions { master: [8; 32], ..WorldOptions::default() };
    let world = world.restart_with(wrong).await;
    let error = world.agents.get(&alice, AgentId(agent.id)).await.map(drop).unwrap_err();
    assert!(error.chain().contains("tenant_keys.sealed"), "{}", error.chain());
    let body = serde_json::from_value(json!({ "name": "x", "system_prompt": "x" })).unwrap();
    let error = world.agents.create(&alice, body).await.map(drop).unwrap_err();
    assert!(error.chain().contains("tenant_keys.sealed"), "nothing is sealed under a key that is not the hub's: {}", error.chain());
    let world = world.restart_with(WorldOptions::default()).await;
    assert_eq!(world.agents.get(&alice, AgentId(agent.id)).await.unwrap().profile.system_prompt, "Be kind.");
});

both_dbs!(keys_rotate_while_prompts_are_read, |db| async move {
    let world = World::on(db.clone()).await;
    let alice = world.user("alice").await;
    let mut agents = Vec::new();
    for index in 0..20 {
        agents.push(world.agent_with(&alice, "helper", json!({ "system_prompt": format!("prompt {index}") })).await);
    }
    let reading = async {
        for _ in 0..5 {
            for (index, agent) in agents.iter().enumerate() {
                let found = world.agents.get(&alice, AgentId(agent.id)).await.unwrap();
                assert_eq!(found.profile.system_prompt, format!("prompt {index}"));
            }
        }
    };
    let rotating = async {
        for _ in 0..3 {
            assert_eq!(world.vault.rotate(world.tenant).await.unwrap(), 20);
        }
    };
    within(async { tokio::join!(reading, rotating) }).await;
    assert_eq!(db.number("SELECT COUNT(*) FROM tenant_keys").await, 4);
    assert_eq!(db.number("SELECT COUNT(*) FROM tenant_keys WHERE retired_at IS NULL").await, 1);
    let world = world.restart().await;
    for (index, agent) in agents.iter().enumerate() {
        assert_eq!(world.agents.get(&alice, AgentId(agent.id)).await.unwrap().profile.system_prompt, format!("prompt {index}"));
    }
});
