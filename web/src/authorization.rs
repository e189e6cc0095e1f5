//! The `Authorization` header: `Bearer` (RFC 6750) with the secret of a login. Passwords are taken at the login alone.

use axum::http::{HeaderMap, header};

use keepshare_auth::ResumeSecret;

/// Reads the secret; `None` where there is none that can be understood.
pub(crate) fn secret(headers: &HeaderMap) -> Option<ResumeSecret> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, value) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| ResumeSecret::parse(value.trim()))?
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(value: &str) -> Option<ResumeSecret> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        secret(&headers)
    }

    #[test]
    fn what_is_no_secret_of_a_login_is_none() {
        let long = format!("Bearer {}", "0f".repeat(2000));
        for wrong in ["", "Bearer", "Bearer abc", "Basic YW5uYTpw", "Digest x", &long] {
            assert!(read(wrong).is_none(), "{wrong} was taken");
        }
        let right = "0f".repeat(32);
        assert_eq!(read(&format!("bearer {right}")).unwrap().reveal(), right);
    }
}
