//! What the standard library lacks and every layer needs. Knows nothing of messaging.
//!
//! Rule of entry: std could plausibly contain it.

mod lookup;
mod rng;
mod time;

pub use lookup::{Lookup, LookupSet};
pub use rng::Rng;
pub use time::Time;
