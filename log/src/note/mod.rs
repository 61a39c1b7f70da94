//! Signed statements about a log, in the text formats of the C2SP: notes that are signed with Ed25519 (`signed-note`), and
//! the note that states a tree's size and root (`tlog-checkpoint`). Other programs read and make the same texts.
//!
//! ```text
//! tasklog/0199e0f2-6c1b-7c44-9d2e-6f0d7f3b8a11     origin: tasklog/<log id>
//! 33                                               size: events of the tree
//! GXRoI25iDbHvGsKZ2vVbJGKLWz5VDyyfXVGWlcX0a8I=     root, base64
//! epoch 1                                          extension lines, if any
//!                                                  (an empty line)
//! — ops.example.com aBcD…                          signatures: name, base64 of 4 bytes of key hash and the signature
//! ```

mod key;
mod signed;
mod tree_head;

pub use key::{KeyError, PrivateKey, VerifierKey};
pub use signed::{NOTE_BYTES_MAX, Note, NoteError, Signature};
pub use tree_head::{ORIGIN_PREFIX, TreeHead, TreeHeadError};
