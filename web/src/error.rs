//! Errors as HTTP tells them.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use keepshare_auth::{AccountError, LoginRefusal, ResumeRefusal};
use keepshare_control::{Code, Failure, login::NO_SET_HINT, router};

/// An error that a client is told.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    error: String,
    hint: Option<&'static str>,
    retry_after_s: Option<u32>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, error: impl ToString) -> Self {
        Self { status, error: error.to_string(), hint: None, retry_after_s: None }
    }

    pub(crate) fn bad_request(error: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// Nobody who may ask this.
    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "user name or password is wrong")
    }

    pub(crate) fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// What the station could not do; why is for its log.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = keepshare_base::chain(error), "the HTTPS door could not answer");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the station cannot do this now")
            .hint("its log says why")
    }
}

impl From<LoginRefusal> for ApiError {
    fn from(refusal: LoginRefusal) -> Self {
        match refusal {
            LoginRefusal::Wrong => Self::unauthorized(),
            LoginRefusal::TooSoon { retry_after_s } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, &refusal).retry_after(retry_after_s)
            }
            LoginRefusal::Busy => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, &refusal).retry_after(1)
            }
            LoginRefusal::NoSuchSet(_) => Self::new(StatusCode::NOT_FOUND, &refusal)
                .hint("ask the station's admin which sets there are for you"),
            LoginRefusal::WhichSet(ref sets) if sets.is_empty() => {
                Self::new(StatusCode::NOT_FOUND, &refusal).hint(NO_SET_HINT)
            }
            LoginRefusal::WhichSet(_) => Self::new(StatusCode::CONFLICT, &refusal),
            refusal => Self::internal(&refusal),
        }
    }
}

impl From<ResumeRefusal> for ApiError {
    fn from(refusal: ResumeRefusal) -> Self {
        match refusal {
            ResumeRefusal::Unknown => {
                Self::new(StatusCode::UNAUTHORIZED, &refusal).hint("log in and mount again")
            }
            refusal => Self::internal(&refusal),
        }
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        Self::internal(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = match self.status {
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::BAD_REQUEST | StatusCode::CONFLICT => Code::Usage,
            StatusCode::TOO_MANY_REQUESTS => Code::Unavailable,
            status if status.is_server_error() => Code::Unavailable,
            _ => Code::Refused,
        };
        let failure = Failure::new(code, self.error);
        let failure = match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        };
        let mut response = router::error(self.status, &failure);
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is nothing to choose, so it is not the question that was wrong.
    #[test]
    fn no_set_at_all_is_not_found_and_says_what_to_do() {
        let none = ApiError::from(LoginRefusal::WhichSet(Vec::new()));
        assert_eq!((none.status, none.hint), (StatusCode::NOT_FOUND, Some(NO_SET_HINT)));
        let sets = vec!["office".parse().unwrap(), "mail".parse().unwrap()];
        let many = ApiError::from(LoginRefusal::WhichSet(sets));
        assert_eq!((many.status, many.hint), (StatusCode::CONFLICT, None));
    }
}
