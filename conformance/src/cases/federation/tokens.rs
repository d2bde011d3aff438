//! FED-014 to FED-023: the token of each request, and the limits of a peer.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{CALLED, CAPABILITIES, refused_with, waiting_mesh_agent};
use crate::{
    case::{Outcome, Stop, ensure},
    peer::{
        Peer, Token, ids,
        jose::{ENVELOPE, Key, TokenCheck},
        link::{self, Ask, Dial, Link},
    },
    scene::Scene,
};

async fn all_refused(scene: &Scene, peer: &Peer, bad: Vec<(&str, Token)>) -> Outcome {
    for (what, token) in bad {
        refused_with(scene, peer, what, Some(format!("Bearer {}", token.sign()?))).await?;
    }
    Ok(())
}

async fn taken(scene: &Scene, peer: &Peer, what: &str, token: &Token) -> Outcome {
    let answer = peer.link().await?.answer(scene, Ask::get(CAPABILITIES, &token.sign()?)).await?;
    ensure!(answer.status == 200, "a token with {what} was answered by {}", answer.status);
    Ok(())
}

pub(super) async fn header_and_key(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let token = || peer.token("hello");
    let stranger = Arc::new(Key::generate()?);
    let url = format!("{}/keys", peer.url());
    taken(&scene, &peer, "everything as it has to be", &token()).await?;
    let bad = vec![
        ("the `typ` JWT", token().header("typ", "JWT")),
        ("the `typ` of an envelope", token().header("typ", ENVELOPE)),
        ("no `typ`", token().without("typ")),
        ("the `alg` none", token().header("alg", "none")),
        ("the `alg` HS256", token().header("alg", "HS256")),
        ("the `alg` ES384", token().header("alg", "ES384")),
        ("no `alg`", token().without("alg")),
        ("no `kid`", token().without("kid")),
        ("the `kid` of nobody", token().header("kid", stranger.kid())),
        ("another key's signature", token().by(&stranger)),
        ("another key and its `kid`", token().by(&stranger).header("kid", stranger.kid())),
        ("the envelope key", token().by(&peer.envelope_key).header("kid", peer.envelope_key.kid())),
        ("`crit`", token().header("crit", json!(["exp"])).header("exp", 1)),
        ("an embedded key", token().by(&stranger).header("jwk", stranger.public.clone())),
        ("`jku`", token().header("jku", url.clone())),
        ("`x5u`", token().header("x5u", url)),
        ("`x5c`", token().header("x5c", json!(["AA=="]))),
        ("`x5t`", token().header("x5t", "AA")),
        ("`zip`", token().header("zip", "DEF")),
        ("`b64`", token().header("b64", true)),
    ];
    all_refused(&scene, &peer, bad).await?;
    let good = token().sign()?;
    for (what, text) in [
        ("no signature", format!("Bearer {}.", good.rsplit_once('.').map_or("", |(start, _)| start))),
        ("two parts", format!("Bearer {}", good.rsplit_once('.').map_or("", |(start, _)| start))),
        ("another scheme", format!("DPoP {good}")),
        ("nothing but the scheme", "Bearer ".into()),
    ] {
        refused_with(&scene, &peer, what, Some(text)).await?;
    }
    refused_with(&scene, &peer, "no header at all", None).await?;
    let fetched = peer.door.fetched();
    ensure!(fetched.iter().all(|path| path == crate::peer::DOCUMENT), "a token made the hub fetch {fetched:?}");
    Ok(())
}

pub(super) async fn audiences_and_issuers(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let token = || peer.token("hello");
    let here = peer.hub.node.clone();
    let sibling = format!("spiffe://{}/node/n2", peer.domain);
    taken(&scene, &peer, "an audience that is a list of one", &token().claim("aud", json!([here]))).await?;
    let bad = vec![
        ("another audience", token().claim("aud", "spiffe://hub-z.example/node/n1")),
        ("two audiences", token().claim("aud", json!([here, "spiffe://hub-z.example/node/n1"]))),
        ("the same audience twice", token().claim("aud", json!([here, here]))),
        ("an empty list of audiences", token().claim("aud", json!([]))),
        ("the domain as its audience", token().claim("aud", peer.hub.domain.clone())),
        ("no audience", token().without("aud")),
        ("another node as its issuer", token().claim("iss", sibling.clone()).claim("sub", sibling.clone())),
        ("the domain as its issuer", token().claim("iss", peer.domain.clone())),
        ("no issuer", token().without("iss")),
        ("another subject", token().claim("sub", sibling)),
        ("a user as its subject", token().claim("sub", peer.user())),
        ("no subject", token().without("sub")),
    ];
    all_refused(&scene, &peer, bad).await
}

pub(super) async fn times_of_a_token(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let times = |iat: i64, exp: i64| {
        let now = ids::seconds();
        peer.token("hello").claim("iat", now + iat).claim("exp", now + exp)
    };
    let begins = |nbf: i64| peer.token("hello").claim("nbf", ids::seconds() + nbf);
    // A second of play on the good side: the clocks are read one after the other.
    taken(&scene, &peer, "an `exp` 28 s ago", &times(-60, -28)).await?;
    taken(&scene, &peer, "an `iat` in 29 s", &times(29, 60)).await?;
    taken(&scene, &peer, "an `nbf` in 29 s", &begins(29)).await?;
    let bad = vec![
        ("an `exp` 33 s ago", times(-60, -33)),
        ("an `iat` in 34 s", times(34, 60)),
        ("an `nbf` in 34 s", begins(34)),
        ("a life of 61 s", times(0, 61)),
        ("a life of a day", times(0, 86_400)),
        ("an `exp` that is its `iat`", times(0, 0)),
        ("an `exp` before its `iat`", times(10, 5)),
        ("no `iat`", peer.token("hello").without("iat")),
        ("no `exp`", peer.token("hello").without("exp")),
        ("an `exp` that is a text", peer.token("hello").claim("exp", (ids::seconds() + 60).to_string())),
    ];
    all_refused(&scene, &peer, bad).await
}

pub(super) async fn used_once(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let first = peer.token("hello");
    taken(&scene, &peer, "a new `jti`", &first).await?;
    all_refused(&scene, &peer, vec![("the same `jti` on another connection", first)]).await?;
    let spared = peer.token("hello");
    let jti = spared.claims["jti"].clone();
    let wasted = vec![
        ("another scope", peer.token("deliver").claim("jti", jti.clone())),
        ("another audience", peer.token("hello").claim("jti", jti.clone()).claim("aud", "spiffe://hub-z.example/node/n1")),
        ("times that are over", peer.token("hello").claim("jti", jti).claim("iat", 1).claim("exp", 2)),
    ];
    all_refused(&scene, &peer, wasted).await?;
    taken(&scene, &peer, "a `jti` that only refused tokens had", &spared).await?;
    let bad = vec![
        ("no `jti`", peer.token("hello").without("jti")),
        ("an empty `jti`", peer.token("hello").claim("jti", "")),
        ("a `jti` of 120 bits", peer.token("hello").claim("jti", crate::peer::jose::b64(&[7; 15]))),
        ("a `jti` that is a number", peer.token("hello").claim("jti", 7)),
    ];
    all_refused(&scene, &peer, bad).await?;
    let one = peer.token("hello").sign()?;
    let links: Vec<Link> = futures::future::try_join_all((0..4).map(|_| peer.link())).await?;
    let answers = join_all(links.iter().map(|link| link.answer(&scene, Ask::get(CAPABILITIES, &one)))).await;
    let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.map(|answer| answer.status)).collect::<Result<_, _>>()?;
    let won = statuses.iter().filter(|status| **status == 200).count();
    ensure!(won == 1, "one token on four connections at once was answered by {statuses:?}");
    Ok(())
}

pub(super) async fn bound_to_the_connection(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let other = peer.authority.leaf(&crate::peer::pki::Plan::of(&peer.node))?;
    let cnf = |value: Value| peer.token("hello").claim("cnf", value);
    let bad = vec![
        ("no `cnf`", peer.token("hello").without("cnf")),
        ("an empty `cnf`", cnf(json!({}))),
        ("another certificate of the same node", cnf(json!({ "x5t#S256": other.thumbprint() }))),
        ("a `cnf` by SHA-1's name", cnf(json!({ "x5t": peer.leaf.thumbprint() }))),
        ("an empty thumbprint", cnf(json!({ "x5t#S256": "" }))),
    ];
    all_refused(&scene, &peer, bad).await?;
    // The other way round: the token is bound to the usual certificate, and shown on a connection with another good one.
    let link = link::dial(&Dial { leaf: Some(&other), ..peer.dial() })
        .await
        .map_err(|error| Stop::Failed(format!("another certificate of an active peer was refused: {error}")))?;
    let foreign = link.answer(&scene, Ask::get(CAPABILITIES, &peer.token("hello").sign()?)).await?;
    ensure!(foreign.status == 401, "a token on a connection with another certificate of its node was answered by {}", foreign.status);
    let own = peer.token("hello").claim("cnf", json!({ "x5t#S256": other.thumbprint() })).sign()?;
    link.answer(&scene, Ask::get(CAPABILITIES, &own)).await?.expect(200)
}

pub(super) async fn scopes(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let link = peer.link().await?;
    let run = format!("/fed/v1/runs/{}/events", ids::fresh("run"));
    let routes = [
        (Method::POST, "/fed/v1/hello", "hello"),
        (Method::GET, CAPABILITIES, "hello"),
        (Method::POST, "/fed/v1/envelopes", "deliver"),
        (Method::GET, run.as_str(), "stream"),
        (Method::GET, "/fed/v1/directory", "directory"),
        (Method::GET, "/fed/v1/conversations", "history"),
    ];
    for (method, path, right) in routes {
        let body = if method == Method::POST { b"{}".to_vec() } else { Vec::new() };
        for scope in ["hello", "deliver", "stream", "directory", "history", "hello deliver stream directory history", "", "*"] {
            let ask = Ask { method: method.clone(), body: body.clone(), ..Ask::get(path, &peer.token(scope).sign()?) };
            let status = link.answer(&scene, ask).await?.status;
            ensure!((status == 401) == (scope != right), "{method} {path} with the scope `{scope}` was answered by {status}");
        }
        let ask = Ask { method: method.clone(), body: body.clone(), ..Ask::get(path, &peer.token(right).without("scope").sign()?) };
        link.answer(&scene, ask).await?.expect(401)?;
    }
    Ok(())
}

pub(super) async fn a_refusal_says_nothing(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let used = peer.token("hello");
    taken(&scene, &peer, "everything as it has to be", &used).await?;
    let bad = [
        ("a used `jti`", used),
        ("another audience", peer.token("hello").claim("aud", "x")),
        ("another scope", peer.token("stream")),
        ("times that are over", peer.token("hello").claim("iat", 1).claim("exp", 2)),
        ("another certificate", peer.token("hello").without("cnf")),
        ("another `typ`", peer.token("hello").header("typ", "JWT")),
    ];
    let mut headers =
        bad.iter().map(|(what, token)| Ok((*what, Some(format!("Bearer {}", token.sign()?))))).collect::<Result<Vec<_>, Stop>>()?;
    headers.push(("nothing", None));
    headers.push(("no JWS", Some("Bearer x".into())));
    let mut names: Option<Vec<String>> = None;
    for (what, authorization) in headers {
        let answer = refused_with(&scene, &peer, what, authorization).await?;
        ensure!(answer.header("www-authenticate") == "Bearer", "with {what} `WWW-Authenticate` is `{}`", answer.header("www-authenticate"));
        ensure!(answer.bytes.is_empty(), "with {what} there is a body: {}", String::from_utf8_lossy(&answer.bytes));
        let these: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
        ensure!(names.as_ref().is_none_or(|names| *names == these), "with {what} the headers are {these:?}, elsewhere {names:?}");
        names = Some(these);
    }
    Ok(())
}

pub(super) async fn the_tokens_of_the_hub(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let seen = peer.door.until("two requests of the hub", CALLED, |door| Some(door.seen()).filter(|seen| seen.len() > 1)).await?;
    let mut used = BTreeSet::new();
    for request in seen {
        let scope = match request.path.as_str() {
            "/fed/v1/hello" | CAPABILITIES => "hello",
            "/fed/v1/envelopes" => "deliver",
            "/fed/v1/directory" => "directory",
            "/fed/v1/conversations" => "history",
            _ => "stream",
        };
        let check = TokenCheck {
            keys: &peer.hub.token_keys,
            issuer: &peer.hub.node,
            audience: &peer.node,
            certificate: &request.certificate,
            scope,
            now: ids::seconds(),
            skew: 30,
        };
        check
            .judge(request.authorization.as_deref(), &mut used)
            .map_err(|problem| Stop::Failed(format!("{} {}: {problem}", request.method, request.path)))?;
    }
    Ok(())
}

/// Requests at once on one connection: more with each attempt, and below what a listener may bound.
const AT_ONCE: [usize; 5] = [50, 100, 200, 400, 400];

pub(super) async fn a_limit_of_one_peer(scene: Scene) -> Outcome {
    let (peer, other) = (Peer::active(&scene).await?, Peer::active(&scene).await?);
    let quiet = Scene::new(scene.world.clone());
    let links: Vec<Link> = futures::future::try_join_all((0..8).map(|_| peer.link())).await?;
    let elsewhere = other.link().await?;
    let mut limited = None;
    for at_once in AT_ONCE {
        // No token at all: over its rate a peer is told so before its token is looked at.
        let ask = || Ask { method: Method::GET, path: CAPABILITIES, authorization: None, headers: &[], body: Vec::new() };
        let storm = join_all((0..links.len() * at_once).map(|number| links[number % links.len()].ask(&quiet, ask())));
        let (answers, beside) = futures::future::join(storm, other.get(&elsewhere, CAPABILITIES, "hello")).await;
        beside?.expect(200)?;
        limited = answers.into_iter().flatten().find(|answer| answer.status == 429);
        if limited.is_some() {
            break;
        }
    }
    let Some(limited) = limited else {
        return Err(Stop::Failed(format!("{} requests at once of one peer met no limit", links.len() * AT_ONCE[AT_ONCE.len() - 1])));
    };
    ensure!(limited.header("retry-after").parse::<u64>().is_ok(), "429 has the `Retry-After` `{}`", limited.header("retry-after"));
    let agent = waiting_mesh_agent(&scene, "streams").await?;
    let (envelope, run) = other.create(&agent.jid, "c", 1, "waits")?;
    super::accepted("a good envelope", &other.deliver(&elsewhere, &[envelope]).await?[0])?;
    let path = format!("/fed/v1/runs/{run}/events");
    let (mut feeds, mut refused) = (Vec::new(), None);
    for _ in 0..1000 {
        let feed = elsewhere.stream(Ask::get(&path, &other.token("stream").sign()?)).await?;
        if feed.status == 429 {
            refused = Some(feed);
            break;
        }
        ensure!(feed.status == 200, "{}: the status is {}", feed.what, feed.status);
        feeds.push(feed);
    }
    let Some(refused) = refused else { return Err(Stop::Failed(format!("{} streams of one peer are open at once", feeds.len()))) };
    ensure!(refused.headers.contains_key("retry-after"), "429 for a stream too many has no `Retry-After`");
    drop((feeds, links));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let fresh = peer.link().await?;
    peer.get(&fresh, CAPABILITIES, "hello").await?.expect(200)?;
    let header = crate::peer::with(other.header(&agent.jid, "c", 2), "/type", json!("run.cancel"));
    let cancel = other.seal(header, &json!({ "run_id": run }).to_string())?;
    super::accepted("a cancel", &other.deliver(&elsewhere, &[cancel]).await?[0])
}
