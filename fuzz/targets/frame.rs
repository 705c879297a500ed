//! Splitting: a stream gives the same frames, and the same error at the same place, however it is
//! cut into pieces, and nothing is claimed beyond what is there.
//!
//! Input: an octet that chooses the limit, an octet that chooses the pieces, the stream.

#![no_main]

use amqp::split;
use libfuzzer_sys::fuzz_target;

const LIMITS: [u32; 4] = [0, 1, 4096, 131_072];

/// What a stream is made of: kind, channel and payload of each frame, and the code of the error.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    frames: Vec<(u8, u16, Vec<u8>)>,
    error: Option<(u16, String)>,
}

impl Seen {
    /// Takes the frames at the front of `buf` out of it.
    fn take(&mut self, buf: &mut Vec<u8>, frame_max: u32) {
        let mut at = 0;
        while self.error.is_none() {
            match split(&buf[at..], frame_max) {
                Ok(None) => break,
                Ok(Some((frame, used))) => {
                    assert_eq!(used, frame.payload.len() + 8);
                    assert!(frame_max == 0 || frame.payload.len() <= frame_max as usize);
                    let payload = frame.payload.to_vec();
                    self.frames
                        .push((frame.kind.octet(), frame.channel, payload));
                    at += used;
                }
                Err(error) => {
                    assert!(matches!(error.code.value(), 501 | 505));
                    assert!(error.text.len() <= 255);
                    self.error = Some((error.code.value(), error.text));
                }
            }
        }
        buf.drain(..at);
    }
}

fuzz_target!(|data: &[u8]| {
    let [limit, step, stream @ ..] = data else {
        return;
    };
    let frame_max = LIMITS[usize::from(*limit) % LIMITS.len()];

    let mut whole = Seen::default();
    whole.take(&mut stream.to_vec(), frame_max);

    let (mut pieces, mut buf) = (Seen::default(), Vec::new());
    for piece in stream.chunks(usize::from(*step) + 1) {
        buf.extend_from_slice(piece);
        pieces.take(&mut buf, frame_max);
    }
    assert_eq!(whole, pieces);
});
