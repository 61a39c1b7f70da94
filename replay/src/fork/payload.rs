use std::io::{Cursor, Read};

use rmp::{Marker, decode, encode};
use tasklog_log::Position;

/// How deep maps and lists of a payload are nested at most.
const DEPTH_MAX: usize = 8;

/// A payload with the members of these names, however deep, moved to other positions; everything else stays byte for byte.
///
/// # Errors
/// A sentence, for bytes that are no payload.
pub(super) fn with_positions(
    payload: &[u8],
    names: &[&str],
    moved: &dyn Fn(Position) -> Position,
) -> Result<Vec<u8>, String> {
    let mut input = Cursor::new(payload);
    let mut out = Vec::with_capacity(payload.len() + 8);
    copy(&mut input, &mut out, &Names { names, moved }, 0)?;
    if input.position() == payload.len() as u64 { Ok(out) } else { Err("its payload goes on after its end".into()) }
}

struct Names<'a> {
    names: &'a [&'a str],
    moved: &'a dyn Fn(Position) -> Position,
}

fn copy(input: &mut Cursor<&[u8]>, out: &mut Vec<u8>, names: &Names<'_>, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("its payload is nested more than {DEPTH_MAX} deep"));
    }
    let begin = input.position();
    let marker = decode::read_marker(input).map_err(|_| ended())?;
    let length = match marker {
        Marker::FixMap(length) | Marker::FixArray(length) => Some(u32::from(length)),
        Marker::Map16 | Marker::Array16 => Some(u32::from(u16::from_be_bytes(bytes(input)?))),
        Marker::Map32 | Marker::Array32 => Some(u32::from_be_bytes(bytes(input)?)),
        _ => None,
    };
    let Some(length) = length else {
        skip_scalar(input, marker)?;
        return keep(input, out, begin);
    };
    keep(input, out, begin)?;
    let is_map = matches!(marker, Marker::FixMap(_) | Marker::Map16 | Marker::Map32);
    for _ in 0..length {
        let mut names_position = false;
        if is_map {
            let begin = input.position();
            let marker = decode::read_marker(input).map_err(|_| ended())?;
            skip_scalar(input, marker)?;
            let name = &input.get_ref()[begin as usize..input.position() as usize];
            names_position =
                names.names.iter().any(|known| name.ends_with(known.as_bytes()) && text(name) == Some(known));
            keep(input, out, begin)?;
        }
        if names_position && !is_nil(input) {
            let old: i64 = decode::read_int(input).map_err(|error| format!("a position in its payload: {error}"))?;
            let new = Position::from_i64(old).map_or(old, |old| (names.moved)(old).to_i64());
            encode::write_sint(out, new).map_err(|error| error.to_string())?;
        } else {
            copy(input, out, names, depth + 1)?;
        }
    }
    Ok(())
}

/// The text of a string as it is encoded.
fn text(encoded: &[u8]) -> Option<&str> {
    decode::read_str_from_slice(encoded).ok().map(|(text, _)| text)
}

fn is_nil(input: &Cursor<&[u8]>) -> bool {
    input.get_ref().get(input.position() as usize) == Some(&Marker::Null.to_u8())
}

fn ended() -> String {
    "its payload ends too early".into()
}

fn bytes<const N: usize>(input: &mut Cursor<&[u8]>) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(|_| ended())?;
    Ok(bytes)
}

/// Takes over what was read since `begin`.
fn keep(input: &Cursor<&[u8]>, out: &mut Vec<u8>, begin: u64) -> Result<(), String> {
    let read = input.get_ref().get(begin as usize..input.position() as usize).ok_or_else(ended)?;
    out.extend_from_slice(read);
    Ok(())
}

/// Moves beyond a value that has no others in it.
fn skip_scalar(input: &mut Cursor<&[u8]>, marker: Marker) -> Result<(), String> {
    let length = match marker {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 0,
        Marker::U8 | Marker::I8 => 1,
        Marker::U16 | Marker::I16 => 2,
        Marker::U32 | Marker::I32 | Marker::F32 => 4,
        Marker::U64 | Marker::I64 | Marker::F64 => 8,
        Marker::FixStr(length) => u64::from(length),
        Marker::Str8 | Marker::Bin8 => u64::from(bytes::<1>(input)?[0]),
        Marker::Str16 | Marker::Bin16 => u64::from(u16::from_be_bytes(bytes(input)?)),
        Marker::Str32 | Marker::Bin32 => u64::from(u32::from_be_bytes(bytes(input)?)),
        other => return Err(format!("its payload holds {other:?}")),
    };
    let end = input.position() + length;
    if end > input.get_ref().len() as u64 {
        return Err(ended());
    }
    input.set_position(end);
    Ok(())
}
