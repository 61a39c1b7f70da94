//! Numbers and columns as segments hold them: LEB128, and byte strings that are compressed where that makes them smaller.

use crate::Position;

/// The level at which columns are compressed. Archiving is not in a hurry, and reading costs the same at every level.
const ZSTD_LEVEL: i32 = 12;
/// Shorter columns are left as they are: a frame has about a dozen bytes of its own.
const PACKED_BYTES_MIN: usize = 64;
/// No column is larger than this when it is unpacked: a block has a bounded number of events, and a commit a bounded
/// number of bytes.
pub(super) const COLUMN_BYTES_MAX: usize = 256 << 20;
/// A column as it is.
const PLAIN: u8 = 0;
/// A column as one zstd frame.
const ZSTD: u8 = 1;

/// Bytes that are no block.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Appends a number: seven bits a byte, the lowest first, the highest bit set on all but the last.
pub(super) fn put_number(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Appends a signed number: 0, -1, 1, -2, … as 0, 1, 2, 3, …
pub(super) fn put_signed(into: &mut Vec<u8>, value: i64) {
    put_number(into, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a text with its length in front.
pub(super) fn put_text(into: &mut Vec<u8>, text: &[u8]) {
    put_number(into, text.len() as u64);
    into.extend_from_slice(text);
}

/// Takes numbers and bytes off the front of a slice.
#[derive(Clone, Copy)]
pub(super) struct Taker<'b>(pub(super) &'b [u8]);

impl<'b> Taker<'b> {
    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed("it ends within a number"))?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            value |= bits << shift;
            if (bits << shift) >> shift != bits {
                break;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number has more than 64 bits"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A number that counts things of which there cannot be more than `max`.
    pub(super) fn count(&mut self, max: usize) -> Result<usize, Malformed> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= max).ok_or(Malformed("a count is too large"))
    }

    pub(super) fn position(&mut self) -> Result<Position, Malformed> {
        Ok(Position(self.number()?))
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'b [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'b str, Malformed> {
        let length = self.count(self.0.len())?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes are left over")) }
    }
}

/// Packs columns.
pub(super) struct Packer(zstd::bulk::Compressor<'static>);

impl Packer {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(zstd::bulk::Compressor::new(ZSTD_LEVEL)?))
    }

    /// Appends `column`: how it is packed, the length of what is packed, the length that is stored if that is another one,
    /// and the bytes.
    pub(super) fn put(&mut self, into: &mut Vec<u8>, column: &[u8]) -> std::io::Result<()> {
        if column.len() >= PACKED_BYTES_MIN {
            let packed = self.0.compress(column)?;
            if packed.len() < column.len() {
                into.push(ZSTD);
                put_number(into, column.len() as u64);
                put_text(into, &packed);
                return Ok(());
            }
        }
        into.push(PLAIN);
        put_text(into, column);
        Ok(())
    }
}

/// Unpacks columns.
pub(super) struct Unpacker(zstd::bulk::Decompressor<'static>);

impl Unpacker {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(zstd::bulk::Decompressor::new()?))
    }

    /// Takes a column off the front.
    pub(super) fn take(&mut self, from: &mut Taker<'_>) -> Result<Vec<u8>, Malformed> {
        match from.bytes(1)? {
            [PLAIN] => {
                let length = from.count(from.0.len())?;
                Ok(from.bytes(length)?.to_vec())
            }
            [ZSTD] => {
                let length = from.count(COLUMN_BYTES_MAX)?;
                let stored = from.count(from.0.len())?;
                let column = self.0.decompress(from.bytes(stored)?, length);
                let column = column.map_err(|_| Malformed("a column does not decompress"))?;
                if column.len() == length { Ok(column) } else { Err(Malformed("a column has another length")) }
            }
            _ => Err(Malformed("a column is packed in an unknown way")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were_and_longer_ones_are_refused() {
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        let signed = [0, 1, -1, 63, -64, i64::MAX, i64::MIN];
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| put_number(&mut bytes, *number));
        signed.iter().for_each(|number| put_signed(&mut bytes, *number));
        let mut taker = Taker(&bytes);
        numbers.iter().for_each(|number| assert_eq!(taker.number().unwrap(), *number));
        signed.iter().for_each(|number| assert_eq!(taker.signed().unwrap(), *number));
        taker.end().unwrap();
        assert!(Taker(&[0xff; 9]).number().is_err());
        assert!(Taker(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).number().is_err());
    }

    #[test]
    fn columns_come_back_as_they_were() {
        let random: Vec<u8> = (0..200_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let (mut packer, mut unpacker) = (Packer::new().unwrap(), Unpacker::new().unwrap());
        for column in [&b""[..], &[7; 5_000], &random] {
            let mut bytes = Vec::new();
            packer.put(&mut bytes, column).unwrap();
            assert!(bytes.len() <= column.len() + 4);
            let mut taker = Taker(&bytes);
            assert_eq!(unpacker.take(&mut taker).unwrap(), column);
            taker.end().unwrap();
        }
    }
}
