//! The write side and the queries, one file per table.

pub mod admin_sessions;
pub mod aliases;
pub mod canaries;
pub mod canary_runs;
pub mod cdc_cursors;
pub mod idempotency_cache;
pub mod jobs;
pub mod leader_lease;
mod living;
pub mod node_settings_version;
pub mod rollover_policies;
pub mod search_ui_config;
pub mod sessions;
pub mod tasks;
pub mod tenant_map;

use tasklog_projections::{PROJECTED, TableDef};

use crate::{command::CommandDef, query::QueryDef};

/// A table's commands and queries.
#[derive(Clone, Copy)]
pub struct TableSide {
    /// The table they are about.
    pub table: &'static TableDef,
    /// In the order of the specification.
    pub commands: &'static [CommandDef],
    /// In the order of the specification.
    pub queries: &'static [QueryDef],
}

/// Every table, in the order of the specification.
pub static SIDES: [&TableSide; 14] = [
    &tasks::SIDE,
    &node_settings_version::SIDE,
    &aliases::SIDE,
    &sessions::SIDE,
    &idempotency_cache::SIDE,
    &jobs::SIDE,
    &leader_lease::SIDE,
    &canaries::SIDE,
    &canary_runs::SIDE,
    &cdc_cursors::SIDE,
    &tenant_map::SIDE,
    &rollover_policies::SIDE,
    &search_ui_config::SIDE,
    &admin_sessions::SIDE,
];

/// A command by its name.
#[must_use]
pub fn command(name: &str) -> Option<&'static CommandDef> {
    SIDES.iter().flat_map(|side| side.commands).find(|command| command.name == name)
}

/// A query by its name.
#[must_use]
pub fn query(name: &str) -> Option<&'static QueryDef> {
    SIDES.iter().flat_map(|side| side.queries).find(|query| query.name == name)
}

/// A table's place in [`PROJECTED`].
pub(crate) fn place(table: &TableDef) -> usize {
    PROJECTED.iter().position(|known| std::ptr::eq(*known, table)).unwrap_or_default()
}

/// Declares a table's handle and its side of the catalogue in one go.
macro_rules! side {
    ($(#[$meta:meta])* pub struct $handle:ident for $table:path as $accessor:ident {
        commands { $($command:ident($command_type:ty)),* $(,)? }
        queries { $($query:ident($query_type:ty)),* $(,)? }
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub struct $handle<'s>(pub(crate) &'s $crate::store::TaskStore);

        impl $crate::store::TaskStore {
            $(#[$meta])*
            #[must_use]
            pub fn $accessor(&self) -> $handle<'_> {
                $handle(self)
            }
        }

        impl $handle<'_> {
            $(
                #[doc = concat!("See [`", stringify!($command_type), "`].")]
                ///
                /// # Errors
                /// The command's rejections, and the store's errors.
                pub async fn $command(
                    &self,
                    command: $command_type,
                ) -> Result<$crate::command::Reply<<$command_type as $crate::command::Command>::Answer>, $crate::rejection::Error> {
                    self.0.run(command).await
                }
            )*
            $(
                #[doc = concat!("See [`", stringify!($query_type), "`].")]
                ///
                /// # Errors
                /// `invalid` arguments, and the store's errors.
                pub fn $query(
                    &self,
                    query: $query_type,
                ) -> Result<<$query_type as $crate::query::Query>::Answer, $crate::rejection::Error> {
                    self.0.ask(&query)
                }
            )*
        }

        /// The table's commands and queries in the catalogue.
        pub static SIDE: $crate::tables::TableSide = $crate::tables::TableSide {
            table: &$table,
            commands: &[$($crate::command::CommandDef::of::<$command_type>()),*],
            queries: &[$($crate::query::QueryDef::of::<$query_type>()),*],
        };
    };
}
pub(crate) use side;

/// An answer that adds nothing to what every reply says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Nothing {}
