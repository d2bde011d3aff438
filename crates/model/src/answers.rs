//! Sets of answers that many operations of an OpenAPI document share.

use std::collections::BTreeMap;

use utoipa::{
    ToSchema,
    openapi::{ContentBuilder, Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type},
};

/// Answers by status.
pub type Answers = BTreeMap<String, RefOr<Response>>;

/// An answer whose body is a published document.
pub fn answer<T: ToSchema>(media: &str, text: &str) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name()))).build();
    ResponseBuilder::new().description(text).content(media, content)
}

/// The header `Retry-After`.
#[must_use]
pub fn wait() -> Header {
    HeaderBuilder::new()
        .description(Some("Seconds to wait before the same request can succeed."))
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).build()))
        .build()
}

/// Makes types that stand for sets of answers: `pub(crate) Gated: "application/json" <ErrorBody> { 401 => "…", 429 (retry) => "…", }`.
/// `(retry)` adds the header `Retry-After`. The crate that calls it needs `utoipa`.
#[macro_export]
macro_rules! answers {
    ($($(#[$doc:meta])* $seen:vis $name:ident: $media:literal <$body:ty> { $($status:literal $(($retry:ident))? => $text:literal,)* })*) => {$(
        $(#[$doc])*
        $seen struct $name;
        impl utoipa::IntoResponses for $name {
            fn responses() -> $crate::answers::Answers {
                let mut all = $crate::answers::Answers::new();
                $(
                    let made = $crate::answers::answer::<$body>($media, $text);
                    $(let $retry = made.header("Retry-After", $crate::answers::wait()); let made = $retry;)?
                    all.insert($status.to_string(), made.build().into());
                )*
                all
            }
        }
    )*};
}
