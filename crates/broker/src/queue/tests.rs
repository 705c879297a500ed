//! A queue told in its nouns: events in, effects out. The fixture keeps what the queue stores in a real
//! store on a disk in memory, and answers reads and syncs when the test says so.

mod again;
mod disk;
mod fixture;
mod intake;
mod limits;
mod lives;
mod passing;
mod property;
mod turns;

use fixture::{Fixture, body, channel, dead_letters_to, number, persistent, transient};
