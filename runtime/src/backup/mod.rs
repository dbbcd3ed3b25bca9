//! Everything that is stored as lines of JSON, and back: `headwater export` and `headwater import`.
//!
//! An export is a snapshot: the state of all groups at one moment, taken of a running server without stopping it. Its last
//! line says how many items there are, so one that was cut off is noticed.

mod address;
mod contents;
mod download;
mod folder;
mod import;
mod lines;
mod serve;
mod tail;

pub use address::{Address, AddressError};
pub use contents::Wanted;
pub(crate) use contents::{CHUNKS, Contents, send};
pub use download::{DownloadError, download};
pub use folder::{FolderError, export_folder};
pub use import::{ImportError, Imported, import};
pub(crate) use serve::{Exports, is_export, serve};
pub use tail::{Tail, TailError};

/// What to do about a status of the worker port, where the server can't know it.
fn token_hint(status: u16) -> &'static str {
    match status {
        401 => " (these commands take it from HEADWATER_TOKEN or --token)",
        _ => "",
    }
}
