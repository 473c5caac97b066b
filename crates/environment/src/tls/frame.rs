//! Messages on the wire: each behind its length, 4 bytes, big-endian (`attestation.md` §10.5).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::TlsError;

/// Reads a message of at most `most` bytes. Memory grows with what comes, not with what is announced.
pub async fn read(stream: &mut (impl AsyncRead + Unpin), most: usize) -> Result<Vec<u8>, TlsError> {
    let got = stream.read_u32().await.map_err(TlsError::Closed)?;
    let length = usize::try_from(got).ok().filter(|length| *length <= most);
    let length = length.ok_or(TlsError::TooLong { most, got })?;
    let mut message = Vec::new();
    stream.take(got.into()).read_to_end(&mut message).await.map_err(TlsError::Closed)?;
    if message.len() < length {
        return Err(TlsError::Closed(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(message)
}

/// Writes messages, and sends them off.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), messages: &[&[u8]]) -> Result<(), TlsError> {
    for message in messages {
        let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::FileTooLarge.into());
        stream.write_u32(length.map_err(TlsError::Closed)?).await.map_err(TlsError::Closed)?;
        stream.write_all(message).await.map_err(TlsError::Closed)?;
    }
    stream.flush().await.map_err(TlsError::Closed)
}
