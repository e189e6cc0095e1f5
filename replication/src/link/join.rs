//! Carrying the question and the answer by which a station joins a cluster or renews its certificate.
//!
//! One question and one answer over TLS, on the address that links use: a length and that many bytes, each way. What they
//! say, and who is let in, is decided elsewhere; here is what they may cost. See `docs/formats/link.md`.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::TlsStream;

use super::{HANDSHAKE_TIMEOUT, LinkError, Socket, dial::connect};

/// The longest question, in bytes.
pub const QUESTION_BYTES_MAX: u32 = 8 * 1024;

/// The longest answer, in bytes: two certificates and all members.
pub const ANSWER_BYTES_MAX: u32 = 256 * 1024;

/// How long the primary may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The connection, or the cluster at its other end.
    #[error("cannot reach the primary")]
    Link(#[from] LinkError),
    /// The connection broke in the middle, or a message is too long.
    #[error("the conversation with the primary failed")]
    Carry(#[from] CarryError),
    /// The primary took too long.
    #[error("the primary did not answer for {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
}

/// Why a message did not come or go.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarryError {
    /// The network.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// Too long, or of no length.
    #[error("a message of {0} bytes is not allowed")]
    Length(u32),
}

/// Asks the station at `address` (`HOST:PORT`) and waits for its answer.
///
/// Nothing is said to a station that `tls` does not accept.
pub async fn ask(
    address: &str,
    tls: Arc<ClientConfig>,
    question: &[u8],
) -> Result<Vec<u8>, AskError> {
    let mut stream = timeout(HANDSHAKE_TIMEOUT, connect(address, tls))
        .await
        .map_err(|_| LinkError::HandshakeTimeout)??;
    let answer = timeout(ANSWER_TIMEOUT, async {
        write(&mut stream, question).await?;
        read(&mut stream, ANSWER_BYTES_MAX).await
    });
    Ok(answer.await.map_err(|_| AskError::NoAnswer)??)
}

/// A question that waits for its answer.
#[derive(Debug)]
pub struct PendingJoin {
    /// Where it comes from.
    pub from: SocketAddr,
    /// The certificate that the asking end showed, verified; one that joins has none.
    pub certificate: Option<CertificateDer<'static>>,
    /// The question.
    pub question: Vec<u8>,
    stream: Box<TlsStream<Socket>>,
}

impl PendingJoin {
    /// Reads the question. The caller sets the deadline.
    pub(crate) async fn read(
        mut stream: TlsStream<Socket>,
        from: SocketAddr,
        certificate: Option<CertificateDer<'static>>,
    ) -> Result<Self, LinkError> {
        let question = read(&mut stream, QUESTION_BYTES_MAX).await?;
        Ok(Self { from, certificate, question, stream: Box::new(stream) })
    }

    /// Gives the answer and hangs up.
    pub async fn answer(mut self, answer: &[u8]) -> Result<(), CarryError> {
        let given = timeout(HANDSHAKE_TIMEOUT, async {
            write(&mut self.stream, answer).await?;
            Ok(self.stream.shutdown().await?)
        });
        given.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> Result<(), CarryError> {
    let length = u32::try_from(message.len()).map_err(|_| CarryError::Length(u32::MAX))?;
    stream.write_all(&[&length.to_le_bytes()[..], message].concat()).await?;
    Ok(stream.flush().await?)
}

async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: u32,
) -> Result<Vec<u8>, CarryError> {
    let length = stream.read_u32_le().await?;
    if !(1..=bytes_max).contains(&length) {
        return Err(CarryError::Length(length));
    }
    // Grows with what arrives, not with what was announced.
    let mut bytes = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 != u64::from(length) {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(bytes)
}
