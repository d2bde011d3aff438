//! Tenants, keys, audit, conversations, allowances, peers.

use aiox_core::quota::Limits;
use aiox_store::{
    Accepted, Exhausted, Journal,
    audit::{self, AuditRow, Filter},
    conformance, conversations,
    ingested::{self, IngestedRow},
    keys,
    keys::SealedKey,
    peers::{self, PeerRow},
    quotas::{self, Settle, Take},
    tenants,
};
use aiox_testkit::both_dbs;

use crate::make::{NOW, accept, advance, at, audit_row, ending, id};

both_dbs!(tenants_are_made_once, |db| async move {
    let store = db.open().await;
    let mut tx = store.begin().await.unwrap();
    let first = tenants::ensure(&mut tx, id(), "default", NOW).await.unwrap();
    assert_eq!(tenants::ensure(&mut tx, id(), "default", NOW).await.unwrap(), first);
    tx.commit().await.unwrap();
    let mut reader = store.read().await.unwrap();
    assert_eq!(tenants::by_name(&mut reader, "default").await.unwrap(), Some(first));
    assert_eq!(tenants::by_name(&mut reader, "nobody").await.unwrap(), None);
});

both_dbs!(data_keys_rotate, |db| async move {
    let store = db.open().await;
    let mut tx = store.begin().await.unwrap();
    let tenant = tenants::ensure(&mut tx, id(), "default", NOW).await.unwrap();
    let (old, new) = (id(), id());
    keys::insert(&mut tx, &SealedKey { id: old, tenant_id: tenant, sealed: vec![1] }, NOW).await.unwrap();
    assert_eq!(keys::current(&mut tx, tenant).await.unwrap().unwrap().id, old);
    keys::insert(&mut tx, &SealedKey { id: new, tenant_id: tenant, sealed: vec![2] }, at(1)).await.unwrap();
    assert_eq!(keys::retire_others(&mut tx, tenant, new, at(1)).await.unwrap(), 1);
    assert_eq!(keys::retire_others(&mut tx, tenant, new, at(1)).await.unwrap(), 0);
    tx.commit().await.unwrap();
    let mut reader = store.read().await.unwrap();
    assert_eq!(keys::current(&mut reader, tenant).await.unwrap().unwrap().sealed, vec![2]);
    assert_eq!(keys::by_id(&mut reader, old).await.unwrap().unwrap().sealed, vec![1]);
    assert!(keys::by_id(&mut reader, id()).await.unwrap().is_none());
    assert_eq!(keys::tenants(&mut reader).await.unwrap(), vec![tenant]);
});

both_dbs!(audit_records_are_found_by_every_member_of_the_filter, |db| async move {
    let store = db.open().await;
    let owner = id();
    let full = AuditRow {
        owner: Some(owner),
        severity: "warn".into(),
        resource_type: Some("agent".into()),
        resource_id: Some("a1".into()),
        detail: Some("why".into()),
        address: Some("192.0.2.1".into()),
        ..audit_row(at(5), "agent.created")
    };
    let mut tx = store.begin().await.unwrap();
    audit::insert(&mut tx, &full).await.unwrap();
    audit::insert(&mut tx, &audit_row(at(7), "auth.login")).await.unwrap();
    tx.commit().await.unwrap();
    let mut reader = store.read().await.unwrap();
    for filter in [
        Filter { owner: Some(owner), ..Filter::default() },
        Filter { resource: Some("a1".into()), ..Filter::default() },
        Filter { action: Some("agent.created".into()), ..Filter::default() },
        Filter { severity: Some("warn".into()), ..Filter::default() },
        Filter { from: Some(at(5)), to: Some(at(7)), ..Filter::default() },
    ] {
        let (found, count) = audit::list(&mut reader, &filter, 10, 0).await.unwrap();
        assert_eq!((found.len(), count), (1, 1), "{filter:?}");
        assert_eq!((found[0].id, found[0].owner, found[0].at), (full.id, full.owner, full.at));
        assert_eq!((&found[0].address, &found[0].detail), (&full.address, &full.detail));
    }
    let (page, count) = audit::list(&mut reader, &Filter::default(), 1, 1).await.unwrap();
    assert_eq!((page[0].id, count), (full.id, 2), "newest first");
});

both_dbs!(conversations_and_messages, |db| async move {
    let store = db.open().await;
    let (journal, task) = Journal::new(store.clone());
    let task = tokio::spawn(task);
    let first = accept("user:a");
    let talk = first.conversation;
    assert_eq!(journal.accept(first.clone()).await.unwrap(), Accepted::New);
    let mut end = advance(first.run, "run.completed");
    end.ending = Some(ending("hi"));
    journal.advance(end).await.unwrap();
    let mut second = accept("user:a");
    (second.conversation, second.at) = (talk, at(10));
    journal.accept(second.clone()).await.unwrap();
    let mut reader = store.read().await.unwrap();
    let found = conversations::of_principal(&mut reader, talk, "user:a").await.unwrap().unwrap();
    assert_eq!((found.created_at, found.updated_at), (NOW, at(10)));
    assert!(conversations::of_principal(&mut reader, talk, "user:b").await.unwrap().is_none());
    let (list, count) = conversations::list(&mut reader, "user:a", None, 10, 0).await.unwrap();
    assert_eq!((list.len(), count), (1, 1));
    let other = Some("agent-y@agents.hub-a.example");
    assert_eq!(conversations::list(&mut reader, "user:a", other, 10, 0).await.unwrap().1, 0);
    assert_eq!(conversations::list(&mut reader, "user:a", Some(&first.agent_jid), 10, 0).await.unwrap().1, 1);
    let (messages, count) = conversations::messages(&mut reader, talk, 10, 0).await.unwrap();
    let said: Vec<_> = messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
    assert_eq!((said, count), (vec![("user", "hello"), ("assistant", "hi"), ("user", "hello")], 3));
    assert_eq!(conversations::messages(&mut reader, talk, 1, 1).await.unwrap().0[0].role, "assistant");
    let latest = conversations::latest(&mut reader, talk, second.run, at(-100), 10).await.unwrap();
    assert_eq!(latest.iter().map(|message| message.role.as_str()).collect::<Vec<_>>(), ["user", "assistant"]);
    assert_eq!(conversations::latest(&mut reader, talk, second.run, at(1), 10).await.unwrap().len(), 1, "not older than");
    assert_eq!(conversations::latest(&mut reader, talk, second.run, at(-100), 1).await.unwrap()[0].role, "assistant");
    task.abort();
});

both_dbs!(an_allowance_says_which_part_of_it_is_used_up, |db| async move {
    let store = db.open().await;
    let limits = Limits { tokens_day: 100, tokens_minute: 60, requests_day: 4 };
    let take = |at, tokens| Take { principal: "user:a", at, tokens, limits };
    let mut tx = store.begin().await.unwrap();
    assert_eq!(quotas::take(&mut tx, &take(NOW, 61)).await.unwrap(), Err(Exhausted::TokensMinute));
    assert_eq!(quotas::take(&mut tx, &take(NOW, 101)).await.unwrap(), Err(Exhausted::TokensDay));
    assert_eq!(quotas::take(&mut tx, &take(NOW, 50)).await.unwrap(), Ok(()));
    assert_eq!(quotas::take(&mut tx, &take(NOW, 20)).await.unwrap(), Err(Exhausted::TokensMinute));
    assert_eq!(quotas::used(&mut tx, "user:a", NOW).await.unwrap(), (50, 1, 50), "a refusal takes nothing");
    assert_eq!(quotas::take(&mut tx, &take(at(60), 51)).await.unwrap(), Err(Exhausted::TokensDay));
    assert_eq!(quotas::used(&mut tx, "user:a", at(60)).await.unwrap(), (50, 1, 0));
    let settle = Settle { principal: "user:a", accepted_at: NOW, reserved: 50, used: 5 };
    quotas::settle(&mut tx, &settle).await.unwrap();
    assert_eq!(quotas::used(&mut tx, "user:a", NOW).await.unwrap(), (5, 1, 5));
    for minute in 1..4 {
        assert_eq!(quotas::take(&mut tx, &take(at(60 * minute), 1)).await.unwrap(), Ok(()));
    }
    assert_eq!(quotas::take(&mut tx, &take(at(240), 1)).await.unwrap(), Err(Exhausted::RequestsDay));
    assert_eq!(quotas::used(&mut tx, "user:a", at(240)).await.unwrap(), (8, 4, 0));
    assert_eq!(quotas::take(&mut tx, &take(at(86_400), 50)).await.unwrap(), Ok(()), "a new day");
    assert_eq!(quotas::used(&mut tx, "user:b", NOW).await.unwrap(), (0, 0, 0));
    let nothing = Limits { requests_day: 0, ..limits };
    let none = Take { principal: "user:c", at: NOW, tokens: 1, limits: nothing };
    assert_eq!(quotas::take(&mut tx, &none).await.unwrap(), Err(Exhausted::RequestsDay));
    tx.commit().await.unwrap();
});

both_dbs!(what_is_taken_together_is_taken_as_if_one_after_the_other, |db| async move {
    let store = db.open().await;
    let limits = Limits { tokens_day: 100, tokens_minute: 60, requests_day: 5 };
    let take = |principal, at, tokens| Take { principal, at, tokens, limits };
    let (mine, yours) = ("user:a", "user:b");
    let mut tx = store.begin().await.unwrap();
    let all = [
        take(mine, NOW, 20),
        take(yours, NOW, 61),
        take(mine, NOW, 20),
        take(mine, NOW, 21),
        take(mine, at(60), 10),
        take(mine, NOW, 20),
        take(yours, NOW, 60),
        Take { limits: Limits { requests_day: 0, ..limits }, ..take("user:c", NOW, 1) },
    ];
    let taken = quotas::take_all(&mut tx, &all).await.unwrap();
    let (fits, minute) = (Ok(()), Err(Exhausted::TokensMinute));
    assert_eq!(taken, [fits, minute, fits, minute, fits, fits, fits, Err(Exhausted::RequestsDay)]);
    assert_eq!(quotas::used(&mut tx, mine, NOW).await.unwrap(), (70, 4, 60));
    assert_eq!(quotas::used(&mut tx, yours, NOW).await.unwrap(), (60, 1, 60));
    assert_eq!(quotas::used(&mut tx, "user:c", NOW).await.unwrap(), (0, 0, 0));
    let settle = |principal, reserved, used| Settle { principal, accepted_at: NOW, reserved, used };
    quotas::settle_all(&mut tx, &[settle(mine, 20, 1), settle(yours, 60, 70), settle(mine, 20, 2), settle(mine, 20, 20)]).await.unwrap();
    assert_eq!(quotas::used(&mut tx, mine, NOW).await.unwrap(), (33, 4, 23));
    assert_eq!(quotas::used(&mut tx, yours, NOW).await.unwrap(), (70, 1, 70));
});

both_dbs!(peers_and_their_agents, |db| async move {
    let store = db.open().await;
    let peer = PeerRow {
        domain: "hub-b.example".into(),
        state: "active".into(),
        fingerprint: "f".into(),
        url: "https://hub-b.example".into(),
        node_id: "spiffe://hub-b.example/node/n1".into(),
        sequence: 4,
        document: "{}".into(),
        record: "{}".into(),
        created_at: NOW,
        updated_at: NOW,
    };
    let mut tx = store.begin().await.unwrap();
    peers::put(&mut tx, &peer).await.unwrap();
    peers::put(&mut tx, &PeerRow { sequence: 5, created_at: at(9), updated_at: at(9), ..peer.clone() }).await.unwrap();
    let suspended = PeerRow { domain: "hub-c.example".into(), state: "suspended".into(), ..peer.clone() };
    peers::put(&mut tx, &suspended).await.unwrap();
    let card = |jid: &str, handle: Option<&str>| (jid.to_owned(), handle.map(str::to_owned), "{\"x\":1}".to_owned());
    peers::replace_agents(&mut tx, "hub-b.example", &[card("old@agents.hub-b.example", None)], NOW).await.unwrap();
    let news = [card("b@agents.hub-b.example", Some("helper")), card("a@agents.hub-b.example", None)];
    peers::replace_agents(&mut tx, "hub-b.example", &news, NOW).await.unwrap();
    peers::replace_agents(&mut tx, "hub-c.example", &[card("c@agents.hub-c.example", None)], NOW).await.unwrap();
    tx.commit().await.unwrap();
    let mut reader = store.read().await.unwrap();
    let found = peers::by_domain(&mut reader, "hub-b.example").await.unwrap().unwrap();
    assert_eq!((found.sequence, found.created_at, found.updated_at), (5, NOW, at(9)));
    assert!(peers::by_domain(&mut reader, "hub-z.example").await.unwrap().is_none());
    assert_eq!(peers::all(&mut reader).await.unwrap().len(), 2);
    assert_eq!(peers::active_domains(&mut reader).await.unwrap(), ["hub-b.example"]);
    assert_eq!(peers::agents(&mut reader, 10).await.unwrap().len(), 2, "agents of suspended peers do not show");
    let by_handle = peers::agent(&mut reader, "hub-b.example", "helper@agents.hub-b.example", "helper").await.unwrap();
    assert_eq!(by_handle.unwrap().0, "b@agents.hub-b.example");
    assert!(peers::agent(&mut reader, "hub-b.example", "old@agents.hub-b.example", "old").await.unwrap().is_none());
    drop(reader);
    let mut tx = store.begin().await.unwrap();
    for (domain, when) in [("hub-b.example", 5), ("hub-b.example", 3), ("hub-z.example", 5)] {
        peers::saw(&mut tx, domain, at(when)).await.unwrap();
    }
    assert_eq!(peers::last_seen(&mut tx, "hub-b.example").await.unwrap(), Some(at(5)), "the latest");
    assert_eq!(peers::last_seen(&mut tx, "hub-c.example").await.unwrap(), None);
    assert_eq!(peers::last_seen(&mut tx, "hub-z.example").await.unwrap(), None, "no peer");
    assert!(peers::remove(&mut tx, "hub-b.example").await.unwrap());
    assert_eq!(peers::last_seen(&mut tx, "hub-b.example").await.unwrap(), None);
    assert!(!peers::remove(&mut tx, "hub-b.example").await.unwrap());
    assert!(peers::agents(&mut tx, 10).await.unwrap().is_empty());
    tx.commit().await.unwrap();
});

both_dbs!(one_conformance_result_is_published_at_a_time, |db| async move {
    let store = db.open().await;
    let published = async || conformance::published(&mut store.read().await.unwrap(), "hub-a.example").await.unwrap();
    assert_eq!(published().await, None);
    for document in ["{\"suite\":1}", "{\"suite\":2}"] {
        let mut tx = store.begin().await.unwrap();
        conformance::publish(&mut tx, "hub-a.example", document, NOW).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(published().await.as_deref(), Some(document));
    }
    assert_eq!(conformance::published(&mut store.read().await.unwrap(), "hub-b.example").await.unwrap(), None);
});

both_dbs!(an_ingested_event_counts_once_for_each_source_and_sequence, |db| async move {
    let store = db.open().await;
    let (tenant, other) = (id(), id());
    let row = |tenant, source: &str, event: &str, sequence| IngestedRow {
        tenant,
        source: source.into(),
        run: "run_x".into(),
        event: event.into(),
        sequence,
        document: format!("{{\"event_id\":\"{event}\"}}"),
        at: NOW,
    };
    let insert = async |row: IngestedRow| {
        let mut tx = store.begin().await.unwrap();
        let made = ingested::insert(&mut tx, &row).await.unwrap();
        tx.commit().await.unwrap();
        made
    };
    assert!(insert(row(tenant, "stk_b", "evt_2", 2)).await);
    assert!(insert(row(tenant, "stk_b", "evt_1", 1)).await);
    assert!(!insert(row(tenant, "stk_b", "evt_1", 1)).await, "it is there");
    assert!(insert(row(tenant, "stk_c", "evt_1", 1)).await, "another source told the same");
    assert!(!insert(row(tenant, "stk_c", "evt_9", 2)).await, "another event has that sequence");
    assert!(insert(row(other, "stk_c", "evt_9", 2)).await, "in another tenant it is free");
    let events = async |tenant, after, limit| {
        let found = ingested::events(&mut store.read().await.unwrap(), tenant, "run_x", after, limit).await.unwrap();
        found.into_iter().map(|(sequence, _)| sequence).collect::<Vec<_>>()
    };
    assert_eq!(events(tenant, 0, 10).await, [1, 2], "in order, each once");
    assert_eq!((events(tenant, 1, 10).await, events(tenant, 0, 1).await), (vec![2], vec![1]));
    assert_eq!(events(other, 0, 10).await, [2]);
});
