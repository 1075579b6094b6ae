//! What others wrote, within bounds: fuel, depth and bytes. All of it is counted, never timed, so the same text costs the
//! same everywhere. Pure, and below all other crates.

mod fuel;
pub mod json;
mod pattern;
mod room;
pub mod schema;
mod told;
mod typed;

pub use fuel::{Fuel, Spent};
pub use json::Limits;
pub use pattern::Pattern;
pub use room::{Room, TooLarge};
pub use schema::Schema;
pub use told::{NAME, clipped, clipped_bytes, told};
