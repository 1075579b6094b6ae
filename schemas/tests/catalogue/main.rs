//! What must hold for every record of the catalogue: the same bytes as apache-avro, samples that stay readable,
//! schemas that are never edited, hostile input that is only ever refused.

mod arbitrary;
mod contents;
mod format;
mod generator;
mod golden;
mod hostile;
mod oracle;
mod shipped;
mod successors;
