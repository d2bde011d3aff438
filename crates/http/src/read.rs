//! Bodies, path segments and queries, with errors that name the member at fault.

use std::sync::Arc;

use aiox_core::Error;
use aiox_model::{
    body::{Data, List, Message, Page},
    objects::Objects,
};
use axum::{
    Json,
    body::{Body as RawBody, HttpBody as _},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    HttpState,
    context::too_large,
    error::{Failure, Result},
};

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<HttpState>> for Body<T> {
    type Rejection = Failure;
    async fn from_request(request: Request<RawBody>, app: &Arc<HttpState>) -> Result<Self> {
        let limit = app.options.max_body;
        let read = Limited::new(request.into_body(), limit).collect().await;
        let bytes = match read {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large(limit).into()),
            Err(_) => return Err(Failure::NoJson),
        };
        parse(&bytes).map(Self)
    }
}

/// A JSON body, or none at all.
pub(crate) struct MaybeBody<T>(pub(crate) Option<T>);

impl<T: DeserializeOwned> FromRequest<Arc<HttpState>> for MaybeBody<T> {
    type Rejection = Failure;
    async fn from_request(request: Request<RawBody>, app: &Arc<HttpState>) -> Result<Self> {
        if request.body().size_hint().exact() == Some(0) {
            return Ok(Self(None));
        }
        Body::from_request(request, app).await.map(|Body(body)| Self(Some(body)))
    }
}

/// Reads JSON, objects from objects alone. A wrong member is named by its path, for instance `llm_config.provider`.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(Objects(&mut reader)).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if error.is_data() { invalid(&path, &error.to_string()) } else { Failure::NoJson }
    })?;
    reader.end().map_err(|_| Failure::NoJson)?;
    Ok(value)
}

/// Reads an object inside a body that stands at `place`.
pub(crate) fn typed<T: DeserializeOwned>(place: &str, value: &Value) -> Result<T> {
    serde_path_to_error::deserialize(Objects(value)).map_err(|error| {
        let path = error.path().to_string();
        let path = match (place, path.as_str()) {
            ("", path) => path.to_owned(),
            (place, ".") => place.to_owned(),
            (place, path) => format!("{place}.{path}"),
        };
        invalid(&path, &error.into_inner().to_string())
    })
}

/// In words of the API's own: neither the library's texts nor the value given, which may be a secret.
fn invalid(path: &str, text: &str) -> Failure {
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    let place = if path == "." { "" } else { path };
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    if let Some(rest) = text.strip_prefix("missing field ") {
        let name = quoted(rest).unwrap_or_default();
        let field = if place.is_empty() { name } else { format!("{place}.{name}") };
        return Error::invalid(field, "is required").into();
    }
    if text.starts_with("data did not match any variant") {
        return Error::invalid(if place.is_empty() { "body" } else { place }, "has the wrong form").into();
    }
    let expected = text.split_once(", expected ").map(|(_, expected)| expected);
    let message = match expected {
        Some("a string" | "a borrowed string" | "string") => "must be a text".into(),
        Some("a map") => "must be an object".into(),
        Some("a sequence") => "must be a list".into(),
        Some("a boolean") => "must be true or false".into(),
        Some("u8" | "u16" | "u32" | "u64" | "i32" | "i64" | "f64" | "f32") => "must be a number in its range".into(),
        Some(choice) if choice.starts_with("one of ") || choice.starts_with('`') => format!("must be {}", choice.replace('`', "")),
        Some(structure) if structure.starts_with("struct ") => "must be an object".into(),
        Some(_) => "has the wrong type".into(),
        None => text.to_owned(),
    };
    Error::invalid(if place.is_empty() { "body" } else { place }, message).into()
}

/// Parts of the path.
pub(crate) struct Place<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Place<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        Path::from_request_parts(parts, state).await.map(|Path(value)| Self(value)).map_err(|_| Failure::BadRequest)
    }
}

/// Members of the query.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        Query::from_request_parts(parts, state).await.map(|Query(value)| Self(value)).map_err(|_| Failure::BadRequest)
    }
}

/// Which page of a list. What cannot be read falls back to the default, as published.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// The page's number, from 1; default 1.
    #[param(value_type = Option<u32>, minimum = 1, example = 1)]
    page: Option<String>,
    /// Items a page holds at most, 1 to 100; default 20.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 20)]
    page_size: Option<String>,
    /// Instead of `page_size`: most items, 1 to 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<String>,
    /// Instead of `page`: items to leave out.
    #[param(value_type = Option<u32>, minimum = 0)]
    offset: Option<String>,
}

/// A page, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) limit: u32,
    pub(crate) offset: u64,
    page: u32,
}

impl Paging {
    /// `page` and `page_size` win over `limit` and `offset`.
    pub(crate) fn cut(&self) -> Cut {
        fn number<T: std::str::FromStr>(text: Option<&String>) -> Option<T> {
            text.and_then(|text| text.trim().parse().ok())
        }
        let size = |text: Option<&String>| number(text).filter(|size| (1..=100).contains(size)).unwrap_or(20);
        if self.page.is_none() && self.page_size.is_none() && (self.limit.is_some() || self.offset.is_some()) {
            let (limit, offset) = (size(self.limit.as_ref()), number::<u32>(self.offset.as_ref()).unwrap_or(0));
            return Cut { limit, offset: u64::from(offset), page: offset / limit + 1 };
        }
        let limit = size(self.page_size.as_ref());
        let page = number(self.page.as_ref()).filter(|page| *page >= 1).unwrap_or(1);
        Cut { limit, offset: u64::from(page - 1) * u64::from(limit), page }
    }
}

impl Cut {
    /// The paginated envelope.
    pub(crate) fn page<T>(self, (data, total_count): (Vec<T>, u64)) -> Json<Page<T>> {
        Json(Page { data, total_count, page: self.page, page_size: self.limit })
    }
}

/// `{"data": …}`.
pub(crate) fn data<T>(data: T) -> Json<Data<T>> {
    Json(Data { data })
}

/// `{"data": […]}`, whole.
pub(crate) fn list<T>(data: Vec<T>) -> Json<List<T>> {
    Json(List { data })
}

/// `{"data": …}` of something new.
pub(crate) fn created<T: Serialize>(made: T) -> Response {
    (StatusCode::CREATED, data(made)).into_response()
}

/// `{"message": …}`.
pub(crate) fn message(text: &str) -> Json<Message> {
    Json(Message { message: text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiox_model::{
        account::{Login, NewApiKey, Register},
        agent::{AgentCreate, AgentUpdate},
    };
    use proptest::prelude::*;

    fn text_of<T: DeserializeOwned>(json: &str) -> String {
        parse::<T>(json.as_bytes()).err().unwrap().shown().text
    }

    #[test]
    fn a_wrong_member_is_named_and_its_value_is_not_repeated() {
        let cases = [
            (text_of::<Login>(r#"{"email": 5, "password": "x"}"#), "email: must be a text"),
            (text_of::<Register>(r#"{"email": "a@b.c"}"#), "password: is required"),
            (text_of::<Register>(r#"{"email": "a@b.c", "password": ["hunter2"]}"#), "password: must be a text"),
            (text_of::<AgentCreate>(r#"{"name": "a", "system_prompt": "b", "llm_config": null}"#), "llm_config: must be an object"),
            (
                text_of::<AgentCreate>(r#"{"name": "a", "system_prompt": "b", "personality_traits": ["a", 5]}"#),
                "personality_traits[1]: must be a text",
            ),
            (
                text_of::<AgentCreate>(r#"{"name": "a", "system_prompt": "b", "visibility": "x"}"#),
                "visibility: must be one of private, shared, tenant, mesh, public",
            ),
            (text_of::<AgentUpdate>(r#"{"version": "one"}"#), "version: must be a number in its range"),
            (text_of::<NewApiKey>(r#"{"name": "k", "expires_at": "tomorrow"}"#), "expires_at: not an RFC 3339 time"),
            (text_of::<Login>("5"), "body: must be an object"),
            (text_of::<Login>(r#"["a@b.c", null, "x"]"#), "body: must be an object"),
            (text_of::<AgentCreate>(r#"{"name": "a", "system_prompt": "b", "llm_config": ["echo"]}"#), "llm_config: must be an object"),
            (text_of::<Login>("{"), "bad request"),
            (text_of::<Login>(""), "bad request"),
            (text_of::<Login>(r#"{"password": "x"} trailing"#), "bad request"),
        ];
        for (got, wanted) in cases {
            assert_eq!(got, wanted);
        }
    }

    #[test]
    fn members_of_inner_objects_are_named_too() {
        let text = |object: serde_json::Value| typed::<aiox_model::agent::LlmConfig>("llm_config", &object).err().unwrap().shown().text;
        assert_eq!(text(serde_json::json!({ "temperature": "hot" })), "llm_config.temperature: must be a number in its range");
        assert_eq!(text(serde_json::json!({ "model": 5 })), "llm_config.model: must be a text");
        assert_eq!(text(serde_json::json!("x")), "llm_config: must be an object");
        assert_eq!(text(serde_json::json!(["echo"])), "llm_config: must be an object");
        assert!(typed::<aiox_model::agent::LlmConfig>("llm_config", &serde_json::json!({ "unknown": [] })).is_ok());
    }

    #[test]
    fn pages_fall_back_to_their_defaults() {
        let cut = |page: &str, size: &str| Paging { page: Some(page.into()), page_size: Some(size.into()), ..Paging::default() }.cut();
        assert_eq!(cut("3", "10"), Cut { limit: 10, offset: 20, page: 3 });
        for (page, size) in [("0", "0"), ("-1", "101"), ("x", "y"), ("", "")] {
            assert_eq!(cut(page, size), Cut { limit: 20, offset: 0, page: 1 });
        }
        assert_eq!(cut("4294967295", "100").offset, 429_496_729_400);
        let by_offset = Paging { limit: Some("5".into()), offset: Some("12".into()), ..Paging::default() };
        assert_eq!(by_offset.cut(), Cut { limit: 5, offset: 12, page: 3 });
        let both = Paging { page: Some("2".into()), offset: Some("500".into()), ..Paging::default() };
        assert_eq!(both.cut(), Cut { limit: 20, offset: 20, page: 2 });
    }

    proptest! {
        #[test]
        fn no_query_and_no_body_panics(page: String, offset: String, bytes: Vec<u8>) {
            let _ = Paging { page: Some(page), page_size: None, limit: None, offset: Some(offset) }.cut();
            let _ = parse::<AgentCreate>(&bytes);
        }
    }
}
