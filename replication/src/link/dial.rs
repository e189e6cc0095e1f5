//! The dialling end of a link.

use std::sync::Arc;

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, TlsStream};

use keepshare_base::StationName;

use super::{
    Credentials, HANDSHAKE_TIMEOUT, Link, LinkError, LinkOptions, Socket, block::READY, open,
};

/// Makes a link to the station `expected` at `address` (`HOST:PORT`); any other station there is refused.
///
/// When this returns, both ends have accepted each other.
pub async fn dial(
    address: &str,
    expected: &StationName,
    credentials: &Arc<dyn Credentials>,
    options: LinkOptions,
) -> Result<Link, LinkError> {
    let config = credentials.link_client(expected)?;
    let ready = async {
        let mut stream = connect(address, config).await?;
        // In TLS 1.3 the dialling end is done before the other one has looked at its certificate.
        let mut first = READY;
        stream.read_exact(&mut first).await.map_err(LinkError::Handshake)?;
        if first == READY { Ok(stream) } else { Err(LinkError::Protocol) }
    };
    let stream =
        timeout(HANDSHAKE_TIMEOUT, ready).await.map_err(|_| LinkError::HandshakeTimeout)??;
    open(stream, credentials.clone(), options)
}

/// Connects to a station's port for asking it; `config` says which station is accepted there.
pub async fn dial_control(
    address: &str,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<Socket>, LinkError> {
    timeout(HANDSHAKE_TIMEOUT, connect(address, config))
        .await
        .map_err(|_| LinkError::HandshakeTimeout)?
}

/// Connects and verifies whoever answers. The caller sets the deadline.
pub(super) async fn connect(
    address: &str,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<Socket>, LinkError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // The same for all, and not sent: whoever answers is judged by the certificate's own words.
    let name = ServerName::try_from("station.keepshare").expect("a fixed and valid name");
    let connecting = TlsConnector::from(config).connect(name, Socket::new(stream));
    let stream = connecting.await.map_err(LinkError::Handshake)?;
    Ok(stream.into())
}
