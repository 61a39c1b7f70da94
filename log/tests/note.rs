//! Notes and checkpoints as other programs write them.
#![allow(clippy::unwrap_used, missing_docs)]

use tasklog_log::{
    LogInfo,
    merkle::Hash,
    note::{KeyError, Note, NoteError, PrivateKey, TreeHead, VerifierKey},
};
use uuid::Uuid;

/// The example of the documentation of golang.org/x/mod/sumdb/note.
const PRIVATE: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const VERIFIER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const SIGNED: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\
    \n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn the_known_note_is_signed_and_verified() {
    let key: PrivateKey = PRIVATE.parse().unwrap();
    assert_eq!(key.verifier().to_string(), VERIFIER);
    assert_eq!(key.to_secret_text(), PRIVATE);
    let mut note = Note::new(TEXT).unwrap();
    note.sign(&key);
    assert_eq!(note.to_string(), SIGNED);
    let read: Note = SIGNED.parse().unwrap();
    assert_eq!(read, note);
    assert_eq!(read.verify(&VERIFIER.parse().unwrap()), Ok(()));
}

#[test]
fn a_changed_text_and_a_foreign_signature_are_refused_with_a_reason() {
    let key: VerifierKey = VERIFIER.parse().unwrap();
    let changed: Note = SIGNED.replace("problem is", "solution is").parse().unwrap();
    assert_eq!(changed.verify(&key), Err(NoteError::Forged { name: "PeterNeumann".into() }));
    let cut: Note = SIGNED.replace("JnAM=", "JnAA=").parse().unwrap();
    assert_eq!(cut.verify(&key), Err(NoteError::Forged { name: "PeterNeumann".into() }));
    let other = PrivateKey::from_seed("other", &[7; 32]).unwrap();
    let mut note = Note::new(TEXT).unwrap();
    assert!(note.verify(&key).unwrap_err().to_string().ends_with("it is not signed"));
    note.sign(&other);
    assert!(note.verify(&key).unwrap_err().to_string().ends_with("it is signed by other"));
    // The same name over another key is another key.
    let impostor = PrivateKey::from_seed("PeterNeumann", &[7; 32]).unwrap();
    note.sign(&impostor);
    assert!(matches!(note.verify(&key), Err(NoteError::Unsigned { .. })));
    note.sign(&PRIVATE.parse().unwrap());
    assert_eq!(note.to_string().parse::<Note>().unwrap().verify(&key), Ok(()));
}

#[test]
fn texts_that_are_no_notes_or_keys_are_refused() {
    for text in ["", "no end", "text\n\nno signature\n", "text\n\n— name\n", "text\n\n— name AAAA\n", "a\tb\n"] {
        assert!(text.parse::<Note>().is_err(), "{text:?}");
    }
    assert_eq!(VERIFIER.replace("c74f20a3", "c74f20a4").parse::<VerifierKey>(), Err(KeyError::Hash));
    assert_eq!(VERIFIER.replace("+AR", "+BR").parse::<VerifierKey>(), Err(KeyError::Algorithm));
    assert_eq!("a+b".parse::<VerifierKey>(), Err(KeyError::Verifier));
    assert_eq!(VERIFIER.parse::<PrivateKey>().unwrap_err(), KeyError::Private);
    assert_eq!(PrivateKey::from_seed("two words", &[0; 32]).unwrap_err(), KeyError::Name);
}

#[test]
fn a_secret_is_not_shown_by_debug() {
    let key: PrivateKey = PRIVATE.parse().unwrap();
    assert!(!format!("{key:?}").contains("AYEKFALVFGyNhPJEMzD1QIDr"));
}

#[test]
fn a_checkpoint_states_log_size_root_and_epoch() {
    let log = LogInfo { id: Uuid::from_u128(5), epoch: 2 };
    let head = TreeHead::new(log, 0, Hash::of_nothing());
    let text =
        "tasklog/00000000-0000-0000-0000-000000000005\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nepoch 2\n";
    assert_eq!(head.to_string(), text);
    let read: TreeHead = text.parse().unwrap();
    assert_eq!((read.log_id(), read.epoch()), (Some(log.id), Some(2)));
    assert_eq!(read, head);
}

#[test]
fn a_checkpoint_of_another_log_is_read_and_one_that_is_none_names_its_line() {
    let other = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let read: TreeHead = other.parse().unwrap();
    assert_eq!((read.size, read.log_id(), read.epoch()), (20_852_163, None, None));
    assert_eq!(read.to_string(), other);
    for (text, line) in [
        ("\n1\n", 1),
        ("o\n01\n", 2),
        ("o\n+1\n", 2),
        ("o\n", 2),
        ("o\n1\nAAAA\n", 3),
        ("o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nepoch 1\n\n", 5),
    ] {
        let error = text.parse::<TreeHead>().unwrap_err().to_string();
        assert!(error.contains(&format!("line {line}:")), "{text:?}: {error}");
    }
}
