//! Texts that are never printed.

use std::{borrow::Cow, fmt, path::Path};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ConfigError;

/// A secret text. A number or boolean in the environment is taken as the text it was.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// A secret of a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }
    /// The text. Keep it out of logs and errors.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
    /// The same in the form that other crates take.
    #[must_use]
    pub fn to_secrecy(&self) -> SecretString {
        self.0.clone()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // Only defaults are serialized, and no default holds a secret.
        s.serialize_str("[secret]")
    }
}
impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Integer(i64),
            Natural(u64),
            Float(f64),
            Bool(bool),
        }
        Ok(Self::new(match Form::deserialize(d)? {
            Form::Text(text) => text,
            Form::Integer(number) => number.to_string(),
            Form::Natural(number) => number.to_string(),
            Form::Float(number) => number.to_string(),
            Form::Bool(value) => value.to_string(),
        }))
    }
}

/// The secret of a setting, from its value or its file.
pub(crate) fn resolve(key: &str, value: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>, ConfigError> {
    match (value, file) {
        (Some(_), Some(_)) => Err(ConfigError::one(format!("{key}: give either {key} or {key}_file"))),
        (Some(value), None) => Ok(Some(value.clone())),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| ConfigError::one(format!("{key}_file: {} cannot be read: {error}", file.display())))?;
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                Err(ConfigError::one(format!("{key}_file: {} is empty", file.display())))
            } else {
                Ok(Some(Secret::new(text)))
            }
        }
        (None, None) => Ok(None),
    }
}
