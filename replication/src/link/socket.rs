//! A connection that is read in large pieces.
//!
//! TLS asks for 4 KiB at a time. Each would be a call to the kernel, five for a record: what a link brings is taken in
//! advance, and TLS asks here.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// How much is read in advance, in bytes. With less the calls show in the profile, with more it leaves the cache before it is used.
const AHEAD_BYTES: usize = 128 * 1024;

/// A connection, and what was read of it in advance.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// Nothing while nobody has shown who they are: strangers cost no memory.
    ahead: Box<[u8]>,
    /// What of it is not taken yet begins and ends here.
    from: usize,
    to: usize,
}

impl Socket {
    /// Takes over a connection; nothing is read in advance.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, ahead: Box::default(), from: 0, to: 0 }
    }

    /// Has much read at once from now on.
    pub(super) fn read_ahead(&mut self) {
        if self.ahead.is_empty() {
            self.ahead = vec![0; AHEAD_BYTES].into();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, ahead, from, to } = self.get_mut();
        if from == to {
            if buf.remaining() >= ahead.len() {
                return Pin::new(stream).poll_read(context, buf);
            }
            let mut all = ReadBuf::new(ahead);
            ready!(Pin::new(stream).poll_read(context, &mut all))?;
            (*from, *to) = (0, all.filled().len());
        }
        let count = buf.remaining().min(*to - *from);
        buf.put_slice(&ahead[*from..*from + count]);
        *from += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// What was read in advance is given before anything newer, whoever asks for however much.
    #[tokio::test]
    async fn everything_comes_once_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent: Vec<u8> =
            (0..3 * AHEAD_BYTES + 7).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect();
        let bytes = sent.clone();
        let sending = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        });
        let mut socket = Socket::new(TcpStream::connect(address).await.unwrap());
        let mut got = vec![0; 10];
        socket.read_exact(&mut got).await.unwrap();
        socket.read_ahead();
        let mut sizes = [1, 4096, 17, 2 * AHEAD_BYTES].into_iter().cycle();
        loop {
            let mut piece = vec![0; sizes.next().unwrap()];
            let count = socket.read(&mut piece).await.unwrap();
            if count == 0 {
                break;
            }
            got.extend_from_slice(&piece[..count]);
        }
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
        sending.await.unwrap();
    }
}
