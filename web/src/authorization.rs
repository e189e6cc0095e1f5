//! The `Authorization` header: `Basic` with name and password (RFC 7617), or `Bearer` with the secret of a session.

use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};

use keepshare_auth::ResumeSecret;

/// The longest header that is looked at, in bytes.
const HEADER_BYTES_MAX: usize = 4096;

/// Who somebody says they are.
pub(crate) enum Credentials {
    /// A name and a password.
    Password(String, String),
    /// The secret of a session.
    Secret(ResumeSecret),
}

impl Credentials {
    /// Reads the header; `None` where there is none that can be understood.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        if header.len() > HEADER_BYTES_MAX {
            return None;
        }
        let (scheme, value) = header.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return ResumeSecret::parse(value.trim()).map(Self::Secret);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Self::Password(user.to_owned(), password.to_owned()))
    }
}

/// Returns the header of a name and a password.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(value: &str) -> Option<Credentials> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        Credentials::of(&headers)
    }

    #[test]
    fn passwords_may_hold_colons_and_any_letter() {
        let read = read(&basic("anna", "pass:wörd")).unwrap();
        let Credentials::Password(user, password) = read else { panic!("not a password") };
        assert_eq!((user.as_str(), password.as_str()), ("anna", "pass:wörd"));
    }

    #[test]
    fn what_is_no_authorization_is_none() {
        let long = format!("Basic {}", "QUFB".repeat(2000));
        for wrong in [
            "",
            "Basic",
            "Basic !",
            "Basic QUFB",
            "Bearer abc",
            "Digest x",
            "Basic gIA6gA==",
            &long,
        ] {
            assert!(read(wrong).is_none(), "{wrong} was taken");
        }
        assert!(matches!(
            read(&format!("bearer {}", "0f".repeat(32))),
            Some(Credentials::Secret(_))
        ));
    }
}
