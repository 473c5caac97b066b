//! The stream of an attested connection, for as long as its attestation counts (`attestation.md` §10.7).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::TlsStream;

/// Bytes of the application, to and from a side that was accepted. Once its time is over, reads and writes fail with
/// [`ReattestationDue`], also those that wait.
pub struct AttestedStream<IO> {
    stream: TlsStream<IO>,
    life: Option<Life>,
}

struct Life {
    after: Duration,
    /// A timer for each direction: a timer wakes one waiter, and each direction may have its own.
    read: Pin<Box<Sleep>>,
    write: Pin<Box<Sleep>>,
}

/// The connection's time is over: a new one attests anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attested more than {after:?} ago: connect anew")]
pub struct ReattestationDue {
    /// How long a connection lives.
    pub after: Duration,
}

impl ReattestationDue {
    /// Whether this is why a read or a write failed.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl<IO> AttestedStream<IO> {
    pub(super) fn new(stream: TlsStream<IO>, life: Option<Duration>) -> Self {
        let life =
            life.map(|after| Life { after, read: Box::pin(sleep(after)), write: Box::pin(sleep(after)) });
        Self { stream, life }
    }

    /// When its time is over; `None` if this side did not judge the other one.
    pub fn deadline(&self) -> Option<Instant> {
        self.life.as_ref().map(|life| life.read.deadline())
    }

    fn check(
        &mut self,
        which: fn(&mut Life) -> &mut Pin<Box<Sleep>>,
        context: &mut Context<'_>,
    ) -> io::Result<()> {
        let Some(life) = &mut self.life else { return Ok(()) };
        let sleep = which(life);
        // The timer alone may be late to say so; polled, it wakes whoever waits.
        if Instant::now() >= sleep.deadline() || sleep.as_mut().poll(context).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, ReattestationDue { after: life.after }));
        }
        Ok(())
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for AttestedStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(|life| &mut life.read, context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for AttestedStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(|life| &mut life.write, context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(|life| &mut life.write, context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(|life| &mut life.write, context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Ends the connection; that may be done at any time.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
