//! Bodies that a peer compressed (its option `kombu_compression`), unpacked within a limit.
//!
//! The two that kombu has wherever it is installed and whose unpacking needs little memory whatever the input says. Not lzma, whose input
//! chooses how much memory that takes (up to 4 GiB), nor brotli and zstd, for which a peer must install more than oslo.messaging brings.

use std::io::Read;

use super::envelope::Refusal;
use crate::text::display_safe;

/// How a body was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    /// Despite its name (`application/x-gzip`) what Python's `zlib.compress` makes.
    Zlib,
    Bzip2,
}

impl Codec {
    /// By kombu's content types and its other names for them.
    fn from_header(name: &str) -> Option<Self> {
        match name {
            "application/x-gzip" | "gzip" | "zlib" => Some(Self::Zlib),
            "application/x-bz2" | "bzip2" | "bzip" | "bz2" => Some(Self::Bzip2),
            _ => None,
        }
    }
}

/// Unpacks `body` as the header `compression` says, to at most `limit` bytes. No more than that is ever produced, however small the body.
pub(crate) fn unpack(header: &str, body: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
    match Codec::from_header(header) {
        Some(Codec::Zlib) => read_within(flate2::read::ZlibDecoder::new(body), limit),
        Some(Codec::Bzip2) => read_within(bzip2::read::MultiBzDecoder::new(body), limit),
        None => {
            let detail = format!("its compression {} is not supported; gzip and bzip2 are", display_safe(header));
            Err(Refusal::new("compression", detail))
        }
    }
}

fn read_within(unpacked: impl Read, limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    unpacked
        .take(most)
        .read_to_end(&mut out)
        .map_err(|_| Refusal::new("compression", "its compressed body is damaged"))?;
    if out.len() > limit {
        let detail = format!("it unpacks to more than the limit of {limit} bytes; send less at a time");
        return Err(Refusal::new("too_large", detail));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const LIMIT: usize = 1 << 20;

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(plain: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_kombu_packs_is_unpacked() {
        let plain = b"{\"a\": 1}".repeat(1000);
        assert_eq!(unpack("application/x-gzip", &zlib(&plain), LIMIT), Ok(plain.clone()));
        assert_eq!(unpack("application/x-bz2", &bzip2(&plain), LIMIT), Ok(plain.clone()));
        // Python's bz2.decompress reads several streams in a row as one.
        assert_eq!(unpack("application/x-bz2", &[bzip2(&plain), bzip2(&plain)].concat(), LIMIT), Ok(plain.repeat(2)));
        assert_eq!(unpack("application/x-gzip", &zlib(&vec![b' '; LIMIT]), LIMIT).unwrap().len(), LIMIT);
    }

    #[test]
    fn no_more_is_unpacked_than_may_be_kept() {
        /// Gives spaces without end and counts them.
        struct Endless<'a>(&'a mut usize);
        impl Read for Endless<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                // An end after all, so that this test fails instead of eating the memory.
                let given = if *self.0 > 64 * LIMIT { 0 } else { buffer.len() };
                buffer.fill(b' ');
                *self.0 += given;
                Ok(given)
            }
        }
        let mut produced = 0;
        assert_eq!(read_within(Endless(&mut produced), LIMIT).unwrap_err().reason, "too_large");
        assert!(produced <= LIMIT + 1, "{produced}");
    }

    #[test]
    fn bombs_damage_and_unknown_codecs_are_refused() {
        let bombs = [("gzip", zlib(&vec![b' '; 50 * LIMIT])), ("bzip2", bzip2(&vec![b' '; 50 * LIMIT]))];
        for (header, bomb) in &bombs {
            assert!(bomb.len() < LIMIT / 10, "{}", bomb.len());
            assert_eq!(unpack(header, bomb, LIMIT).unwrap_err().reason, "too_large", "{header}");
            assert_eq!(unpack(header, b"nonsense", LIMIT).unwrap_err().reason, "compression", "{header}");
            let cut = bomb.get(..bomb.len() / 2).unwrap();
            assert!(unpack(header, cut, 100 * LIMIT).is_err(), "{header}");
        }
        for unknown in ["application/x-lzma", "application/zstd", "application/x-brotli", "\u{1b}[2J"] {
            let refusal = unpack(unknown, b"x", LIMIT).unwrap_err();
            assert_eq!(refusal.reason, "compression");
            assert!(!refusal.detail.contains('\u{1b}'));
        }
    }

    proptest! {
        #[test]
        fn any_body_is_judged_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for header in ["gzip", "bzip2"] {
                let _ = unpack(header, &body, LIMIT);
                let packed = [&b"BZh9"[..], &body].concat();
                let _ = unpack(header, &packed, LIMIT);
            }
        }
    }
}
