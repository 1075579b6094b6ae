//! `omium trim`: what was kept long enough is let go of now.

use clap::Args;
use serde_json::Value;

use super::connection::{Ask, Connection, Trouble};
use super::output::{document, print, table, text};
use super::{Act, End, Target};

/// Lets go of what ended longer ago than the server keeps it, which it does by itself every hour.
#[derive(Args, Debug)]
pub(crate) struct Trim {}

impl Act for Trim {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let done = Connection::new(target).ask("/api/v1/trim", Ask::Post(Value::Null), None).await?;
        if target.json {
            document(&done);
            return Ok(End::Done);
        }
        let parts = done["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let fields = ["partition", "dropped", "starts_at", "kept_because"];
        let rows: Vec<Vec<String>> =
            parts.iter().map(|part| fields.iter().map(|field| text(&part[*field])).collect()).collect();
        print(&table(&["PARTITION", "DROPPED", "STARTS AT", "KEPT BECAUSE"], &rows));
        print(&format!(
            "{} long values removed, {} bytes",
            text(&done["blobs_removed"]),
            text(&done["blob_bytes"])
        ));
        Ok(End::Done)
    }
}
