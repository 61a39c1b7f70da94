use schemars::Schema;

/// One type of event, as the catalogue lists it.
#[derive(Clone, Copy)]
pub struct EventType {
    /// snake_case, past tense, unique across tables.
    pub name: &'static str,
    /// The newest version this program writes; older ones are upcast, newer ones refused.
    pub version: u32,
    /// JSON Schema of the payload.
    pub schema: fn() -> Schema,
}

impl std::fmt::Debug for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

/// Why bytes are not an event of a table.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The table has no such event.
    #[error("unknown event type {0:?}")]
    UnknownType(String),
    /// The event was written by a newer program.
    #[error("event type {name:?} has version {found}, this program knows {known}")]
    NewerVersion {
        /// The type.
        name: &'static str,
        /// In the log.
        found: u32,
        /// In the program.
        known: u32,
    },
    /// The payload is not what the type says.
    #[error("payload of {name:?}: {source}")]
    Payload {
        /// The type.
        name: &'static str,
        /// What is wrong.
        #[source]
        source: rmp_serde::decode::Error,
    },
}

/// The events of one table. Declared with [`crate::events!`].
pub trait TableEvent: Sized + Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Every type, in the order of the table's specification.
    const TYPES: &'static [EventType];
    /// The type of this event.
    fn event_type(&self) -> &'static EventType;
    /// The payload: a MessagePack map with field names.
    fn encode(&self) -> Vec<u8>;
    /// The payload as the text of a JSON object, for people and tools.
    fn to_json(&self) -> String;
    /// From a log.
    ///
    /// # Errors
    /// [`DecodeError`]; never a panic, whatever the bytes.
    fn decode(event_type: &str, version: u32, payload: &[u8]) -> Result<Self, DecodeError>;
}

/// Declares the events of a table: one struct per payload, and one enum over them.
///
/// ```
/// tasklog_projections::events! {
///     /// What happens to lamps.
///     pub enum LampEvent {
///         /// It was switched on.
///         "lamp_switched_on" v1 => LampSwitchedOn {
///             /// ms
///             at: i64,
///             /// by whom, if known
///             by: Option<String>,
///         },
///     }
/// }
/// use tasklog_projections::TableEvent;
/// let event = LampEvent::LampSwitchedOn(LampSwitchedOn { at: 5, by: None });
/// let bytes = event.encode();
/// assert_eq!(bytes, b"\x81\xa2at\x05");
/// assert!(LampEvent::decode("lamp_switched_on", 1, &bytes).is_ok());
/// assert!(LampEvent::decode("lamp_switched_on", 2, &bytes).is_err());
/// ```
/// An absent optional field is left out of the payload; unknown fields are ignored.
#[macro_export]
macro_rules! events {
    ($(#[$meta:meta])* pub enum $enum:ident {
        $($(#[$vmeta:meta])* $word:literal $version:ident => $name:ident {
            $($(#[$fmeta:meta])* $field:ident: $ty:ty),* $(,)?
        }),+ $(,)?
    }) => {
        $(
            $(#[$vmeta])*
            #[serde_with::skip_serializing_none]
            #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
            pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }

            impl From<$name> for $enum {
                fn from(event: $name) -> Self {
                    Self::$name(event)
                }
            }
        )+

        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $enum { $($(#[$vmeta])* $name($name)),+ }

        impl $crate::TableEvent for $enum {
            const TYPES: &'static [$crate::EventType] = &[
                $($crate::EventType {
                    name: $word,
                    version: $crate::event_version!($version),
                    schema: || schemars::schema_for!($name),
                }),+
            ];

            fn event_type(&self) -> &'static $crate::EventType {
                let name = match self { $(Self::$name(_) => $word),+ };
                Self::TYPES.iter().find(|known| known.name == name).unwrap_or(&Self::TYPES[0])
            }

            fn encode(&self) -> Vec<u8> {
                match self {
                    // Payload structs hold maps with string keys, texts and integers: MessagePack has a form for each.
                    $(Self::$name(payload) => rmp_serde::to_vec_named(payload).expect("a payload is encodable"),)+
                }
            }

            fn to_json(&self) -> String {
                match self {
                    $(Self::$name(payload) => $crate::to_json(payload),)+
                }
            }

            fn decode(event_type: &str, version: u32, payload: &[u8]) -> Result<Self, $crate::DecodeError> {
                match event_type {
                    $($word => {
                        const KNOWN: u32 = $crate::event_version!($version);
                        if version > KNOWN {
                            return Err($crate::DecodeError::NewerVersion { name: $word, found: version, known: KNOWN });
                        }
                        rmp_serde::from_slice::<$name>(payload)
                            .map(Self::$name)
                            .map_err(|source| $crate::DecodeError::Payload { name: $word, source })
                    })+
                    other => Err($crate::DecodeError::UnknownType(other.into())),
                }
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! event_version {
    (v1) => {
        1
    };
    (v2) => {
        2
    };
    (v3) => {
        3
    };
}

/// A payload as JSON text. Values that pass through keep their spelling.
#[doc(hidden)]
pub fn to_json<T: serde::Serialize>(payload: &T) -> String {
    // Payloads have string keys and plain values; a JSON text that no longer parses can only come from damaged bytes.
    serde_json::to_string(payload).unwrap_or_else(|_| "null".into())
}
