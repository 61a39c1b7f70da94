//! What programs are shown of rows and events: as JSON, with sensitive values masked.

pub(crate) mod ask;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod mask;
pub(crate) mod rows;
