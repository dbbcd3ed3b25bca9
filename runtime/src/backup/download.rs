//! An export of a running server, from outside: an HTTP request to its worker port.

use std::io;
use std::time::Duration;

use httparse::Status;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Address, Wanted};

/// Why a running server gives no export.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Nobody is there.
    #[error("can't connect to {host}:{port}: {error}")]
    Connect {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        error: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the server broke: {0}")]
    Broken(#[from] io::Error),
    /// Nothing comes any more.
    #[error("the server has sent nothing for {} s", PATIENCE.as_secs())]
    Silent,
    /// It is no Headwater, or none that knows exports.
    #[error("what answers is no Headwater with exports: {0}")]
    NoHeadwater(String),
    /// It says no.
    #[error("the server refuses with status {status}: {sentence}{hint}", hint = super::token_hint(*status))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says.
        sentence: String,
    },
    /// What came can't be put where it is to go.
    #[error("can't write the export: {0}")]
    Output(io::Error),
}

/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer's head may be, and how much of what a refusal says is shown.
const HEAD_BYTES: usize = 16 << 10;

/// Gets an export and gives it away piece by piece, as it comes.
pub async fn download(
    address: &Address,
    wanted: &Wanted,
    mut put: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), DownloadError> {
    let failed = |error| DownloadError::Connect { host: address.host.clone(), port: address.port, error };
    let connecting = timeout(PATIENCE, TcpStream::connect(address.lookup())).await;
    let mut stream = connecting.map_err(|_| DownloadError::Silent)?.map_err(failed)?;
    // With this version nobody between cuts the answer into chunks.
    let mut request = format!(
        "GET {} HTTP/1.0\r\nHost: {}:{}\r\nConnection: close\r\n",
        address.export_path(wanted),
        address.host,
        address.port
    );
    if let Some(authorization) = address.authorization() {
        request.extend(["Authorization: ", &authorization, "\r\n"]);
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;

    let mut bytes = Vec::new();
    let (status, body) = loop {
        let ended = read(&mut stream, &mut bytes).await? == 0;
        match head(&bytes)? {
            Some(head) => break head,
            None if ended || bytes.len() > HEAD_BYTES => {
                return Err(DownloadError::NoHeadwater("it has no answer".to_owned()));
            }
            None => {}
        }
    };
    bytes.drain(..body);
    if status != 200 {
        while bytes.len() < HEAD_BYTES && read(&mut stream, &mut bytes).await? > 0 {}
        let sentence = String::from_utf8_lossy(&bytes).trim().to_owned();
        return Err(DownloadError::Refused { status, sentence });
    }
    loop {
        put(&bytes).map_err(DownloadError::Output)?;
        bytes.clear();
        bytes.reserve(64 << 10);
        if read(&mut stream, &mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<usize, DownloadError> {
    Ok(timeout(PATIENCE, stream.read_buf(bytes)).await.map_err(|_| DownloadError::Silent)??)
}

/// The status of an answer, and where its body starts. `None` if its head goes on.
fn head(bytes: &[u8]) -> Result<Option<(u16, usize)>, DownloadError> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head.parse(bytes).map_err(|error| DownloadError::NoHeadwater(error.to_string()))?;
    let (Status::Complete(len), Some(status)) = (parsed, head.code) else { return Ok(None) };
    let lines = head.headers.iter().any(|field| {
        field.name.eq_ignore_ascii_case("content-type") && field.value.starts_with(b"application/x-ndjson")
    });
    match status {
        200 if !lines => Err(DownloadError::NoHeadwater("its answer is something else".to_owned())),
        _ => Ok(Some((status, len))),
    }
}
