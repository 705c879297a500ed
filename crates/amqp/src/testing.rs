//! Random values and random damage for the tests of this crate, all from one seed.

use stdx::Rng;

use crate::field::{Table, Value};
use crate::method::Method;
use crate::properties::Properties;
use crate::short_str::ShortStr;

/// A value drawn at random.
pub(crate) trait Random: Sized {
    fn random(rng: &mut Rng) -> Self;
}

impl Random for bool {
    fn random(rng: &mut Rng) -> bool {
        rng.one_in(2)
    }
}

macro_rules! random_integers {
    ($($int:ident)*) => {$(
        impl Random for $int {
            #[expect(clippy::allow_attributes, reason = "not every width is cut")]
            fn random(rng: &mut Rng) -> $int {
                // Edges come often: they are where the mistakes are.
                match rng.below(4) {
                    0 => 0,
                    1 => $int::MAX,
                    _ => {
                        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
                        let cut = rng.next() as $int;
                        cut
                    }
                }
            }
        }
    )*};
}

random_integers! { u8 u16 u32 u64 i8 i16 i32 i64 }

impl Random for ShortStr {
    fn random(rng: &mut Rng) -> ShortStr {
        let len = match rng.below(8) {
            0 => 0,
            1 => 255,
            _ => rng.below(12),
        };
        let text: String = (0..len).map(|_| letter(rng)).collect();
        ShortStr::truncated(&text)
    }
}

fn letter(rng: &mut Rng) -> char {
    const LETTERS: [char; 8] = ['a', 'b', '.', '-', '\0', '\r', 'ä', '漢'];
    LETTERS[usize::try_from(rng.below(8)).expect("below 8")]
}

impl Random for Vec<u8> {
    fn random(rng: &mut Rng) -> Vec<u8> {
        let len = rng.below(20);
        (0..len).map(|_| u8::random(rng)).collect()
    }
}

impl Random for Table {
    fn random(rng: &mut Rng) -> Table {
        random_table(rng, 3)
    }
}

impl<T: Random> Random for Option<T> {
    fn random(rng: &mut Rng) -> Option<T> {
        rng.one_in(2).then(|| T::random(rng))
    }
}

fn random_table(rng: &mut Rng, levels: u32) -> Table {
    let len = rng.below(5);
    (0..len)
        .map(|_| (ShortStr::random(rng), random_value(rng, levels)))
        .collect()
}

/// Any kind of value; tables and arrays only while `levels` are left.
pub(crate) fn random_value(rng: &mut Rng, levels: u32) -> Value {
    match rng.below(if levels == 0 { 15 } else { 17 }) {
        0 => Value::Bool(Random::random(rng)),
        1 => Value::I8(Random::random(rng)),
        2 => Value::U8(Random::random(rng)),
        3 => Value::I16(Random::random(rng)),
        4 => Value::U16(Random::random(rng)),
        5 => Value::I32(Random::random(rng)),
        6 => Value::U32(Random::random(rng)),
        7 => Value::I64(Random::random(rng)),
        8 => Value::F32(f32::from(i16::random(rng)) / 8.0),
        9 => Value::F64(f64::from(i32::random(rng)) / 8.0),
        10 => Value::Decimal {
            scale: Random::random(rng),
            value: Random::random(rng),
        },
        11 => Value::LongStr(Random::random(rng)),
        12 => Value::Timestamp(Random::random(rng)),
        13 => Value::Void,
        14 => Value::Binary(Random::random(rng)),
        15 => Value::Table(random_table(rng, levels - 1)),
        _ => {
            let len = rng.below(4);
            Value::Array((0..len).map(|_| random_value(rng, levels - 1)).collect())
        }
    }
}

impl Random for Properties {
    fn random(rng: &mut Rng) -> Properties {
        Properties {
            content_type: Random::random(rng),
            content_encoding: Random::random(rng),
            headers: Random::random(rng),
            delivery_mode: Random::random(rng),
            priority: Random::random(rng),
            correlation_id: Random::random(rng),
            reply_to: Random::random(rng),
            expiration: Random::random(rng),
            message_id: Random::random(rng),
            timestamp: Random::random(rng),
            message_type: Random::random(rng),
            user_id: Random::random(rng),
            app_id: Random::random(rng),
            cluster_id: Random::random(rng),
        }
    }
}

/// The payload of a method frame.
pub(crate) fn payload(method: &Method) -> Vec<u8> {
    let mut out = Vec::new();
    method.encode(&mut out);
    out
}

/// Damages bytes the way a bad client might: bits flipped, cut, longer, a piece twice.
pub(crate) fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at =
        |rng: &mut Rng, len: usize| usize::try_from(rng.below(len as u64)).expect("below a length");
    for _ in 0..=rng.below(2) {
        let len = bytes.len();
        match rng.below(6) {
            0 if len > 0 => bytes.truncate(at(rng, len)),
            1 => bytes.push(u8::random(rng)),
            2 if len > 0 => {
                let place = at(rng, len);
                bytes.remove(place);
            }
            3 if len > 0 => bytes.insert(at(rng, len), u8::random(rng)),
            _ if len > 0 => {
                let place = at(rng, len);
                bytes[place] ^= 1 << rng.below(8);
            }
            _ => {}
        }
    }
}
