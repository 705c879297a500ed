//! Nanoseconds per message on the paths that every message takes: reading a publish with header and
//! body, short way and long way, and writing a delivery with header and body.
//!
//! `cargo bench -p amqp` measures; as a test it runs each path once over a few messages and checks
//! what came out.

use std::hint::black_box;
use std::time::Instant;

use amqp::{
    Assembly, ContentHeader, Deliver, FrameKind, Properties, PropertiesView, Publish, ShortStr,
    Step, Table, split, whole_publish, write_body, write_content_header, write_deliver,
    write_publish,
};

const FRAME_MAX: u32 = 131_072;
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// A read buffer full of published messages.
struct Workload {
    name: String,
    buffer: Vec<u8>,
    messages: usize,
    body: Vec<u8>,
    properties: Vec<u8>,
}

impl Workload {
    fn new(body_bytes: usize, headers: usize) -> Workload {
        let mut table = Table::new();
        for i in 0..headers {
            table.insert(ShortStr::truncated(&format!("header-{i}")), "value");
        }
        let properties = Properties {
            delivery_mode: Some(2),
            headers: (headers > 0).then_some(table),
            ..Properties::default()
        }
        .to_bytes();
        let body = vec![b'x'; body_bytes];
        let publish = Publish {
            exchange: b"orders",
            routing_key: b"eu.new",
            ..Publish::default()
        };
        let (mut buffer, mut messages) = (Vec::new(), 0);
        while buffer.len() < READ_BUFFER_BYTES {
            write_publish(&mut buffer, 1, &publish);
            write_content_header(&mut buffer, 1, body.len() as u64, &properties);
            write_body(&mut buffer, 1, &body, FRAME_MAX);
            messages += 1;
        }
        let name = format!("{body_bytes:>5} B, {headers} headers");
        Workload {
            name,
            buffer,
            messages,
            body,
            properties,
        }
    }

    /// Reads every message in one pass each; the sum of the body sizes.
    fn read_short_way(&self) -> usize {
        let (mut rest, mut sum) = (&self.buffer[..], 0);
        while let Some(whole) = whole_publish(rest, FRAME_MAX) {
            let properties = PropertiesView::parse(whole.header.properties).expect("well formed");
            sum += whole.body.len() + usize::from(properties.delivery_mode() == Some(2));
            black_box((&whole, &properties));
            rest = &rest[whole.used..];
        }
        assert!(rest.is_empty());
        sum
    }

    /// Reads every message frame by frame, borrowed.
    fn read_by_frame(&self) -> usize {
        let (mut rest, mut sum) = (&self.buffer[..], 0);
        while let Some((frame, used)) = split(rest, FRAME_MAX).expect("well formed") {
            match frame.kind {
                FrameKind::Method => {
                    black_box(Publish::peek(frame.payload).expect("well formed"));
                }
                FrameKind::Header => {
                    let header = ContentHeader::parse(frame.payload).expect("well formed");
                    let view = PropertiesView::parse(header.properties).expect("well formed");
                    sum += usize::from(view.delivery_mode() == Some(2));
                    black_box((&header, &view));
                }
                FrameKind::Body => sum += black_box(frame.payload).len(),
                FrameKind::Heartbeat => {}
            }
            rest = &rest[used..];
        }
        sum
    }

    /// Reads every message into owned values.
    fn read_owned(&self) -> usize {
        let mut assembly = Assembly::new(u64::MAX);
        let (mut rest, mut sum) = (&self.buffer[..], 0);
        while let Some((frame, used)) = split(rest, FRAME_MAX).expect("well formed") {
            if let Step::Content(content) = assembly.push(&frame).expect("well formed") {
                let view = PropertiesView::parse(content.properties()).expect("well formed");
                sum += content.body().len() + usize::from(view.delivery_mode() == Some(2));
            }
            rest = &rest[used..];
        }
        sum
    }

    /// Writes every message as a delivery; the bytes written.
    fn write(&self, out: &mut Vec<u8>) -> usize {
        out.clear();
        for delivery_tag in 1..=self.messages as u64 {
            let deliver = Deliver {
                consumer_tag: b"amq.ctag-0123456789abcdefghij",
                delivery_tag,
                redelivered: false,
                exchange: b"orders",
                routing_key: b"eu.new",
            };
            write_deliver(out, 1, black_box(&deliver));
            write_content_header(out, 1, self.body.len() as u64, black_box(&self.properties));
            write_body(out, 1, black_box(&self.body), FRAME_MAX);
        }
        out.len()
    }
}

/// The best of `rounds`, in nanoseconds per message.
fn best(rounds: u32, messages: usize, mut pass: impl FnMut() -> usize) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        black_box(pass());
        best = best.min(start.elapsed().as_secs_f64() * 1e9);
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand messages")]
    let messages = messages as f64;
    best / messages
}

fn main() {
    let rounds = if std::env::args().any(|arg| arg == "--bench") {
        2_000
    } else {
        1
    };
    println!(
        "{:<22}{:>12}{:>12}{:>12}{:>12}",
        "ns per message", "short way", "by frame", "owned", "deliver"
    );
    for (body_bytes, headers) in [(16, 0), (16, 3), (1024, 0), (1024, 3)] {
        let work = Workload::new(body_bytes, headers);
        let expected = work.messages * (body_bytes + 1);
        assert_eq!(work.read_short_way(), expected);
        assert_eq!(work.read_by_frame(), expected);
        assert_eq!(work.read_owned(), expected);
        let mut out = Vec::new();
        assert!(work.write(&mut out) > work.messages * body_bytes);

        let short = best(rounds, work.messages, || work.read_short_way());
        let frame = best(rounds, work.messages, || work.read_by_frame());
        let owned = best(rounds, work.messages, || work.read_owned());
        let write = best(rounds, work.messages, || work.write(&mut out));
        println!(
            "{:<22}{short:>12.1}{frame:>12.1}{owned:>12.1}{write:>12.1}",
            work.name
        );
    }
}
