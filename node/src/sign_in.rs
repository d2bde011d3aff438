//! Where the XMPP server beside a hub asks whether a credential is good (`deploy/README.md`).
//!
//! Clear text, on loopback, for whoever knows the token that the two share. Attempts are limited for each account and client address
//! before anything is looked up.

use std::{net::IpAddr, sync::Arc, time::Duration};

use aiox_app::{Accounts, accounts::Origin};
use aiox_core::{
    Error,
    ports::{Ids as _, RateLimiter},
};
use aiox_crypto::system::SystemIds;
use aiox_model::TraceId;
use axum::{
    Form, Router,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// Attempts of one account from one address, and the time over which they come back.
const ATTEMPTS: (u32, Duration) = (20, Duration::from_secs(60));
/// An access token has about 500 bytes.
const MAX_BODY: usize = 16 * 1024;

struct Asked {
    accounts: Accounts,
    limiter: Arc<dyn RateLimiter>,
    expected: String,
}

// Not Debug, so that the secret cannot be shown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attempt {
    user: String,
    secret: String,
    /// Network address of the client, where the server tells it.
    address: Option<IpAddr>,
}

/// The routes.
pub fn router(accounts: Accounts, limiter: Arc<dyn RateLimiter>, token: SecretString) -> Router {
    let asked = Arc::new(Asked { accounts, limiter, expected: format!("Bearer {}", token.expose_secret()) });
    Router::new()
        .route("/aiox/sign-in", post(sign_in))
        .route("/aiox/accounts/{user}", get(exists))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(asked.clone(), only_the_server))
        .with_state(asked)
}

async fn only_the_server(State(asked): State<Arc<Asked>>, request: Request, next: Next) -> Response {
    let presented = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    if aiox_crypto::equal(presented, asked.expected.as_bytes()) { next.run(request).await } else { StatusCode::FORBIDDEN.into_response() }
}

async fn sign_in(State(asked): State<Arc<Asked>>, Form(attempt): Form<Attempt>) -> Response {
    let from = attempt.address.map(|address| address.to_string()).unwrap_or_default();
    let key = format!("xmpp.sign_in:{}:{from}", attempt.user);
    if let Err(wait) = asked.limiter.check(&key, ATTEMPTS.0, ATTEMPTS.1).await {
        metrics::counter!("aiox_xmpp_sign_ins_total", "outcome" => "limited").increment(1);
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, wait.as_secs().max(1).to_string())]).into_response();
    }
    let origin = Origin { address: attempt.address, trace: TraceId(SystemIds.uuid()) };
    let outcome = asked.accounts.sign_in_to_xmpp(&attempt.user, attempt.secret.into(), origin).await;
    let label = match &outcome {
        Ok(()) => "allowed",
        Err(Error::Unauthenticated(_) | Error::Forbidden { .. }) => "denied",
        Err(_) => "failed",
    };
    metrics::counter!("aiox_xmpp_sign_ins_total", "outcome" => label).increment(1);
    status(outcome, StatusCode::UNAUTHORIZED).into_response()
}

async fn exists(State(asked): State<Arc<Asked>>, Path(user): Path<String>) -> StatusCode {
    let found = asked.accounts.exists(&user).await;
    status(found.and_then(|found| if found { Ok(()) } else { Err(Error::NotFound("user")) }), StatusCode::NOT_FOUND)
}

fn status(outcome: aiox_core::Result<()>, refused: StatusCode) -> StatusCode {
    match outcome {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(Error::Unauthenticated(_) | Error::Forbidden { .. } | Error::NotFound(_)) => refused,
        Err(error) => {
            tracing::error!(error = error.chain(), "the XMPP server's question could not be answered");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiox_cache::MemoryLimiter;
    use aiox_model::account::{NewApiKey, Register, TokenPair};
    use aiox_testkit::{Database, World};
    use axum::body::Body;
    use tower::ServiceExt as _;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    const PASSWORD: &str = "correct horse battery";

    struct Server {
        world: World,
        router: Router,
    }

    impl Server {
        async fn start() -> Self {
            let world = World::on(Database::sqlite()).await;
            let router = router(world.accounts.clone(), Arc::new(MemoryLimiter::default()), TOKEN.to_owned().into());
            Self { world, router }
        }
        async fn send(&self, request: axum::http::request::Builder, body: String) -> Response {
            self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
        }
        async fn try_in(&self, user: &str, secret: &str) -> u16 {
            let request = Request::post("/aiox/sign-in")
                .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            self.send(request, format!("user={user}&secret={secret}&address=192.0.2.1")).await.status().as_u16()
        }
        async fn account(&self, name: &str) -> TokenPair {
            let email = format!("{name}@mail.example");
            let body = Register { email, password: PASSWORD.into(), username: Some(name.into()), invite: None };
            self.world.accounts.register(body, Origin { address: None, trace: TraceId(SystemIds.uuid()) }).await.unwrap()
        }
    }

    #[tokio::test]
    async fn passwords_and_living_access_tokens_of_the_account_open_and_nothing_else_does() {
        let server = Server::start().await;
        let (pair, _) = (server.account("alice").await, server.account("bob").await);
        let alice = server.world.caller("alice@hub-a.example").await;
        assert_eq!(server.try_in("alice", PASSWORD).await, 204);
        assert_eq!(server.try_in("alice", &pair.access_token).await, 204);
        for (user, secret) in [
            ("alice", "wrong"),
            ("alice", ""),
            ("nobody", PASSWORD),
            // Another account's token, a token that is none for this, and one that was changed.
            ("bob", pair.access_token.as_str()),
            ("alice", &pair.refresh_token),
            ("alice", &pair.access_token[..pair.access_token.len() - 2]),
        ] {
            assert_eq!(server.try_in(user, secret).await, 401, "{user} {secret}");
        }
        let new = NewApiKey { name: "k".into(), scopes: Vec::new(), expires_at: None };
        let key = server.world.accounts.create_key(&alice, new).await.unwrap();
        assert_eq!(server.try_in("alice", &key.secret.unwrap()).await, 401);
        // Sign-out kills the token and leaves the password.
        server.world.accounts.logout(&alice).await.unwrap();
        assert_eq!(server.try_in("alice", &pair.access_token).await, 401);
        assert_eq!(server.try_in("alice", PASSWORD).await, 204);
    }

    #[tokio::test]
    async fn an_expired_token_is_refused() {
        let server = Server::start().await;
        let pair = server.account("alice").await;
        server.world.clock.advance(i64::from(pair.expires_in) + 1);
        assert_eq!(server.try_in("alice", &pair.access_token).await, 401);
    }

    #[tokio::test]
    async fn guessing_is_limited_for_each_account() {
        let server = Server::start().await;
        server.account("bob").await;
        let mut seen = Vec::new();
        for _ in 0..ATTEMPTS.0 + 1 {
            seen.push(server.try_in("nobody", "wrong").await);
        }
        assert!(seen[..ATTEMPTS.0 as usize].iter().all(|status| *status == 401), "{seen:?}");
        assert_eq!(seen.last(), Some(&429));
        assert_eq!(server.try_in("bob", PASSWORD).await, 204);
    }

    #[tokio::test]
    async fn only_who_knows_the_shared_token_is_answered() {
        let server = Server::start().await;
        server.account("alice").await;
        let ask = |authorization: &str| Request::get("/aiox/accounts/alice").header(header::AUTHORIZATION, authorization);
        let good = format!("Bearer {TOKEN}");
        assert_eq!(server.send(ask(&good), String::new()).await.status(), 204);
        assert_eq!(server.send(ask("Bearer guess"), String::new()).await.status(), 403);
        assert_eq!(server.send(Request::get("/aiox/accounts/alice"), String::new()).await.status(), 403);
        let unknown = Request::get("/aiox/accounts/nobody").header(header::AUTHORIZATION, good);
        assert_eq!(server.send(unknown, String::new()).await.status(), 404);
    }
}
