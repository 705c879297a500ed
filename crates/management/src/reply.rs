//! A good answer, before it becomes bytes.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, HeaderName, HeaderValue, LOCATION};
use serde_json::Value as Json;

/// A status, a body and what else the answer needs.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// JSON.
    pub(crate) body: Option<String>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    fn new(status: StatusCode, body: Option<String>) -> Reply {
        Reply {
            status,
            body,
            headers: Vec::new(),
        }
    }

    /// 200 with a body.
    pub(crate) fn ok(body: Json) -> Reply {
        Reply::written(body.to_string())
    }

    /// 200 with a body that is JSON already.
    pub(crate) fn written(body: String) -> Reply {
        Reply::new(StatusCode::OK, Some(body))
    }

    /// 503 with the body of a failed health check.
    pub(crate) fn unhealthy(body: Json) -> Reply {
        Reply::new(StatusCode::SERVICE_UNAVAILABLE, Some(body.to_string()))
    }

    /// 201 without a body.
    pub(crate) fn created() -> Reply {
        Reply::new(StatusCode::CREATED, None)
    }

    /// 204: changed, deleted or nothing to do.
    pub(crate) fn no_content() -> Reply {
        Reply::new(StatusCode::NO_CONTENT, None)
    }

    /// 201 when something came into being, 204 when it was there.
    pub(crate) fn put(existed: bool) -> Reply {
        if existed {
            Reply::no_content()
        } else {
            Reply::created()
        }
    }

    /// 303 to where a browser's form wants to go on.
    pub(crate) fn see_other(location: &str) -> Reply {
        Reply::new(StatusCode::SEE_OTHER, None).with_header(LOCATION, location)
    }

    /// Says where the new thing is.
    pub(crate) fn at(self, location: &str) -> Reply {
        self.with_header(LOCATION, location)
    }

    /// Asks a browser to save the body under this name.
    pub(crate) fn with_file_name(self, name: &str) -> Reply {
        let name: String = name
            .chars()
            .filter(|c| !matches!(c, '"' | '\\' | '\r' | '\n'))
            .collect();
        self.with_header(
            CONTENT_DISPOSITION,
            &format!("attachment; filename=\"{name}\""),
        )
    }

    /// Adds a header; a value that is none (control characters) is left out.
    fn with_header(mut self, name: HeaderName, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}
