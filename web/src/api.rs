//! What can be asked: `/api/v1`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::{Body, to_bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::de::DeserializeOwned;
use tokio::{task::spawn_blocking, time::timeout};

use keepshare_auth::{Accounts, Binding, LoginRequest, ResumeSecret, SessionId, UserName};
use keepshare_control::login::{LoginAnswer, LoginQuestion, ResumeQuestion, SessionAnswer};

use crate::{
    authorization::Credentials,
    error::ApiError,
    station::{Caller, Station},
};

/// The longest question, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// How long a client may take to send its question.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

type Answer<T> = Result<T, ApiError>;

/// Returns what answers; each connection adds [`Caller`].
pub(crate) fn router(station: Arc<Station>) -> Router {
    Router::new()
        .route("/api/v1/login", post(login))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/sessions/resume", post(resume))
        .route("/api/v1/sessions/{id}", delete(revoke))
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(from_fn(protect))
        .with_state(station)
}

async fn login(
    State(station): State<Arc<Station>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Answer<Json<LoginAnswer>> {
    let asked: LoginQuestion = read(request).await?;
    if asked.shared == asked.client_uid.is_some() {
        return Err(ApiError::bad_request("say either client_uid or shared: true"));
    }
    if asked.shared && asked.any_port {
        return Err(ApiError::bad_request("a shared drive takes any port: leave any_port out"));
    }
    let set = asked.set.as_deref().map(str::parse).transpose();
    let request = LoginRequest {
        user: asked.user,
        password: asked.password,
        set: set.map_err(ApiError::bad_request)?,
        binding: Binding {
            address: asked.client_address.unwrap_or(caller.address),
            uid: asked.client_uid,
            any_port: asked.any_port,
        },
    };
    let (ports, address) = (station.ports(), caller.address);
    let done = blocking(&caller, move || {
        let available = station.sets();
        station.accounts().login(&request, address, &available, station.now())
    });
    let login = done.await??;
    Ok(Json(LoginAnswer::new(&login, ports.map(|ports| (ports.nfs, ports.mount)))))
}

async fn resume(
    State(station): State<Arc<Station>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Answer<Json<SessionAnswer>> {
    let asked: ResumeQuestion = read(request).await?;
    let secret = ResumeSecret::parse(&asked.resume_secret)
        .ok_or(ApiError::from(keepshare_auth::ResumeRefusal::Unknown))?;
    let address = asked.client_address.unwrap_or(caller.address);
    let done = blocking(&caller, move || {
        station.accounts().sessions().resume(&secret, address, station.now())
    });
    Ok(Json(done.await??.into()))
}

async fn sessions(
    State(station): State<Arc<Station>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Answer<Json<Vec<SessionAnswer>>> {
    let address = caller.address;
    let listed = blocking(&caller, move || {
        let user = identify(&station, &headers, address)?;
        Ok::<_, ApiError>(station.accounts().sessions().list_of(&user))
    });
    Ok(Json(listed.await??.into_iter().map(Into::into).collect()))
}

async fn revoke(
    State(station): State<Arc<Station>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    let address = caller.address;
    let done = blocking(&caller, move || {
        let user = identify(&station, &headers, address)?;
        let sessions = station.accounts().sessions();
        let id: Option<SessionId> = id.parse().ok();
        // Somebody else's session is answered like none.
        let own = sessions.list_of(&user).into_iter().find(|info| Some(info.id) == id);
        let Some(info) = own else { return Ok(false) };
        Ok::<_, ApiError>(sessions.revoke(info.id, station.now())?)
    });
    match done.await?? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::new(StatusCode::NOT_FOUND, "you have no such session")),
    }
}

/// Tells whose password or secret came with a question. Takes as long as a login.
fn identify(station: &Station, headers: &HeaderMap, from: IpAddr) -> Answer<UserName> {
    let (accounts, now): (&Accounts, _) = (station.accounts(), station.now());
    match Credentials::of(headers) {
        Some(Credentials::Password(user, password)) => {
            Ok(accounts.verify(&user, &password, from, now)?.name)
        }
        Some(Credentials::Secret(secret)) => {
            let session = accounts.sessions().with_secret(&secret, now);
            session.map(|session| session.user).ok_or_else(ApiError::unauthorized)
        }
        None => Err(ApiError::unauthorized().hint(
            "send Authorization: Basic with name and password, or Bearer with the resume_secret",
        )),
    }
}

async fn nothing() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

async fn other_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path is asked with another method")
}

/// Reads a JSON body, bounded in bytes and time.
async fn read<T: DeserializeOwned>(request: Request<Body>) -> Answer<T> {
    // A page of another site can send a form unasked, but no JSON.
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        let error = "only application/json is understood";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
    }
    let body = timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_BYTES_MAX)).await;
    let body = body
        .map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the question took too long"))?
        .map_err(|_| {
            let error = format!("a question has at most {BODY_BYTES_MAX} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error)
        })?;
    serde_json::from_slice(&body).map_err(|error| {
        // The parser's words may quote what was sent; where it is suffices.
        let (line, column) = (error.line(), error.column());
        ApiError::bad_request(format!("not understood at line {line}, column {column}"))
    })
}

/// Runs what waits for the disk or works out a hash.
async fn blocking<T: Send + 'static>(
    caller: &Caller,
    work: impl FnOnce() -> T + Send + 'static,
) -> Answer<T> {
    let owed = caller.pulse.work();
    let done = spawn_blocking(work).await;
    // What took long was no silence of the client's, whose silence begins now.
    caller.beat();
    drop(owed);
    done.map_err(|error| ApiError::internal(&error))
}

/// Adds what tells browsers to keep away from answers.
async fn protect(request: Request<Body>, next: Next) -> Response {
    let mut response = next.run(request).await.into_response();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
