//! The other end of the door: what `keepshare login` does.
//!
//! A user's machine does not know the cluster's CA. It is seen for the first time with [`probe`], which tells its pin
//! and the station's name and says nothing to the station; only with both is a password sent.

use std::{io, sync::Arc, time::Duration};

use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use keepshare_auth::ResumeSecret;
use keepshare_control::{
    Code, Failure, Outcome,
    client::{Client, Dial, Dialling, Wire},
    login::{ErrorAnswer, LoginAnswer, LoginQuestion, ResumeQuestion, SessionAnswer},
};
use keepshare_identity::tls::{self, SeenStation};

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

impl ClientError {
    /// Returns it as commands tell it.
    pub fn failure(self) -> Failure {
        match &self {
            Self::Unreachable { .. } | Self::Timeout { .. } => {
                Failure::because(Code::Unavailable, self).hint(
                    "the station must run, and its https address in [doors] be reachable from here",
                )
            }
            Self::Untrusted { address, .. } => {
                let address = address.clone();
                let hint = Self::other_station(&address).hint.unwrap_or_default();
                Failure::because(Code::Refused, self).hint(hint)
            }
            Self::Broken(_) => Failure::because(Code::Unavailable, self).hint("try again"),
            Self::Refused { status, answer, retry_after_s } => {
                let code = match *status {
                    404 => Code::NotFound,
                    400 | 409 => Code::Usage,
                    429 | 500.. => Code::Unavailable,
                    _ => Code::Refused,
                };
                let failure = Failure::new(code, &answer.error);
                match (&answer.hint, retry_after_s) {
                    (_, Some(seconds)) => failure.hint(format!("try again in {seconds} s")),
                    (Some(hint), None) => failure.hint(hint),
                    (None, None) if *status == 409 => failure.hint("say which with --set"),
                    (None, None) => failure,
                }
            }
            _ => Failure::because(Code::Failed, self)
                .hint("is it a station of Keepshare, and of about the same age as this command?"),
        }
    }

    /// Says that another station is at an address.
    pub fn other_station(address: &str) -> Failure {
        Failure::refused(format!("{address} is not the station that was expected")).hint(
            "somebody may be in between; if the station was set up anew, give its new CA with --ca; if another one of its \
             cluster is there now, remove its line from ~/.config/keepshare/known_stations",
        )
    }
}

/// Asks the door at `address` (`HOST:PORT`) for its certificate alone, and returns which station it names, and by which CA.
pub async fn probe(address: &str) -> Result<SeenStation, ClientError> {
    let (config, seen) = tls::probe_client(&tls::machine_clock())?;
    let probed = in_time(address, connect(address, config)).await;
    match (seen.station(), probed) {
        (Some(station), _) => Ok(station),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(ClientError::Nonsense),
    }
}

/// A station that is known.
#[derive(Clone, Debug)]
pub struct LoginClient {
    address: String,
    tls: Arc<ClientConfig>,
}

impl LoginClient {
    /// Names the door at `address` (`HOST:PORT`), and the station that its certificate must be of.
    pub fn new(address: &str, station: &SeenStation) -> Result<Self, ClientError> {
        Ok(Self {
            address: address.to_owned(),
            tls: tls::web_client(station, &tls::machine_clock())?,
        })
    }

    /// Logs in. An answer that is no answer to this question is [`ClientError::Nonsense`].
    pub async fn login(&self, question: &LoginQuestion) -> Result<LoginAnswer, ClientError> {
        let answer: LoginAnswer = self.ask("/api/v1/login", question).await?;
        answer.checked(question).ok_or(ClientError::Nonsense)
    }

    /// Takes a mounted drive to another address.
    pub async fn resume(&self, question: &ResumeQuestion) -> Result<SessionAnswer, ClientError> {
        let answer: SessionAnswer = self.ask("/api/v1/resume", question).await?;
        answer.checked().ok_or(ClientError::Nonsense)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(question).map_err(|_| ClientError::Nonsense)?;
        let request = Request::post(path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json");
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

/// Reaches a station's door with the secret of a login.
struct WithSecret {
    address: String,
    tls: Arc<ClientConfig>,
    secret: String,
}

impl LoginClient {
    /// Returns what asks the station as whoever logged in with this secret.
    pub fn with_secret(self, secret: &ResumeSecret) -> Outcome<Client> {
        let Self { address, tls } = self;
        Client::new(WithSecret { address, tls, secret: secret.reveal() })
    }
}

impl Dial for WithSecret {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async {
            let connecting = connect(&self.address, Arc::clone(&self.tls));
            let stream = in_time(&self.address, connecting).await.map_err(ClientError::failure)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }

    fn host(&self) -> &str {
        &self.address
    }

    fn bearer(&self) -> Option<&str> {
        Some(&self.secret)
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
