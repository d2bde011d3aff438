//! Routes as they are served: without their document, and with an answer for methods that they do not have.

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::{error::Failure, state::App};

/// The routes without their document. An unknown method is answered as the contract says.
pub(crate) fn plain(documented: OpenApiRouter<App>) -> Router<App> {
    documented.split_for_parts().0.method_not_allowed_fallback(no_method)
}

/// The answer to a method that a route does not have.
pub(crate) async fn no_method() -> Failure {
    Failure::NoMethod
}
