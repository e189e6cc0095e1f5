//! What can be asked: `/api/v1`.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::State,
    http::{HeaderValue, Request, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;

use keepshare_auth::{Bearer, Binding, LoginRequest, ResumeSecret};
use keepshare_control::{
    caller::{Caller, User},
    login::{LoginAnswer, LoginQuestion, ResumeQuestion, SessionAnswer},
    router::{self, Asked},
};

use crate::{
    authorization,
    error::ApiError,
    station::{From, Station},
};

/// The longest question of whoever is not logged in yet, in bytes.
const STRANGERS_BYTES_MAX: usize = 16 * 1024;

type Answer<T> = Result<T, ApiError>;

/// Returns what answers: logins, and `questions` to those who logged in. Each connection adds [`From`].
pub(crate) fn router(station: Arc<Station>, questions: Router) -> Router {
    Router::new()
        .route("/api/v1/login", post(login))
        .route("/api/v1/resume", post(resume))
        .with_state(Arc::clone(&station))
        .merge(questions.route_layer(from_fn_with_state(station, identify)))
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(from_fn(protect))
}

async fn login(
    State(station): State<Arc<Station>>,
    Extension(from): Extension<From>,
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
        any_set: asked.any_set,
        binding: Binding {
            address: asked.client_address.unwrap_or(from.address),
            uid: asked.client_uid,
            any_port: asked.any_port,
        },
    };
    let (ports, address) = (station.ports(), from.address);
    let done = blocking(&from, move || {
        let available = station.sets();
        station.accounts().login(&request, address, &available, station.now())
    });
    let login = done.await??;
    Ok(Json(LoginAnswer::new(&login, ports.map(|ports| (ports.nfs, ports.mount)))))
}

async fn resume(
    State(station): State<Arc<Station>>,
    Extension(from): Extension<From>,
    request: Request<Body>,
) -> Answer<Json<SessionAnswer>> {
    let asked: ResumeQuestion = read(request).await?;
    let secret = ResumeSecret::parse(&asked.resume_secret)
        .ok_or(ApiError::from(keepshare_auth::ResumeRefusal::Unknown))?;
    let address = asked.client_address.unwrap_or(from.address);
    let done = blocking(&from, move || {
        station.accounts().sessions().resume(&secret, address, station.now())
    });
    Ok(Json(done.await??.into()))
}

/// Tells whose secret came with a question, and gives it one of the user's turns.
async fn identify(
    State(station): State<Arc<Station>>,
    Extension(from): Extension<From>,
    mut request: Request<Body>,
    next: Next,
) -> Answer<Response> {
    let secret = authorization::secret(request.headers()).ok_or_else(|| {
        ApiError::new(StatusCode::UNAUTHORIZED, "nobody is logged in")
            .hint("send Authorization: Bearer with the resume_secret that a login gave")
    })?;
    let asked = Arc::clone(&station);
    let bearer = blocking(&from, move || asked.accounts().bearer(&secret, asked.now())).await??;
    let Some(Bearer { session, user }) = bearer else {
        let error = "the login has ended, or there is none with this secret";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, error).hint("log in again"));
    };
    let turn = station.turns().take(user.name.to_string()).ok_or_else(|| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too much is being asked at this moment")
            .retry_after(1)
    })?;
    let caller = Caller::User(User {
        principal: Arc::new(user.principal()),
        sets: user.sets,
        session,
        address: from.address,
    });
    let owed = from.pulse.work();
    let lasts = Arc::new(move || station.accounts().sessions().lives(session));
    let turn = Some(Arc::new((turn, owed)) as _);
    request.extensions_mut().insert(Asked { caller, turn, lasts: Some(lasts) });
    Ok(next.run(request).await)
}

async fn nothing() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

async fn other_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path is asked with another method")
}

/// Reads a question of whoever is not logged in yet.
async fn read<T: DeserializeOwned>(request: Request<Body>) -> Answer<T> {
    router::read(request, STRANGERS_BYTES_MAX)
        .await
        .map_err(|(status, failure)| ApiError::new(status, failure))
}

/// Runs what waits for the disk or works out a hash.
async fn blocking<T: Send + 'static>(
    from: &From,
    work: impl FnOnce() -> T + Send + 'static,
) -> Answer<T> {
    let owed = from.pulse.work();
    let done = spawn_blocking(work).await;
    // What took long was no silence of the client's, whose silence begins now.
    from.beat();
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
