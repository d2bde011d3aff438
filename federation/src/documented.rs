//! What the operations of this crate have in common: answers that every route of a kind can give.

use aiox_model::{answers, body, federation::Problem};

answers! {
    /// Every route of the peers' administration.
    pub(crate) Gated: "application/json" <body::ErrorBody> {
        401 => "No credential, or none that this hub knows (`unauthorized`).",
        403 => "The scope `peers:admin` is missing (`forbidden`).",
        429 (retry) => "Too many requests (`rate_limited`).",
        500 => "A defect of the hub (`internal_error`). Its log has the cause under the `correlation_id`.",
        503 (retry) => "A part of the hub is not available (`dependency_unavailable`, `shutting_down`, `request_timeout`), or the peer does not answer (`peer_unreachable`).",
    }
    /// A route that names a peer.
    pub(crate) NotFound: "application/json" <body::ErrorBody> {
        404 => "There is no such peer (`not_found`).",
    }
    /// A route that changes where a peer stands.
    pub(crate) Standing: "application/json" <body::ErrorBody> {
        409 => "Not while the peer is where it is (`peer_state`).",
    }
    /// Every route of the peer listener, after the token. A refused token is a bare 401.
    pub(crate) Peered: "application/problem+json" <Problem> {
        429 (retry) => "More requests in a second than the peer record allows (`rate_limited`).",
        500 => "A defect of the hub (`internal_error`).",
        503 (retry) => "A part of the hub is not available (`dependency_unavailable`, `shutting_down`).",
    }
    /// A route of the peer listener with a body.
    pub(crate) PeerBody: "application/problem+json" <Problem> {
        400 => "The body is not what it must be (`invalid_request`).",
        408 => "The body did not arrive in time (`timeout`).",
        413 => "The body is larger than 1 MiB, or has no item or more than 100 (`too_large`).",
    }
    /// A route of the peer listener that the peer record can switch off, or that names something.
    pub(crate) PeerHidden: "application/problem+json" <Problem> {
        404 => "It does not exist, or the peer may not know that it does, or the peer record does not allow the operation (`not_found`).",
    }
}
