//! What OpenAI's API says on the wire: requests that are recognised and changed at named places only, answers that are
//! read whole or in parts. Bodies stay the bytes they are. Pure.

mod alias;
mod answer;
mod canonical;
mod endpoint;
mod ends;
mod events;
mod form;
mod packed;
mod place;
mod refused;
mod request;
mod splice;

pub use alias::second_key;
pub use answer::{Answer, CalledTool, read, read_message};
pub use canonical::{canonical, canonical_tool};
pub use endpoint::Endpoint;
pub use ends::End;
pub use events::{Event, Events, without_usage};
pub use form::{as_body, as_events};
pub use packed::{NotPacked, pack, unpack, unpack_with};
pub use place::{Bad, Place};
pub use refused::{Refused, refused};
pub use request::{Request, Wanted};
pub use splice::{append_instruction, ask_for_usage, hold_to_schema};
