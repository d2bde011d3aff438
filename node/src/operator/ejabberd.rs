//! A private ejabberd beside the hub, as an alternative to Prosody.
