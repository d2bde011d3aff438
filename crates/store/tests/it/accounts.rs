//! Users, sessions, keys, invitations.

use aiox_core::Role;
use aiox_model::{ApiKeyId, SessionId};
use aiox_store::accounts::{self, ApiKeyRow, InviteRow, Refreshed, UserRow};
use aiox_testkit::both_dbs;

use crate::make::{NOW, at, id, tenant, user, user_row};

both_dbs!(accounts_are_found_by_id_address_and_name, |db| async move {
    let store = db.open().await;
    let tenant = tenant(&store).await;
    let alice = user(&store, tenant, "alice").await;
    let bob = user(&store, tenant, "bob").await;
    let mut tx = store.begin().await.unwrap();
    let same_mail = UserRow { email: alice.email.clone(), ..user_row(tenant, "carol") };
    assert!(!accounts::insert_user(&mut tx, &same_mail).await.unwrap());
    assert!(!accounts::insert_user(&mut tx, &UserRow { email: "new@mail.example".into(), ..user_row(tenant, "alice") }).await.unwrap());
    tx.commit().await.unwrap();
    let mut reader = store.read().await.unwrap();
    let found = accounts::user(&mut reader, alice.id).await.unwrap().unwrap();
    assert_eq!((&found.email, found.role, found.active, &found.scram_sealed), (&alice.email, Role::User, true, &alice.scram_sealed));
    assert_eq!((found.tokens_valid_after, found.created_at), (alice.tokens_valid_after, NOW));
    for login in [alice.email.as_str(), "alice"] {
        assert_eq!(accounts::user_by_login(&mut reader, login).await.unwrap().unwrap().id, alice.id);
    }
    assert_eq!(accounts::user_by_name(&mut reader, "bob").await.unwrap().unwrap().id, bob.id);
    assert!(accounts::user_by_name(&mut reader, &bob.email).await.unwrap().is_none());
    assert!(accounts::user(&mut reader, id().into()).await.unwrap().is_none());
    let (page, count) = accounts::users(&mut reader, tenant, 1, 1).await.unwrap();
    assert_eq!((page.len(), count), (1, 2));
    assert_eq!(accounts::users(&mut reader, id().into(), 10, 0).await.unwrap().1, 0);
    assert_eq!(accounts::all_users(&mut reader).await.unwrap().len(), 2);
});

both_dbs!(standing_and_password_change, |db| async move {
    let store = db.open().await;
    let alice = user(&store, tenant(&store).await, "alice").await;
    let mut tx = store.begin().await.unwrap();
    accounts::set_password(&mut tx, alice.id, "other", &[4], at(1)).await.unwrap();
    accounts::set_standing(&mut tx, alice.id, Role::Manager, false, "{\"tokens_day\":1}", at(1)).await.unwrap();
    tx.commit().await.unwrap();
    let found = accounts::user(&mut store.read().await.unwrap(), alice.id).await.unwrap().unwrap();
    assert_eq!((found.password_hash.as_str(), found.role, found.active), ("other", Role::Manager, false));
    assert_eq!((found.quota.as_str(), found.scram_sealed), ("{\"tokens_day\":1}", vec![4]));
});

both_dbs!(an_unreadable_role_is_told_as_damage, |db| async move {
    let store = db.open().await;
    let alice = user(&store, tenant(&store).await, "alice").await;
    assert_eq!(db.execute("UPDATE users SET role = 'emperor'").await, 1);
    let error = accounts::user(&mut store.read().await.unwrap(), alice.id).await.unwrap_err();
    assert!(error.chain().contains("users.role"), "{}", error.chain());
});

both_dbs!(a_refresh_token_works_once, |db| async move {
    let store = db.open().await;
    let tenant = tenant(&store).await;
    let (alice, bob) = (user(&store, tenant, "alice").await, user(&store, tenant, "bob").await);
    let (session, token, late) = (SessionId(id()), id(), id());
    let mut tx = store.begin().await.unwrap();
    accounts::insert_refresh(&mut tx, token, session, alice.id, at(100)).await.unwrap();
    accounts::insert_refresh(&mut tx, late, session, alice.id, at(1)).await.unwrap();
    assert_eq!(accounts::use_refresh(&mut tx, token, bob.id, at(2)).await.unwrap(), Refreshed::Dead);
    assert_eq!(accounts::use_refresh(&mut tx, late, alice.id, at(2)).await.unwrap(), Refreshed::Dead);
    assert_eq!(accounts::use_refresh(&mut tx, token, alice.id, at(2)).await.unwrap(), Refreshed::First(session));
    assert_eq!(accounts::use_refresh(&mut tx, token, alice.id, at(3)).await.unwrap(), Refreshed::Again(session, at(2)));
    assert_eq!(accounts::use_refresh(&mut tx, id(), alice.id, at(3)).await.unwrap(), Refreshed::Dead);
    assert!(accounts::session_lives(&mut tx, session).await.unwrap());
    accounts::end_session(&mut tx, session, at(4)).await.unwrap();
    assert!(!accounts::session_lives(&mut tx, session).await.unwrap());
    let (other, next) = (SessionId(id()), id());
    accounts::insert_refresh(&mut tx, next, other, alice.id, at(100)).await.unwrap();
    accounts::end_sessions(&mut tx, alice.id, at(5)).await.unwrap();
    assert_eq!(accounts::use_refresh(&mut tx, next, alice.id, at(6)).await.unwrap(), Refreshed::Dead);
    assert_eq!(accounts::user(&mut tx, alice.id).await.unwrap().unwrap().tokens_valid_after, at(5));
    tx.commit().await.unwrap();
});

both_dbs!(api_keys_expire_and_are_revoked_by_their_account_alone, |db| async move {
    let store = db.open().await;
    let tenant = tenant(&store).await;
    let (alice, bob) = (user(&store, tenant, "alice").await, user(&store, tenant, "bob").await);
    let key = ApiKeyRow {
        id: ApiKeyId(id()),
        user: alice.id,
        name: "ci".into(),
        scopes: "runs:create".into(),
        created_at: NOW,
        expires_at: Some(at(10)),
    };
    let mut tx = store.begin().await.unwrap();
    accounts::insert_key(&mut tx, tenant, &key, &[1; 32]).await.unwrap();
    let twice = ApiKeyRow { id: ApiKeyId(id()), ..key.clone() };
    assert_eq!(accounts::key_by_hash(&mut tx, &[1; 32], at(9)).await.unwrap().unwrap().id, key.id);
    assert!(accounts::key_by_hash(&mut tx, &[1; 32], at(10)).await.unwrap().is_none());
    assert!(accounts::key_by_hash(&mut tx, &[2; 32], at(9)).await.unwrap().is_none());
    assert_eq!(accounts::keys_of(&mut tx, alice.id).await.unwrap()[0].scopes, "runs:create");
    assert!(!accounts::revoke_key(&mut tx, bob.id, key.id, at(1)).await.unwrap());
    assert!(accounts::revoke_key(&mut tx, alice.id, key.id, at(1)).await.unwrap());
    assert!(!accounts::revoke_key(&mut tx, alice.id, key.id, at(1)).await.unwrap());
    assert!(accounts::key_by_hash(&mut tx, &[1; 32], at(2)).await.unwrap().is_none());
    assert!(accounts::keys_of(&mut tx, alice.id).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(accounts::insert_key(&mut tx, tenant, &twice, &[1; 32]).await.unwrap_err().code(), "conflict");
});

both_dbs!(an_invitation_works_once_and_in_time, |db| async move {
    let store = db.open().await;
    let tenant = tenant(&store).await;
    let admin = user(&store, tenant, "admin").await;
    let invite = InviteRow { id: id(), tenant, role: Role::Operator, created_by: admin.id, created_at: NOW, expires_at: at(10) };
    let mut tx = store.begin().await.unwrap();
    accounts::insert_invite(&mut tx, &invite, &[1; 32]).await.unwrap();
    accounts::insert_invite(&mut tx, &InviteRow { id: id(), ..invite }, &[2; 32]).await.unwrap();
    assert_eq!(accounts::use_invite(&mut tx, &[1; 32], at(9)).await.unwrap(), Some((tenant, Role::Operator)));
    assert_eq!(accounts::use_invite(&mut tx, &[1; 32], at(9)).await.unwrap(), None);
    assert_eq!(accounts::use_invite(&mut tx, &[2; 32], at(10)).await.unwrap(), None);
    assert_eq!(accounts::use_invite(&mut tx, &[3; 32], at(9)).await.unwrap(), None);
    tx.commit().await.unwrap();
});
