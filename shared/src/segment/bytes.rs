//! Numbers as bytes, and bytes compressed.

use super::{Failed, Result};
use fixedbitset::FixedBitSet;
use std::borrow::Cow;

/// Bytes that are kept as they are.
const RAW: u8 = 0;
/// Bytes compressed as a block of LZ4.
const LZ4: u8 = 1;

/// Appends a number, seven bits a byte, the lowest first (LEB128).
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Appends a number that may be negative.
pub(super) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put(bytes, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// Appends numbers of which the largest is known, each in as few bytes as that one takes.
pub(super) fn put_all(bytes: &mut Vec<u8>, numbers: &[u32], largest: u32) {
    let width = if largest <= 0xff {
        1
    } else if largest <= 0xffff {
        2
    } else {
        4
    };
    bytes.push(width);
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()[..usize::from(width)]));
}

/// Appends numbers that do not fall: how much more each is than the one before.
pub(super) fn put_rising(bytes: &mut Vec<u8>, numbers: impl Iterator<Item = u32>) {
    let mut before = 0;
    for number in numbers {
        put(bytes, u64::from(number - before));
        before = number;
    }
}

/// What is read from the front of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(Failed::Damaged)?;
        self.0 = rest;
        Ok(front)
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Failed::Damaged)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Failed::Damaged)
    }

    pub(super) fn signed(&mut self) -> Result<i64> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A number that counts what is in memory.
    pub(super) fn count(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| Failed::Damaged)
    }

    pub(super) fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| Failed::Damaged)
    }

    /// So many numbers of [`put_all`].
    pub(super) fn all(&mut self, count: usize) -> Result<Numbers<'a>> {
        let width = self.take(1)?[0];
        let bytes = self.take(count.checked_mul(usize::from(width)).ok_or(Failed::Damaged)?)?;
        match width {
            1 => Ok(Numbers::One(bytes)),
            2 => Ok(Numbers::Two(bytes.as_chunks().0)),
            4 => Ok(Numbers::Four(bytes.as_chunks().0)),
            _ => Err(Failed::Damaged),
        }
    }

    /// Passes over so many numbers.
    pub(super) fn pass(&mut self, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            // No fewer bytes than numbers are left.
            let front = self.take(left)?;
            left -= front.iter().filter(|byte| **byte < 0x80).count();
        }
        Ok(())
    }

    /// So many numbers that do not fall, of [`put_rising`].
    pub(super) fn rising(&mut self, count: usize) -> Result<Vec<u32>> {
        let mut number = 0u32;
        let mut next = || {
            number = number.checked_add(self.small()?).ok_or(Failed::Damaged)?;
            Ok(number)
        };
        (0..count).map(|_| next()).collect()
    }
}

/// Numbers of [`put_rising`] that were [passed](Reader::pass) before, one after the other.
#[derive(Debug)]
pub(super) struct Rising<'a> {
    rest: Reader<'a>,
    number: Option<u32>,
}

impl<'a> Rising<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Rising<'a> {
        Rising { rest: Reader(bytes), number: Some(0) }
    }

    /// The next of them; `None` from one on that cannot be.
    pub(super) fn next(&mut self) -> Option<u32> {
        self.number = self.number.and_then(|before| before.checked_add(self.rest.small().ok()?));
        self.number
    }
}

/// Numbers of [`put_all`], as they are kept: in one, two or four bytes each.
#[derive(Debug, Clone, Copy)]
pub(super) enum Numbers<'a> {
    One(&'a [u8]),
    Two(&'a [[u8; 2]]),
    Four(&'a [[u8; 4]]),
}

impl Numbers<'_> {
    /// Calls for each of them, in order.
    pub(super) fn each(self, each: impl FnMut(u32)) {
        match self {
            Numbers::One(bytes) => bytes.iter().map(|byte| u32::from(*byte)).for_each(each),
            Numbers::Two(bytes) => bytes.iter().map(|two| u32::from(u16::from_le_bytes(*two))).for_each(each),
            Numbers::Four(bytes) => bytes.iter().map(|four| u32::from_le_bytes(*four)).for_each(each),
        }
    }

    pub(super) fn to_vec(self) -> Vec<u32> {
        let mut all = Vec::new();
        self.each(|number| all.push(number));
        all
    }

    /// Adds the places of those that pass.
    pub(super) fn add(self, passes: impl Fn(u32) -> bool, places: &mut FixedBitSet) {
        match self {
            Numbers::One(bytes) => add(bytes, |byte| passes(u32::from(*byte)), places),
            Numbers::Two(bytes) => add(bytes, |two| passes(u32::from(u16::from_le_bytes(*two))), places),
            Numbers::Four(bytes) => add(bytes, |four| passes(u32::from_le_bytes(*four)), places),
        }
    }
}

/// Adds the places of those that pass, 64 at a time.
fn add<T>(all: &[T], passes: impl Fn(&T) -> bool, places: &mut FixedBitSet) {
    const BITS: usize = usize::BITS as usize;
    for (block, some) in places.as_mut_slice().iter_mut().zip(all.chunks(BITS)) {
        *block |= some.iter().enumerate().fold(0, |bits, (n, one)| bits | usize::from(passes(one)) << n);
    }
}

/// Compresses bytes where that makes them fewer.
pub(super) fn packed(bytes: &[u8]) -> Vec<u8> {
    let compressed = lz4_flex::block::compress_prepend_size(bytes);
    let (kind, bytes) = if compressed.len() < bytes.len() { (LZ4, compressed.as_slice()) } else { (RAW, bytes) };
    [&[kind], bytes].concat()
}

/// What [`packed`] was given.
pub(super) fn unpacked(bytes: &[u8]) -> Result<Cow<'_, [u8]>> {
    match bytes.split_first() {
        Some((&RAW, bytes)) => Ok(bytes.into()),
        Some((&LZ4, bytes)) => {
            let (size, bytes) = lz4_flex::block::uncompressed_size(bytes).map_err(|_| Failed::Damaged)?;
            // A byte of LZ4 stands for 255 at most, and memory is taken at once for as many bytes as there are said to be.
            if size.div_ceil(255) > bytes.len() {
                return Err(Failed::Damaged);
            }
            lz4_flex::block::decompress(bytes, size).map(Cow::from).map_err(|_| Failed::Damaged)
        }
        _ => Err(Failed::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| put(&mut bytes, *number));
        [-1, 0, 1, i64::MIN, i64::MAX].iter().for_each(|number| put_signed(&mut bytes, *number));
        for largest in [0xff, 0xffff, u32::MAX] {
            put_all(&mut bytes, &[0, 7, largest], largest);
        }
        put_rising(&mut bytes, [3, 3, 500, u32::MAX].into_iter());
        let mut reader = Reader(&bytes);
        assert_eq!(numbers.map(|_| reader.number().expect("a number")), numbers);
        assert_eq!([(); 5].map(|()| reader.signed().expect("a number")), [-1, 0, 1, i64::MIN, i64::MAX]);
        for largest in [0xff, 0xffff, u32::MAX] {
            let numbers = reader.all(3).expect("numbers");
            assert_eq!(numbers.to_vec(), [0, 7, largest]);
            let mut places = FixedBitSet::with_capacity(3);
            numbers.add(|number| number != 7, &mut places);
            assert_eq!(places.ones().collect::<Vec<_>>(), [0, 2]);
        }
        let (mut rising, mut passed) = (Rising::new(reader.0), reader);
        assert_eq!([(); 5].map(|()| rising.next()), [Some(3), Some(3), Some(500), Some(u32::MAX), None]);
        passed.pass(4).expect("numbers");
        assert_eq!(reader.rising(4).expect("numbers"), [3, 3, 500, u32::MAX]);
        assert_eq!(passed.0, reader.0);
        assert_eq!(passed.pass(1), Err(Failed::Damaged));
        assert_eq!(reader.number(), Err(Failed::Damaged));
        assert_eq!(Reader(&[0xff; 20]).number(), Err(Failed::Damaged));
        assert_eq!(Reader(&[3, 0, 0, 0]).all(1).err(), Some(Failed::Damaged));
        assert_eq!(Reader(&[1, 0xff, 0xff, 0xff, 0xff, 0xf]).rising(2), Err(Failed::Damaged));
    }

    #[test]
    fn bytes_come_back_smaller_or_as_they_were() {
        let same = vec![7; 1 << 20];
        assert!(packed(&same).len() < 5_000);
        for bytes in [&same[..], b"", b"abc"] {
            assert_eq!(&*unpacked(&packed(bytes)).expect("bytes"), bytes);
            assert!(packed(bytes).len() <= bytes.len() + 1);
        }
        assert_eq!(unpacked(b""), Err(Failed::Damaged));
        assert_eq!(unpacked(&[LZ4, 200, 0, 0, 0, 1, 2]), Err(Failed::Damaged));
        assert_eq!(unpacked(&[9]), Err(Failed::Damaged));
        let one = [LZ4, 1, 0, 0, 0, 0x10, 7];
        assert_eq!(unpacked(&one).as_deref(), Ok(&[7][..]));
        // More than such bytes can be.
        assert_eq!(unpacked(&[LZ4, 0xff, 0xff, 0xff, 0xff, 0x10, 7]), Err(Failed::Damaged));
    }
}
