//! Bodies as they lie in the log: squeezed where that makes them smaller. A first byte below eight says how; no body of
//! the API begins with such a byte.

use std::cell::RefCell;
use std::io::Read as _;

/// The first byte of what is squeezed.
const SQUEEZED: u8 = 1;
/// The first byte of what is squeezed with an earlier text at hand.
const AFTER_TEXT: u8 = 2;
/// Below this the first byte is ours.
const OURS: u8 = 8;
/// The most that is let out of anything.
const MOST: u64 = 32 << 20;
const LEVEL: i32 = 3;
/// What is shorter is not worth the work.
const SHORT: usize = 256;

thread_local! {
    // Making one costs more than squeezing a message with it, or letting it out again.
    static SQUEEZER: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static OPENER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// What should be packed is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotPacked(String);

/// Packs a body. `after` is a text of which much may come again, and which whoever unpacks has at hand.
pub fn pack(body: &[u8], after: Option<&[u8]>) -> Vec<u8> {
    let ours = body.first().is_some_and(|byte| *byte < OURS);
    if body.len() < SHORT && after.is_none() && !ours {
        return body.to_vec();
    }
    let squeezed = match after {
        Some(text) => zstd::bulk::Compressor::with_dictionary(LEVEL, text)
            .and_then(|mut squeezer| squeezer.compress(body)),
        None => squeezed(body),
    };
    let first = if after.is_some() { AFTER_TEXT } else { SQUEEZED };
    match squeezed {
        Ok(squeezed) if squeezed.len() + 1 < body.len() || ours => [&[first], squeezed.as_slice()].concat(),
        // Without a compressor there is nothing to lose but room.
        _ => body.to_vec(),
    }
}

fn squeezed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    SQUEEZER.with_borrow_mut(|squeezer| match squeezer {
        Some(squeezer) => squeezer.compress(body),
        None => squeezer.insert(zstd::bulk::Compressor::new(LEVEL)?).compress(body),
    })
}

/// Unpacks what was packed by itself.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, NotPacked> {
    match packed.first() {
        Some(&SQUEEZED) => let_out(&packed[1..]),
        Some(&AFTER_TEXT) => Err(NotPacked("the text that it was packed after is needed".to_owned())),
        Some(byte) if *byte < OURS => Err(NotPacked(format!("nothing is packed as {byte}"))),
        _ => Ok(packed.to_vec()),
    }
}

/// Unpacks what may have been packed after a text.
pub fn unpack_with(packed: &[u8], after: &[u8]) -> Result<Vec<u8>, NotPacked> {
    match packed.first() {
        Some(&AFTER_TEXT) => out(zstd::stream::read::Decoder::with_dictionary(&packed[1..], after)),
        _ => unpack(packed),
    }
}

/// What says how large it is, as all that is packed here does, needs no guess and no decoder of its own.
fn let_out(squeezed: &[u8]) -> Result<Vec<u8>, NotPacked> {
    match zstd::zstd_safe::get_frame_content_size(squeezed) {
        Ok(Some(size)) if size <= MOST => {
            opened(squeezed, size as usize).map_err(|why| NotPacked(why.to_string()))
        }
        _ => out(zstd::stream::read::Decoder::new(squeezed)),
    }
}

fn opened(squeezed: &[u8], size: usize) -> std::io::Result<Vec<u8>> {
    OPENER.with_borrow_mut(|opener| match opener {
        Some(opener) => opener.decompress(squeezed, size),
        None => opener.insert(zstd::bulk::Decompressor::new()?).decompress(squeezed, size),
    })
}

fn out<R: std::io::BufRead>(
    decoder: std::io::Result<zstd::stream::read::Decoder<'_, R>>,
) -> Result<Vec<u8>, NotPacked> {
    let mut body = Vec::new();
    let read = decoder.and_then(|decoder| decoder.take(MOST + 1).read_to_end(&mut body));
    match read {
        Ok(_) if body.len() as u64 <= MOST => Ok(body),
        Ok(_) => Err(NotPacked(format!("it holds more than {MOST} bytes"))),
        Err(why) => Err(NotPacked(why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_as_it_was() {
        let long = "the same words again and again, ".repeat(50);
        for body in ["", "x", "{\"a\":1}", &long, "\u{1}\u{2}"] {
            assert_eq!(unpack(&pack(body.as_bytes(), None)).unwrap(), body.as_bytes());
            let after = pack(body.as_bytes(), Some(long.as_bytes()));
            assert_eq!(unpack_with(&after, long.as_bytes()).unwrap(), body.as_bytes());
        }
        assert!(pack(long.as_bytes(), None).len() < 100);
    }

    #[test]
    fn what_is_broken_or_too_large_is_refused() {
        assert!(unpack(&[1, 2, 3]).is_err());
        assert!(unpack(&[7]).unwrap_err().to_string().contains("packed as 7"));
        assert!(
            unpack(&pack(&vec![b'x'; (MOST + 1) as usize], None))
                .unwrap_err()
                .to_string()
                .contains("more than")
        );
    }
}
