//! Where audit records go besides the database.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where audit records go besides the database.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// `stdout`, `stderr` or `file:PATH`: one JSON line for each record. Absent = records are in the database alone.
    pub sink: Option<String>,
}

/// A place for the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSink {
    /// Standard output of the hub.
    Stdout,
    /// Standard error of the hub, where its log lines go too.
    Stderr,
    /// A file that is added to.
    File(PathBuf),
}

impl Audit {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        if let Some(sink) = &self.sink
            && parse(sink).is_none()
        {
            problems.push(format!("audit.sink: {sink:?} is none of stdout, stderr and file:PATH"));
        }
    }

    /// The place, if one is configured.
    #[must_use]
    pub fn sink(&self) -> Option<AuditSink> {
        self.sink.as_deref().and_then(parse)
    }
}

fn parse(text: &str) -> Option<AuditSink> {
    match text {
        "stdout" => Some(AuditSink::Stdout),
        "stderr" => Some(AuditSink::Stderr),
        _ => text.strip_prefix("file:").filter(|path| !path.is_empty()).map(|path| AuditSink::File(path.into())),
    }
}

#[cfg(test)]
mod tests {
    use crate::Settings;

    use super::*;

    #[test]
    fn a_sink_is_one_of_three() {
        let with = |sink: &str| Settings::from_layers(None, [("AGENTOS_AUDIT_SINK".to_owned(), sink.to_owned())], None);
        assert_eq!(with("stdout").unwrap().audit.sink(), Some(AuditSink::Stdout));
        assert_eq!(with("stderr").unwrap().audit.sink(), Some(AuditSink::Stderr));
        assert_eq!(with("file:/var/log/audit.jsonl").unwrap().audit.sink(), Some(AuditSink::File("/var/log/audit.jsonl".into())));
        assert_eq!(with("").unwrap().audit.sink(), None);
        for wrong in ["syslog", "file:", "/var/log/audit.jsonl"] {
            let error = with(wrong).unwrap_err().to_string();
            assert!(error.contains("audit.sink"), "{error}");
        }
    }
}
