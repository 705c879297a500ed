//! Assembly: whatever frames come, a body is never longer than announced, memory follows what has
//! come, and the short way for whole messages agrees with the long one.
//!
//! Input: an octet that chooses the largest message kept, then a stream of frames.

#![no_main]

use amqp::{Assembly, Method, PropertiesView, Step, split, whole_publish};
use libfuzzer_sys::fuzz_target;

const FRAME_MAX: u32 = 4096;

fuzz_target!(|data: &[u8]| {
    let [limit, stream @ ..] = data else { return };
    let message_bytes_max = u64::from(*limit);
    let mut assembly = Assembly::new(message_bytes_max);
    let (mut rest, mut come) = (stream, 0);
    while let Ok(Some((frame, used))) = split(rest, FRAME_MAX) {
        if assembly.is_idle() {
            check_short_way(rest);
        }
        come += frame.payload.len();
        match assembly.push(&frame) {
            Ok(Step::Pending) => assert!(!assembly.is_idle()),
            Ok(Step::Method(method)) => assert!(!method.has_content() && assembly.is_idle()),
            Ok(Step::Content(content)) => {
                assert!(content.method.has_content() && assembly.is_idle());
                assert!(content.body().len() as u64 <= message_bytes_max);
                let _ = PropertiesView::parse(content.properties());
            }
            Ok(Step::Oversized { method, body_size }) => {
                assert!(method.has_content() && body_size > message_bytes_max);
            }
            Err(error) => {
                assert!(matches!(error.code.value(), 501..=503 | 505), "{error}");
                return;
            }
        }
        assert!(assembly.buffered_bytes() <= 2 * come + 128 * 1024);
        rest = &rest[used..];
    }
});

/// What the short way takes, the long way must take too, and see the same in it.
fn check_short_way(stream: &[u8]) {
    let Some(whole) = whole_publish(stream, FRAME_MAX) else {
        return;
    };
    let mut assembly = Assembly::new(u64::MAX);
    let mut used = 0;
    loop {
        let (frame, frame_bytes) = split(&stream[used..], FRAME_MAX)
            .expect("well formed")
            .expect("whole");
        assert_eq!(frame.channel, whole.channel);
        used += frame_bytes;
        match assembly.push(&frame).expect("well formed") {
            Step::Pending => {}
            Step::Content(content) => {
                let Method::BasicPublish(publish) = &content.method else {
                    panic!()
                };
                assert_eq!(publish.exchange.as_bytes(), whole.publish.exchange);
                assert_eq!(publish.routing_key.as_bytes(), whole.publish.routing_key);
                assert_eq!(content.properties(), whole.header.properties);
                assert_eq!((content.body(), used), (whole.body, whole.used));
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}
