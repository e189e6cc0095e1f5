//! The other end of the door: what `keepshare login` does.
//!
//! A user's machine does not know the cluster's CA. It is seen for the first time with [`probe`], which tells its pin
//! and the station's name and says nothing to the station; only with both is a password sent.

use std::{io, sync::Arc, time::Duration};

use axum::http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig,
    pki_types::ServerName,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use keepshare_control::login::{
    ErrorAnswer, LoginAnswer, LoginQuestion, ResumeQuestion, SessionAnswer,
};
use keepshare_identity::tls::{self, SeenStation};

use crate::authorization::basic;

/// How long one question may take, the password's check included.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Why a station gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It cannot be reached.
    #[error("cannot reach {address}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not who it should be, or does not speak TLS.
    #[error("{address} is not the station that was expected")]
    Untrusted {
        /// Where it is.
        address: String,
        /// What the handshake said.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("{address} did not answer in time")]
    Timeout {
        /// Where it is.
        address: String,
    },
    /// The connection broke.
    #[error("the connection to the station broke")]
    Broken(#[from] hyper::Error),
    /// It answered in a way that is not understood.
    #[error("the station answered in a way that is not understood")]
    Nonsense,
    /// TLS itself.
    #[error("TLS cannot be used")]
    Tls(#[from] rustls::Error),
    /// It said no.
    #[error("{}", answer.error)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        answer: ErrorAnswer,
        /// After how many seconds it may be asked again, where it said so.
        retry_after_s: Option<u32>,
    },
}

/// Asks the door at `address` (`HOST:PORT`) for its certificate alone, and returns which station it names, and by which CA.
pub async fn probe(address: &str) -> Result<SeenStation, ClientError> {
    let (config, seen) = tls::probe_client(&clock())?;
    let probed = in_time(address, connect(address, config)).await;
    match (seen.station(), probed) {
        (Some(station), _) => Ok(station),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(ClientError::Nonsense),
    }
}

/// A station that is known.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    tls: Arc<ClientConfig>,
}

impl Client {
    /// Names the door at `address` (`HOST:PORT`), and the station that its certificate must be of.
    pub fn new(address: &str, station: &SeenStation) -> Result<Self, ClientError> {
        Ok(Self { address: address.to_owned(), tls: tls::web_client(station, &clock())? })
    }

    /// Logs in. An answer that is no answer to this question is [`ClientError::Nonsense`].
    pub async fn login(&self, question: &LoginQuestion) -> Result<LoginAnswer, ClientError> {
        let answer: LoginAnswer =
            self.ask(Method::POST, "/api/v1/login", None, Some(question)).await?;
        answer.checked(question).ok_or(ClientError::Nonsense)
    }

    /// Takes a mounted drive to another address.
    pub async fn resume(&self, question: &ResumeQuestion) -> Result<SessionAnswer, ClientError> {
        let path = "/api/v1/sessions/resume";
        let answer: SessionAnswer = self.ask(Method::POST, path, None, Some(question)).await?;
        answer.checked().ok_or(ClientError::Nonsense)
    }

    /// Lists the sessions of a user.
    pub async fn sessions(
        &self,
        user: &str,
        password: &str,
    ) -> Result<Vec<SessionAnswer>, ClientError> {
        let who = basic(user, password);
        let path = "/api/v1/sessions";
        let answers: Vec<SessionAnswer> =
            self.ask(Method::GET, path, Some(&who), None::<&()>).await?;
        let checked: Option<_> = answers.into_iter().map(SessionAnswer::checked).collect();
        checked.ok_or(ClientError::Nonsense)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        authorization: Option<&str>,
        question: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let body = question.map(serde_json::to_vec).transpose();
        let body = body.map_err(|_| ClientError::Nonsense)?.unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(body)).map_err(|_| ClientError::Nonsense)?;
        in_time(&self.address, self.exchange(request)).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<T, ClientError> {
        let stream = connect(&self.address, Arc::clone(&self.tls)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answered = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            Ok((parts, body.map_err(|_| ClientError::Nonsense)?.to_bytes()))
        };
        tokio::pin!(answered, connection);
        // The answer is what is waited for; the connection only carries it.
        let (parts, body) = tokio::select! {
            answered = &mut answered => answered,
            broken = &mut connection => match broken {
                Ok(()) => answered.await,
                Err(error) => Err(ClientError::Broken(error)),
            },
        }?;
        if parts.status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|_| ClientError::Nonsense);
        }
        let retry_after_s = parts.headers.get(header::RETRY_AFTER);
        let retry_after_s = retry_after_s.and_then(|value| value.to_str().ok()?.parse().ok());
        let answer = serde_json::from_slice(&body).map_err(|_| ClientError::Nonsense)?;
        Err(ClientError::Refused { status: parts.status.as_u16(), answer, retry_after_s })
    }
}

async fn connect(
    address: &str,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, ClientError> {
    let reached = TcpStream::connect(address).await;
    let stream = reached
        .map_err(|source| ClientError::Unreachable { address: address.to_owned(), source })?;
    // Who the station is its certificate says, and no name in the network.
    let name = ServerName::try_from("keepshare").map_err(|_| ClientError::Nonsense)?;
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|source| ClientError::Untrusted { address: address.to_owned(), source })
}

async fn in_time<T>(
    address: &str,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let timed_out = |_| ClientError::Timeout { address: address.to_owned() };
    timeout(ASK_TIMEOUT, work).await.map_err(timed_out)?
}

fn clock() -> Arc<dyn TimeProvider> {
    Arc::new(DefaultTimeProvider)
}
