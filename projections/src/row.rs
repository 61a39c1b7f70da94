use std::{any::Any, fmt::Debug, sync::Arc};

use tasklog_log::Millis;

use crate::{Cell, Cells, Column};

/// The row of one table, typed. Declared with [`crate::row!`].
pub trait Row: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// In the order of the table's specification; key columns first.
    const COLUMNS: &'static [Column];
    /// The column that holds the instant of death.
    const DIES_AT: Option<&'static str> = None;
    /// The values, in the order of the columns.
    fn cells(&self) -> Vec<Cell<'_>>;
    /// The value of one column; NULL beyond the last one.
    fn cell(&self, index: usize) -> Cell<'_>;
    /// The columns in which two rows differ, as a bit set by their places.
    fn differs(&self, other: &Self) -> u64;
    /// From the values.
    ///
    /// # Errors
    /// A sentence: which column, what was expected, what was found.
    fn from_cells(cells: &dyn Cells) -> Result<Self, String>;
    /// The row key.
    fn key(&self) -> String;
    /// The instant of death, for rows that die by time.
    fn dies_at(&self) -> Option<Millis> {
        None
    }
}

/// A row whose table is known at run time only.
pub trait RowObject: Any + Debug + Send + Sync {
    /// The values, in the order of the columns.
    fn cells(&self) -> Vec<Cell<'_>>;
    /// The row key.
    fn key(&self) -> String;
    /// The instant of death, for rows that die by time.
    fn dies_at(&self) -> Option<Millis>;
    /// The value of one column; NULL beyond the last one.
    fn cell(&self, index: usize) -> Cell<'_>;
    /// The columns in which two rows differ, as a bit set by their places; all of them for rows of different tables.
    fn differs(&self, other: &dyn RowObject) -> u64;
}

/// A shared row of any table.
pub type AnyRow = Arc<dyn RowObject>;

impl dyn RowObject {
    /// Live while `now < dies_at`.
    #[must_use]
    pub fn is_live(&self, now: Millis) -> bool {
        self.dies_at().is_none_or(|end| now < end)
    }
}

impl<R: Row> RowObject for R {
    fn cells(&self) -> Vec<Cell<'_>> {
        Row::cells(self)
    }
    fn key(&self) -> String {
        Row::key(self)
    }
    fn dies_at(&self) -> Option<Millis> {
        Row::dies_at(self)
    }
    fn cell(&self, index: usize) -> Cell<'_> {
        Row::cell(self, index)
    }
    fn differs(&self, other: &dyn RowObject) -> u64 {
        (other as &dyn Any).downcast_ref::<R>().map_or(u64::MAX, |other| Row::differs(self, other))
    }
}

/// Declares a table's row: a struct with public fields and its columns.
///
/// ```
/// tasklog_projections::row! {
///     /// One row a lamp.
///     pub struct LampRow {
///         key {
///             /// which lamp
///             lamp_id: String,
///         }
///         /// ms: when it was switched on
///         on_since: Option<i64>,
///     }
/// }
/// use tasklog_projections::Row;
/// assert_eq!(LampRow::COLUMNS[1].name, "on_since");
/// assert!(LampRow::COLUMNS[1].nullable);
/// ```
/// A second form, `dies at COLUMN`, marks the column that holds the instant of death.
#[macro_export]
macro_rules! row {
    ($(#[$meta:meta])* pub struct $name:ident $(dies at $dies:ident)? {
        key { $($(#[$kmeta:meta])* $kfield:ident: $kty:ty),+ $(,)? }
        $($(#[$fmeta:meta])* $field:ident: $ty:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$kmeta])* pub $kfield: $kty,)+
            $($(#[$fmeta])* pub $field: $ty,)*
        }

        impl $crate::Row for $name {
            const COLUMNS: &'static [$crate::Column] = &[
                $($crate::Column {
                    name: $crate::column_name(stringify!($kfield)), kind: <$kty as $crate::Field>::KIND,
                    nullable: <$kty as $crate::Field>::NULLABLE, key: true,
                },)+
                $($crate::Column {
                    name: $crate::column_name(stringify!($field)), kind: <$ty as $crate::Field>::KIND,
                    nullable: <$ty as $crate::Field>::NULLABLE, key: false,
                },)*
            ];

            $(const DIES_AT: Option<&'static str> = Some(stringify!($dies));)?

            fn cells(&self) -> Vec<$crate::Cell<'_>> {
                vec![
                    $($crate::Field::to_cell(&self.$kfield),)+
                    $($crate::Field::to_cell(&self.$field),)*
                ]
            }

            fn cell(&self, index: usize) -> $crate::Cell<'_> {
                let mut next = 0_usize..;
                $(if next.next() == Some(index) {
                    return $crate::Field::to_cell(&self.$kfield);
                })+
                $(if next.next() == Some(index) {
                    return $crate::Field::to_cell(&self.$field);
                })*
                $crate::Cell::Null
            }

            fn differs(&self, other: &Self) -> u64 {
                let differs = [
                    $(self.$kfield != other.$kfield,)+
                    $(self.$field != other.$field,)*
                ];
                differs.iter().rev().fold(0, |bits, differs| bits << 1 | u64::from(*differs))
            }

            fn from_cells(cells: &dyn $crate::Cells) -> Result<Self, String> {
                let mut next = 0_usize..;
                let mut index = || next.next().unwrap_or_default();
                Ok(Self {
                    $($kfield: cells.cell(index()).and_then(<$kty as $crate::Field>::from_cell)
                        .map_err(|why| format!("column {}: {why}", stringify!($kfield)))?,)+
                    $($field: cells.cell(index()).and_then(<$ty as $crate::Field>::from_cell)
                        .map_err(|why| format!("column {}: {why}", stringify!($field)))?,)*
                })
            }

            fn key(&self) -> String {
                $crate::row_key!(self $($kfield)+)
            }

            $(fn dies_at(&self) -> Option<i64> {
                Some(self.$dies)
            })?
        }
    };
}

/// The column of a field: a field whose name is a Rust keyword is written `r#type`.
#[doc(hidden)]
#[must_use]
pub const fn column_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// The row key of one or two key columns.
#[doc(hidden)]
#[macro_export]
macro_rules! row_key {
    ($self:ident $a:ident) => {
        $crate::KeyPart::key_part(&$self.$a).into_owned()
    };
    ($self:ident $a:ident $b:ident) => {
        $crate::pair(&$crate::KeyPart::key_part(&$self.$a), &$crate::KeyPart::key_part(&$self.$b))
    };
}

/// A column type that can be part of a row key.
pub trait KeyPart: Sized {
    /// As it stands in a key.
    fn key_part(&self) -> std::borrow::Cow<'_, str>;
    /// From a key.
    ///
    /// # Errors
    /// A sentence: what was expected, what was found.
    fn from_key_part(text: &str) -> Result<Self, String>;
}

impl KeyPart for String {
    fn key_part(&self) -> std::borrow::Cow<'_, str> {
        self.into()
    }
    fn from_key_part(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl KeyPart for i64 {
    fn key_part(&self) -> std::borrow::Cow<'_, str> {
        self.to_string().into()
    }
    fn from_key_part(text: &str) -> Result<Self, String> {
        let value: Self = text.parse().map_err(|_| format!("expected a decimal integer, found {text:?}"))?;
        // One value, one key: no plus sign, no leading zeros.
        if value.to_string() == text { Ok(value) } else { Err(format!("expected a plain decimal, found {text:?}")) }
    }
}

impl KeyPart for crate::Hash32 {
    fn key_part(&self) -> std::borrow::Cow<'_, str> {
        self.to_hex().into()
    }
    fn from_key_part(text: &str) -> Result<Self, String> {
        Self::from_hex(text)
    }
}
