//! The vocabulary of Omium: Avro schemas, ids, positions, money and the codec of frames and blocks. Pure.

pub mod avro;
pub mod block;
pub mod catalogue;
pub mod confluent;
pub mod content;
pub mod digest;
pub mod filter;
pub mod frame;
pub mod ids;
pub mod money;
pub mod mutant;
pub mod position;

pub use avro::{Avro, DecodeError, EncodeError, Reader};
pub use block::{Block, BlockBuilder, BlockError, BlockHead, BlockKind, ClosedBlock, MAX_BLOCK};
pub use catalogue::{Command, Event, Origin, RecordKind, SCHEMAS, Schema, schema};
pub use content::{BlobId, BlobRef, Content, Kept, KeyId, Moved};
pub use digest::Digest;
pub use filter::{Filter, Ignored, Verdict};
pub use frame::{Frame, FrameBuilder, FrameHead, MAX_FRAME, RecordRef, TraceContext, TypeId};
pub use ids::{CheckpointId, ExecutionId, Label, StepId, StreamId, StreamKind, TenantId};
pub use money::{Money, Price};
pub use position::{BlockNo, Branch, Epoch, Offset, Partition, Seq, Time, taking};
