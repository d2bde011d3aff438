//! What a certificate of the suite's own says.

/// What stands in it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) uris: Vec<String>,
    pub(crate) dns: Vec<String>,
    pub(crate) server: bool,
    pub(crate) client: bool,
    pub(crate) over: bool,
}
impl Plan {
    /// A leaf as it has to be.
    pub(crate) fn of(node: &str) -> Self {
        Self { uris: vec![node.to_owned()], dns: vec!["localhost".into()], server: true, client: true, over: false }
    }
}

/// What stands in it, and who answers for that.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) plan: Plan,
    /// Whose authority signed it.
    pub(crate) signed_by: String,
}
